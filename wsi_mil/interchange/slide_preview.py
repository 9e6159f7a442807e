"""Preview images under heatmaps of imported features: of the slide if there is one, else a plain one with its tiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import MissingMppError, SlideError, UnreachableError
from wsi_mil.geometry import Mpp
from wsi_mil.interchange.scale import TilePlacement
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import Slide, open_slide, slide_hash
from wsi_mil.tile.layout import extent_um
from wsi_mil.tile.stage import THUMBNAIL_PX, slide_metadata

BACKGROUND_GREY, TILE_GREY = 246, 216
"""Grey values of the plain preview and of the tiles on it."""


@dataclass(frozen=True)
class SlidePreview:
    """Preview image of a slide, with the metadata of its file.

    Attributes:
        thumbnail: [height, width, 3] of the whole slide.
        slide_hash: hash of the slide file, or "".
        metadata: metadata of the file for the receipt of `tile`.
    """

    thumbnail: NDArray[np.uint8]
    slide_hash: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SlideMetadata:
    """Metadata of a slide, with a preview if its file can be opened.

    Attributes:
        preview: preview of the file, or None.
        mpp: µm per pixel of level 0 by sheet, options, feature file or slide, or None, and its source.
        warnings: warnings, one sentence each.
    """

    preview: SlidePreview | None
    mpp: tuple[Mpp | None, str]
    warnings: tuple[str, ...] = ()

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """Return (width, height), level-0 pixels; None without a file."""
        if self.preview is None:
            return None
        width, height = self.preview.metadata["dimensions"]
        return width, height


def slide_metadata_of(row: SlideRow, mpp: tuple[Mpp | None, str]) -> SlideMetadata:
    """Read the slide that the sheet names; if it cannot be opened, the warnings have the reason.

    Args:
        row: the slide.
        mpp: µm per pixel of level 0 if known, and its source; overrides the file's.
    """
    if row.path == NO_PATH:
        return SlideMetadata(None, mpp)
    reader = row.overrides.get("slide.reader", "auto")
    try:
        with open_slide(row.path, reader, mpp=mpp[0], in_place=True) as slide:
            return SlideMetadata(
                _preview_of(slide, row), mpp if mpp[0] else (slide.mpp, slide.mpp_source), slide.resolution.notes
            )
    except MissingMppError:
        with open_slide(row.path, reader, mpp=Mpp(1.0, 1.0), in_place=True) as slide:  # the image does not depend on it
            return SlideMetadata(_preview_of(slide, row), mpp)
    except UnreachableError:
        raise  # else the plain preview would be kept
    except (SlideError, OSError) as error:
        return SlideMetadata(None, mpp, (f"drawn on a plain background: {error}",))


def _preview_of(slide: Slide, row: SlideRow) -> SlidePreview:
    image = slide.read_overview(max(extent_um(slide)) / THUMBNAIL_PX).image
    return SlidePreview(image, slide_hash(slide.file), slide_metadata(slide))


def plain_preview(place: TilePlacement, bounds: tuple[int, int, int, int] | None) -> SlidePreview:
    """Draw a preview without a slide: light grey in the slide's proportions, its tiles slightly darker."""
    width, height = (max(1, round(THUMBNAIL_PX * side / max(place.dimensions))) for side in place.dimensions)
    ones = np.ones(len(place.coords), np.float32)
    tiles = tile_raster(ones, place.coords, box=place.tile_px_level0, dimensions=place.dimensions, shape=(height, width))
    grey = np.where(np.isnan(tiles), BACKGROUND_GREY, TILE_GREY).astype(np.uint8)
    metadata = {
        "reader": IMPORTED,
        "vendor": "",
        "compression": "",
        "level_dimensions": [list(place.dimensions)],
        "level_downsamples": [1.0],
        "bounds": None if bounds is None else list(bounds),
    }
    return SlidePreview(np.repeat(grey[..., None], 3, axis=2), "", metadata)
