"""Create the demo cohort: Aperio slides with known lesions, their annotations, and the sheet."""

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.demo.outlines import Ring
from wsi_mil.demo.synthesis import Pixels, Texture, stained, synthetic_slide
from wsi_mil.demo.texture import is_cmu_slide, read_texture, texture_path

log = logging.getLogger(__name__)

COLUMNS = ("slide_id", "path", "patient_id", "label", "annotation")
POSITIVE, NEGATIVE = "tumour", "normal"
CMU_SLIDE_ID, CMU_PATIENT_ID = "CMU-1-Small-Region", "CMU-1"

SIDE_PX = (4000, 6000)
MIN_SIDE_DIFFERENCE_PX = 250
PATIENT_STAIN = 0.1
"""Largest change of a channel's optical density between patients: about 4 % of the mean grey level."""
SLIDES_PER_PAIR = 4
"""One in this many slides is the second slide of its patient."""

MPP, APP_MAG = 0.5, 20
DOWNSAMPLES = (4, 16)
TILE_PX = 240
JPEG_QUALITY = 80
STRIP_PX = 16


@dataclass(frozen=True)
class PlannedSlide:
    """Plan of a synthetic slide.

    Attributes:
        slide_id: key of the slide.
        patient_id: key of its patient.
        has_lesion: label.
        stain: the patient's optical density (red, green, blue) relative to the texture.
        seed: seed of its random numbers.
    """

    slide_id: str
    patient_id: str
    has_lesion: bool
    stain: tuple[float, float, float]
    seed: tuple[int, int]

    @property
    def label(self) -> str:
        """Class name in the sheet."""
        return POSITIVE if self.has_lesion else NEGATIVE


