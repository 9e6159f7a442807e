"""Every tissue mask in small, so that a bad one is seen at a glance."""

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
from wsi_mil.receipts import read_receipt, read_tile_receipt
from wsi_mil.records import SlideRow
from wsi_mil.report.pictures import jpeg_url, read_smaller
from wsi_mil.results import Results

log = logging.getLogger(__name__)

SIDE_PX, LEAST_SIDE_PX, QUALITY = 180, 60, 75
MANY = 250
"""Pictures beyond which they become smaller, so that all together take no more room."""

OUTLINE_COLOUR, OUTLINE_PX = (0, 170, 60), 2
REMARK_LETTERS = 60


@dataclass(frozen=True)
class MaskPicture:
    """What the sheet shows of one slide and tiling.

    Attributes:
        url: data URL of the slide with the tissue's outline, "" where there is no picture.
        size: (width, height) of the picture in pixels.
        tissue_share: of the slide's area, 0 to 1; None where `tile` failed.
        cut_area_um2: area that `tissue.exclude_classes` cut out of it.
        mask: name of the file of another tool that tissue was taken from, or "".
        remarks: why there are no tiles or no picture, and warnings; "" where all is well.
        in_short: as much of them as there is room for below a picture.
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
    in_short: str

    @property
    def is_suspicious(self) -> bool:
        """Whether anything is to be said of it."""
        return bool(self.remarks)

    @property
    def in_words(self) -> str:
        """Tissue and tiles in a line."""
        if self.tissue_share is None:
            return "not tiled"
        by = f" by {self.mask}" if self.mask else ""
        cut = f", {self.cut_area_um2 / 1e6:.2f} mm² cut out" if self.cut_area_um2 else ""
        return f"{percent(self.tissue_share)} tissue{by}{cut}, {self.n_tiles:,} {'tile' if self.n_tiles == 1 else 'tiles'}"


def contact_sheet(rows: Iterable[SlideRow], config: Config) -> list[MaskPicture]:
    """A picture of each slide in each tiling that an encoder entry uses.

    Those with a warning or without tiles come first, slides without a picture last, each by the share that is tissue.
    """
    tilings = dict.fromkeys(entry.tiling for entry in config.encoders.values())
    shown = [(row, tiling) for row in rows for tiling in tilings]
    side = max(LEAST_SIDE_PX, round(SIDE_PX * min(1.0, (MANY / max(1, len(shown))) ** 0.5)))
    return sorted((_mask_picture(row, tiling, config, side) for row, tiling in shown), key=_place)


def percent(share: float) -> str:
    """A share of 1 with as many digits as tell 0.1 % from less."""
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def _place(picture: MaskPicture) -> tuple[bool, bool, float, str]:
    return not picture.url, not picture.is_suspicious, picture.tissue_share or 0.0, picture.slide_id


def _mask_picture(row: SlideRow, tiling: str, config: Config, side_px: int) -> MaskPicture:
    receipt = Results(config.results).tiles_receipt(tiling, row.slide_id)
    about = read_receipt(receipt)
    url, size, missing = "", (0, 0), ""
    try:
        image = read_smaller(receipt.with_suffix(".png"), side_px)
        _draw_outline(image, _tissue_rings(receipt) if about.get("tissue_share") else [])
        url, size = jpeg_url(image, QUALITY), image.size
    except OSError:
        missing = "no QC image: run `tile` again"
    remarks = "; ".join(text for text in (about["reason"] or missing, *about["warnings"]) if text)
    return MaskPicture(
        slide_id=row.slide_id,
        tiling=tiling,
        url=url,
        size=size,
        tissue_share=about.get("tissue_share"),
        cut_area_um2=about.get("cut_area_um2", 0.0),
        mask=about.get("mask") or "",
        n_tiles=about.get("n_tiles", 0),
        remarks=remarks,
        in_short=_in_short(remarks.removeprefix(f"{row.path}: ")),
    )


def _tissue_rings(receipt: Path) -> list[NDArray[np.float64]]:
    """Outline of the tissue, `(n_points, 2)` each, columns (x, y) as shares of the slide's width and height."""
    frame = Frame.of(read_tile_receipt(receipt))
    try:
        tissue = read_annotation(receipt.with_suffix(".geojson"), Truth(include=(TISSUE_CLASS,), exclude=()), frame)
    except AnnotationError as error:
        log.warning("contact sheet: no outline: %s", error)
        return []
    return [ring / frame.dimensions for ring in rings(tissue.region)]


def _draw_outline(image: Image.Image, outline: list[NDArray[np.float64]]) -> None:
    """Draw it anew: that of the QC image is too thin to be seen in a small one."""
    draw = ImageDraw.Draw(image)
    for ring in outline:
        draw.line([(float(x), float(y)) for x, y in ring * image.size], fill=OUTLINE_COLOUR, width=OUTLINE_PX)


def _in_short(text: str) -> str:
    return text if len(text) <= REMARK_LETTERS else f"{text[: REMARK_LETTERS - 1].rstrip()}…"
