"""Every tissue mask in small, so that a bad one is seen at a glance."""

from collections.abc import Iterable
from dataclasses import dataclass

from wsi_mil.config import Config
from wsi_mil.records import SlideRow
from wsi_mil.report.pictures import jpeg_url
from wsi_mil.store import read_receipt

SIDE_PX, QUALITY = 180, 70
REMARK_LETTERS = 60


@dataclass(frozen=True)
class MaskPicture:
    """What the sheet shows of one slide and tiling.

    Attributes:
        url: data URL of the slide with outline and tiles, "" where there is no picture.
        size: (width, height) of the picture in pixels.
        tissue_share: of the slide's area, 0 to 1; None where `tile` failed.
        remarks: why there are no tiles or no picture, and warnings; "" where all is well.
        in_short: as much of them as there is room for below a picture.
    """

    slide_id: str
    tiling: str
    url: str
    size: tuple[int, int]
    tissue_share: float | None
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
        return f"{percent(self.tissue_share)} tissue, {self.n_tiles:,} {'tile' if self.n_tiles == 1 else 'tiles'}"


def contact_sheet(rows: Iterable[SlideRow], config: Config) -> list[MaskPicture]:
    """A picture of each slide in each tiling that an encoder entry uses.

    Those with a warning or without tiles come first, slides without a picture last, each by the share that is tissue.
    """
    tilings = dict.fromkeys(entry.tiling for entry in config.encoders.values())
    return sorted((_mask_picture(row, tiling, config) for row in rows for tiling in tilings), key=_place)


def percent(share: float) -> str:
    """A share of 1 with as many digits as tell 0.1 % from less."""
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def _place(picture: MaskPicture) -> tuple[bool, bool, float, str]:
    return not picture.url, not picture.is_suspicious, picture.tissue_share or 0.0, picture.slide_id


def _mask_picture(row: SlideRow, tiling: str, config: Config) -> MaskPicture:
    receipt = config.results / "tiles" / tiling / f"{row.slide_id}.json"
    about = read_receipt(receipt)
    url, size, missing = "", (0, 0), ""
    try:
        url, size = jpeg_url(receipt.with_suffix(".png"), side_px=SIDE_PX, quality=QUALITY)
    except OSError:
        missing = "no QC picture: run `tile` again"
    remarks = "; ".join(text for text in (about["reason"] or missing, *about["warnings"]) if text)
    return MaskPicture(
        slide_id=row.slide_id,
        tiling=tiling,
        url=url,
        size=size,
        tissue_share=about.get("tissue_share"),
        n_tiles=about.get("n_tiles", 0),
        remarks=remarks,
        in_short=_in_short(remarks.removeprefix(f"{row.path}: ")),
    )


def _in_short(text: str) -> str:
    return text if len(text) <= REMARK_LETTERS else f"{text[: REMARK_LETTERS - 1].rstrip()}…"
