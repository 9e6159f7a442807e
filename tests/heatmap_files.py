"""Write receipts and stores of `explain` and `tile`, and read exports of heatmaps with other libraries."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from shapely.geometry import shape

from wsi_mil.geometry import Mpp, footprint, rounded
from wsi_mil.receipts import store_path, write_receipt
from wsi_mil.records import InstanceScores, TileGrid
from wsi_mil.store import write_grid, write_scores
from wsi_mil.tasks import Classes

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@dataclass
class Made:
    """A synthetic slide with scores of one method; `coords` and `values` belong to its tiles."""

    coords: np.ndarray
    values: np.ndarray
    dimensions: tuple[int, int] = (640, 448)
    tile_px: int = 64
    overlap: int = 0
    tile_mpp: float = 0.5
    mpp: tuple[float, float] = (0.5, 0.5)
    bounds: tuple[int, int, int, int] | None = None
    slide_id: str = "s"
    method: str = "evidence"
    unit: str = "log_odds"
    comparable: bool = True
    zero: float = 0.0
    reason: str = ""
    prob: float = 0.9
    slide_hash: str = "b"
    tiles: dict = field(default_factory=dict)

    @property
    def box(self) -> tuple[int, int]:
        return rounded(footprint((self.tile_px, self.tile_px), target_mpp=self.tile_mpp, slide_mpp=Mpp(*self.mpp)))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write stores and receipts of `explain` and `tile`; return the paths of the receipts."""
        scores, tiles = folder / "scores" / f"{self.slide_id}.json", folder / "tiles" / f"{self.slide_id}.json"
        grid = TileGrid(self.coords, np.ones(len(self.coords), np.float32), self.tile_px, self.box)
        side = 320 / max(self.dimensions)
        shape = (round(self.dimensions[1] * side), round(self.dimensions[0] * side), 3)
        write_grid(store_path(tiles), grid, np.full(shape, 255, np.uint8), {"dimensions": list(self.dimensions)})
        write_receipt(tiles, self.tile_receipt())
        method = InstanceScores(self.method, self.values.astype(np.float32), "", self.unit, False, self.comparable, self.zero)
        write_scores(store_path(scores), self.coords, [method], {})
        write_receipt(scores, self.scores_receipt())
        return scores, tiles

    def tile_receipt(self) -> dict:
        tiling = {"mpp": self.tile_mpp, "tile_px": self.tile_px, "overlap": self.overlap}
        content = {"slide_id": self.slide_id, "coords_digest": "a", "slide_hash": self.slide_hash, "reader": "auto"}
        content |= {"dimensions": self.dimensions, "mpp": self.mpp, "tile_px_level0": self.box, "bounds": self.bounds}
        return {**content, "settings": {"tiling": tiling}, **self.tiles}

    def scores_receipt(self) -> dict:
        method = {
            "unit": self.unit,
            "kind": "",
            "comparable": False,
            "comparable_weighed": self.comparable,
            "zero": self.zero,
            "reason": self.reason,
            "output": 1,
        }
        receipt = {"slide_id": self.slide_id, "tiles": {"coords_digest": "a", "slide_hash": self.slide_hash}}
        receipt |= {"probs": [1 - self.prob, self.prob], "threshold": 0.5, "predicted": int(self.prob >= 0.5), "output": 1}
        receipt |= {
            **Classes(("normal", "tumour")).stamp(),
            "protocol": "held_out",
            "role": "test",
            "bag_instances": len(self.coords),
        }
        return {**receipt, "methods": {self.method: method}}


def csv_hottest(image: Path) -> tuple[int, int]:
    """Return the corner (x, y) of the row of the table with the highest score."""
    with image.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["score"]))
    return int(best["x"]), int(best["y"])


def features(image: Path, kind: str) -> list[dict]:
    """Return the GeoJSON features of an objectType."""
    content = json.loads(image.with_suffix(".geojson").read_text())
    return [f for f in content["features"] if f["properties"]["objectType"] == kind]


def geojson_hottest(image: Path, method: str = "evidence") -> tuple[float, float, float, float]:
    """Return the bounds (left, top, right, bottom) of the tile with the highest score."""
    best = max(features(image, "tile"), key=lambda f: f["properties"]["measurements"][method])
    return shape(best["geometry"]).bounds


def ome_hottest(image: Path, mpp: tuple[float, float]) -> tuple[int, int]:
    """Return the corner (x, y) of the brightest pixel, from the exact stride; check it against the physical size."""
    with tifffile.TiffFile(image.with_suffix(".ome.tif")) as tif:
        assert tif.is_ome
        raster, xml = tif.series[0].levels[0].asarray(), tif.ome_metadata
    row, column = np.unravel_index(np.nanargmax(raster), raster.shape)
    root = ElementTree.fromstring(xml)
    description = json.loads(root.find(f".//{OME}Description").text)
    pixels = root.find(f".//{OME}Pixels")
    cell = np.array([column, row])
    corner = np.rint(cell * description["stride_level0"] + description["origin_level0"])
    for number, axis, axis_mpp, level0 in zip(cell, "XY", mpp, corner, strict=True):
        assert pixels.get(f"PhysicalSize{axis}Unit") == "µm"
        assert abs(number * float(pixels.get(f"PhysicalSize{axis}")) / axis_mpp - level0) <= 0.51
    return int(corner[0]), int(corner[1])


SCN = """<?xml version="1.0" encoding="utf-8"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">
<collection name="c" uuid="urn:uuid:1" sizeX="{sizes[0]}" sizeY="{sizes[1]}">
<barcode></barcode>
{images}</collection></scn>"""

SCN_IMAGE = """<image name="{name}" uuid="urn:uuid:{name}">
<creationDate>2020-01-01T00:00:00.00Z</creationDate><device model="Leica SCN400" version="1"/>
<pixels sizeX="{px[0]}" sizeY="{px[1]}">{dimensions}</pixels>
<view sizeX="{nm[0]}" sizeY="{nm[1]}" offsetX="{at[0]}" offsetY="{at[1]}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>
</image>
"""


JPEG = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
HALF_MICRON = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}


def write_scn(path: Path, image: np.ndarray, *, corner: tuple[int, int], dimensions: tuple[int, int]) -> Path:
    """Write a Leica SCN at 0.5 µm per pixel, with `image` at `corner` (x, y) of a level 0 of `dimensions`."""
    height, width = image.shape[:2]
    sizes, nm, at = (tuple(500 * n for n in pair) for pair in (dimensions, (width, height), corner))
    macro = np.full((dimensions[1] // 16, dimensions[0] // 16, 3), 243, np.uint8)
    levels = [macro, image, image[::4, ::4].copy()]

    def dimension(level: int, number: int) -> str:
        rows, columns = levels[number].shape[:2]
        return f'<dimension sizeX="{columns}" sizeY="{rows}" r="{level}" ifd="{number}"/>'

    def described(name: str, px: tuple[int, int], pyramid: str, nm: tuple, at: tuple) -> str:
        return SCN_IMAGE.format(name=name, px=px, dimensions=pyramid, nm=nm, at=at)

    images = described("macro", macro.shape[1::-1], dimension(0, 0), sizes, (0, 0))
    images += described("main", (width, height), dimension(0, 1) + dimension(1, 2), nm, at)
    xml = SCN.format(sizes=sizes, images=images)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for number, level in enumerate(levels):
            text = xml if number == 0 else None
            tif.write(level, tile=(64, 64), description=text, **JPEG, **HALF_MICRON)
    return path