def create_demo_cohort(out: Path, *, n_slides: int = 24, seed: int = 0, texture: Path | None = None, processes: int = 1) -> Path:
    """Write synthetic slides, half of them with lesions, and the real slide that their texture is from.

    Writes slides/*.svs, truth/*.geojson (level-0 pixels, (x, y)) and, last, cohort.csv. Existing files are
    replaced; there is no sheet until all slides are written. The same arguments give identical files.

    Args:
        out: output folder.
        n_slides: number of synthetic slides, at least 2.
        seed: random seed, not negative.
        texture: an H&E slide used as texture; by default the CMU slide, downloaded if needed. Only in that case
            the real slide is part of the cohort, as the last row and without a label.
        processes: number of processes that write slides; more than one start anew and import the main program's module.

    Returns:
        Path of the sheet.

    Raises:
        DataError: the texture cannot be downloaded or used.
        ValueError: fewer than 2 slides.
    """
    plan = cohort_plan(n_slides, seed=seed)
    source = texture_path(texture)
    pieces = read_texture(source)
    sheet = out / "cohort.csv"
    for folder in ("slides", "truth"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    sheet.unlink(missing_ok=True)
    rows = list(_write_all(out, plan, pieces, processes))
    if is_cmu_slide(source):
        rows.append(_copy_real_slide(out, source))
    _write_whole(sheet, lambda aside: _write_sheet(aside, rows))
    return sheet


def cohort_plan(n_slides: int, *, seed: int) -> list[PlannedSlide]:
    """Draw labels, patients and stains, in the order of the sheet.

    Half of the slides have a lesion (the smaller half of an odd number). A quarter of the slides of each
    label are the second slide of their patient. Both labels have the same mean stain, so that it does not
    reveal the label.

    Raises:
        ValueError: fewer than 2 slides: one label would be missing.
    """
    if n_slides < 2:
        raise ValueError(f"a cohort needs at least 2 slides, one of each label; got {n_slides}")
    rng = np.random.default_rng(seed)
    patients = [patient for is_positive in (False, True) for patient in _patients(n_slides, is_positive, rng)]
    names: dict[object, str] = {}
    plan = []
    for number, index in enumerate(rng.permutation(n_slides)):
        patient = patients[index]
        patient_id = names.setdefault(patient, f"patient_{len(names) + 1:02d}")
        plan.append(PlannedSlide(f"demo_{number + 1:02d}", patient_id, patient.has_lesion, patient.stain, (seed, number)))
    return plan


@dataclass(frozen=True)
class _Patient:
    has_lesion: bool
    number: int
    stain: tuple[float, float, float]


def _patients(n_slides: int, has_lesion: bool, rng: np.random.Generator) -> list[_Patient]:
    """Patient of each slide of one label."""
    n_of_label = n_slides // 2 if has_lesion else n_slides - n_slides // 2
    n_second = n_of_label // SLIDES_PER_PAIR
    stain = rng.uniform(-PATIENT_STAIN, PATIENT_STAIN, (n_of_label - n_second, 3))
    red, green, blue = (1 + stain - stain.mean(axis=0)).T.tolist()
    patients = [_Patient(has_lesion, i, (red[i], green[i], blue[i])) for i in range(len(stain))]
    return patients + patients[:n_second]


def _write_all(out: Path, plan: list[PlannedSlide], texture: Texture, processes: int) -> Iterator[dict[str, str]]:
    """Write all slides, and yield their rows of the sheet in order."""
    _keep_texture(texture)
    work = partial(_write_with_kept, out)
    if processes == 1:
        yield from _logged(map(work, plan))
        return
    with ProcessPoolExecutor(min(processes, len(plan)), get_context("spawn"), _keep_texture, (texture,)) as pool:
        yield from _logged(pool.map(work, plan))


def _logged(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    for row in rows:
        log.info("%s: %s", row["slide_id"], row["label"])
        yield row


_kept_texture: Texture | None = None
"""Texture that a process makes its slides of: it is sent once, not with every slide."""


def _keep_texture(texture: Texture) -> None:
    global _kept_texture
    _kept_texture = texture


def _write_with_kept(out: Path, planned: PlannedSlide) -> dict[str, str]:
    assert _kept_texture is not None
    return _write_planned(out, planned, _kept_texture)


def _write_planned(out: Path, planned: PlannedSlide, texture: Texture) -> dict[str, str]:
    """Write one slide and its annotation, and return its row of the sheet."""
    rng = np.random.default_rng([*planned.seed, 1])
    patient_texture = stained(texture, np.array(planned.stain))
    slide = synthetic_slide(patient_texture, _dimensions(rng), has_lesion=planned.has_lesion, rng=rng)
    path, truth = f"slides/{planned.slide_id}.svs", f"truth/{planned.slide_id}.geojson"
    _write_whole(out / path, lambda aside: write_aperio(aside, slide.image))
    _write_whole(out / truth, lambda aside: write_truth(aside, slide.lesions))
    annotation = truth if planned.has_lesion else ""
    fields = (planned.slide_id, path, planned.patient_id, planned.label, annotation)
    return dict(zip(COLUMNS, fields, strict=True))


def _dimensions(rng: np.random.Generator) -> tuple[int, int]:
    """A random (width, height), clearly not square."""
    while True:
        width, height = rng.integers(SIDE_PX[0], SIDE_PX[1] + 1, 2).tolist()
        if abs(width - height) >= MIN_SIDE_DIFFERENCE_PX:
            return width, height


def _copy_real_slide(out: Path, source: Path) -> dict[str, str]:
    path = f"slides/{CMU_SLIDE_ID}.svs"
    _write_whole(out / path, lambda aside: shutil.copyfile(source, aside))
    return dict(zip(COLUMNS, (CMU_SLIDE_ID, path, CMU_PATIENT_ID, "", ""), strict=True))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: to a temporary name, then rename it."""
    aside = path.with_name(f".{path.name}.part")
    write(aside)
    aside.replace(path)


def _write_sheet(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_truth(path: Path, lesions: tuple[Ring, ...]) -> None:
    """Write lesions as GeoJSON polygons, level-0 pixels, (x, y); without lesions an empty collection."""
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": POSITIVE}},
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring).tolist()]},
        }
        for ring in lesions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}) + "\n", encoding="utf-8")


def _closed(ring: Ring) -> NDArray[np.float64]:
    return np.vstack([ring, ring[:1]])


def write_aperio(path: Path, image: Pixels) -> None:
    """Write a pyramid in the layout of Aperio scanners: full size, thumbnail, smaller levels, all in JPEG.

    Args:
        path: file to write, with any suffix.
        image: [height, width, 3], `MPP` µm per pixel.
    """
    height, width = image.shape[:2]
    whole = f"Aperio Image Library v12.0.15\r\n{width}x{height} [0,0 {width}x{height}] ({TILE_PX}x{TILE_PX})"
    text = f"{whole} JPEG/RGB Q={JPEG_QUALITY}|AppMag = {APP_MAG}|MPP = {MPP:.4f}"
    levels = [_reduced(image, downsample) for downsample in DOWNSAMPLES]
    with tifffile.TiffWriter(path) as tiff:
        _write_page(tiff, image, text)
        _write_page(tiff, levels[-1], text, is_tiled=False)
        for level in levels:
            _write_page(tiff, level, text)


def _reduced(image: Pixels, downsample: int) -> Pixels:
    """Means of squares; incomplete squares at the right and bottom edge are dropped, as in Aperio files."""
    height, width = (side // downsample * downsample for side in image.shape[:2])
    return np.asarray(Image.fromarray(image[:height, :width]).reduce(downsample))


def _write_page(tiff: tifffile.TiffWriter, image: Pixels, text: str, *, is_tiled: bool = True) -> None:
    tiff.write(
        _tiles(image) if is_tiled else image,
        shape=image.shape,
        dtype=image.dtype,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": JPEG_QUALITY},
        tile=(TILE_PX, TILE_PX) if is_tiled else None,
        rowsperstrip=None if is_tiled else STRIP_PX,
        description=text,
        metadata=None,
        software=False,
    )


def _tiles(image: Pixels) -> Iterator[Pixels]:
    """Full tiles, row by row; the edge is padded with its own pixels, since JPEG blurs a black margin into the slide."""
    for y in range(0, image.shape[0], TILE_PX):
        for x in range(0, image.shape[1], TILE_PX):
            tile = image[y : y + TILE_PX, x : x + TILE_PX]
            missing = [(0, TILE_PX - side) for side in tile.shape[:2]]
            yield np.pad(tile, (*missing, (0, 0)), mode="edge")
