"""Contact sheet of all tissue masks, to spot bad ones at a glance."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_mil.annotations import TISSUE_CLASS, Frame, read_annotation, rings
from wsi_mil.config import Config, Truth
from wsi_mil.errors import AnnotationError
from wsi_mil.receipts import IMPORTED, read_receipt, read_tile_receipt
from wsi_mil.records import SlideRow
from wsi_mil.report.pictures import jpeg_url, read_smaller
from wsi_mil.results import Results

log = logging.getLogger(__name__)

SIDE_PX, LEAST_SIDE_PX, QUALITY = 180, 60, 75
MAX_FULL_SIZE = 250
"""Number of images above which all are reduced, so that together they need no more space."""

OUTLINE_COLOUR, OUTLINE_PX = (0, 170, 60), 2
REMARK_CHARS = 60


@dataclass(frozen=True)
class MaskPicture:
    """Tissue mask of one slide and tiling.

    Attributes:
        slide_id: slide_id of the slide.
        tiling: name of the tiling.
        url: data URL of the slide with the outline of the tissue, "" without an image.
        size: (width, height) of the image in pixels.
        tissue_share: share of the slide's area that is tissue, 0 to 1; None if `tile` failed.
        cut_area_um2: area excluded by `tissue.exclude_classes`.
        mask: name of the mask file of another tool, or "".
        n_tiles: number of tiles.
        remarks: reason why there are no tiles or no image, and warnings; "" if there are none.
        short_remarks: start of `remarks`, shortened to fit below the image.
        is_imported: whether the tiles came with imported features, so that there is no mask but their outline.
    """

    slide_id: str
    tiling: str
    url: str
    size: tuple[int, int]
    tissue_share: float | None
    cut_area_um2: float
    mask: str
    n_tiles: int
    remarks: str
    short_remarks: str
    is_imported: bool = False

    @property
    def is_suspicious(self) -> bool:
        """Whether there are remarks."""
        return bool(self.remarks)

    @property
    def caption(self) -> str:
        """Tissue and tiles in one line."""
        if self.tissue_share is None:
            return "not tiled"
        source = f" (mask {self.mask})" if self.mask else ""
        excluded = f", {self.cut_area_um2 / 1e6:.2f} mm² excluded" if self.cut_area_um2 else ""
        tiles = "tile" if self.n_tiles == 1 else "tiles"
        return f"{percent(self.tissue_share)} tissue{source}{excluded}, {self.n_tiles:,} {tiles}"


def contact_sheet(rows: Iterable[SlideRow], config: Config) -> list[MaskPicture]:
    """Return the masks of each slide in each tiling that an encoder entry uses.

    Those with a warning or without tiles come first, those without an image last; each group is sorted by share of tissue.
    """
    tilings = dict.fromkeys(entry.tiling for entry in config.of_tiles.values())
    pairs = [(row, tiling) for row in rows for tiling in tilings]
    side = max(LEAST_SIDE_PX, round(SIDE_PX * min(1.0, (MAX_FULL_SIZE / max(1, len(pairs))) ** 0.5)))
    return sorted((_mask_picture(row, tiling, config, side) for row, tiling in pairs), key=_sort_key)


def percent(share: float) -> str:
    """Return a share as a percentage, with two decimals below 1 %, else one."""
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def _sort_key(picture: MaskPicture) -> tuple[bool, bool, float, str]:
    return not picture.url, not picture.is_suspicious, picture.tissue_share or 0.0, picture.slide_id


def _mask_picture(row: SlideRow, tiling: str, config: Config, side_px: int) -> MaskPicture:
    receipt = Results(config.results).tiles_receipt(tiling, row.slide_id)
    metadata = read_receipt(receipt)
    url, size, missing = "", (0, 0), ""
    try:
        image = read_smaller(receipt.with_suffix(".png"), side_px)
        _draw_outline(image, _tissue_rings(receipt) if metadata.get("tissue_share") else [])
        url, size = jpeg_url(image, QUALITY), image.size
    except OSError:
        missing = "" if IMPORTED in metadata else "no QC image: run `tile` again"
    remarks = "; ".join(text for text in (metadata["reason"] or missing, *metadata["warnings"]) if text)
    return MaskPicture(
        slide_id=row.slide_id,
        tiling=tiling,
        url=url,
        size=size,
        tissue_share=metadata.get("tissue_share"),
        cut_area_um2=metadata.get("cut_area_um2", 0.0),
        mask=metadata.get("mask") or "",
        n_tiles=metadata.get("n_tiles", 0),
        remarks=remarks,
        short_remarks=_shorten(remarks.removeprefix(f"{row.path}: ")),
        is_imported=IMPORTED in metadata,
    )


def _tissue_rings(receipt: Path) -> list[NDArray[np.float64]]:
    """Outlines of the tissue, `(n_points, 2)` each: (x, y) as shares of the slide's width and height."""
    frame = Frame.of(read_tile_receipt(receipt))
    try:
        tissue = read_annotation(receipt.with_suffix(".geojson"), Truth(include=(TISSUE_CLASS,), exclude=()), frame)
    except AnnotationError as error:
        log.warning("contact sheet: no outline: %s", error)
        return []
    return [ring / frame.dimensions for ring in rings(tissue.region)]


def _draw_outline(image: Image.Image, outline: list[NDArray[np.float64]]) -> None:
    """Draw the outline in the small image, since that of the QC image is too thin to be visible there."""
    draw = ImageDraw.Draw(image)
    for ring in outline:
        draw.line([(float(x), float(y)) for x, y in ring * image.size], fill=OUTLINE_COLOUR, width=OUTLINE_PX)


def _shorten(text: str) -> str:
    return text if len(text) <= REMARK_CHARS else f"{text[: REMARK_CHARS - 1].rstrip()}…"
