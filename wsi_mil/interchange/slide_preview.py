"""What heatmaps of imported features are drawn on: the slide where there is one, else a plain ground that shows its tiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import MissingMppError, SlideError, UnreachableError
from wsi_mil.geometry import Mpp
from wsi_mil.interchange.scale import Placed
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import Slide, open_slide, slide_hash
from wsi_mil.tile.layout import extent_um
from wsi_mil.tile.stage import THUMBNAIL_PX, about_slide

GROUND_GREY, TILE_GREY = 246, 216
"""Of the plain ground, and of the tiles on it."""


@dataclass(frozen=True)
class Ground:
    """A picture of a slide, and what is known of its file.

    Attributes:
        thumbnail: [height, width, 3] of the whole slide.
        slide_hash: of the slide file, or "".
        about: what the receipt of `tile` says of the file.
    """

    thumbnail: NDArray[np.uint8]
    slide_hash: str
    about: dict[str, Any]


@dataclass(frozen=True)
class SlideFile:
    """What a slide file says, as far as there is one that opens.

    Attributes:
        ground: of the file, or None.
        mpp: µm per pixel of level 0 by sheet, options, feature file or slide, or None, and who says it.
        warnings: what is worth a look.
    """

    ground: Ground | None
    mpp: tuple[Mpp | None, str]
    warnings: tuple[str, ...] = ()

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """(width, height), level-0 pixels."""
        return None if self.ground is None else (self.ground.about["dimensions"][0], self.ground.about["dimensions"][1])


def slide_file(row: SlideRow, mpp: tuple[Mpp | None, str]) -> SlideFile:
    """The slide that the sheet names; where it cannot be opened, why.

    Args:
        row: the slide.
        mpp: of level 0 as far as it is known already, which goes before what the file says.
    """
    if row.path == NO_PATH:
        return SlideFile(None, mpp)
    reader = row.overrides.get("slide.reader", "auto")
    try:
        with open_slide(row.path, reader, mpp=mpp[0], in_place=True) as slide:
            return SlideFile(_ground_of(slide, row), mpp if mpp[0] else (slide.mpp, slide.mpp_source), slide.resolution.notes)
    except MissingMppError:
        with open_slide(row.path, reader, mpp=Mpp(1.0, 1.0), in_place=True) as slide:  # the picture is the same whatever it is
            return SlideFile(_ground_of(slide, row), mpp)
    except UnreachableError:
        raise  # a plain ground would stay
    except (SlideError, OSError) as error:
        return SlideFile(None, mpp, (f"drawn on a plain ground: {error}",))


def _ground_of(slide: Slide, row: SlideRow) -> Ground:
    picture = slide.read_overview(max(extent_um(slide)) / THUMBNAIL_PX).image
    return Ground(picture, slide_hash(slide.file), about_slide(slide))


def plain_ground(place: Placed, bounds: tuple[int, int, int, int] | None) -> Ground:
    """Light grey in the proportions of the slide, its tiles a little darker."""
    width, height = (max(1, round(THUMBNAIL_PX * side / max(place.dimensions))) for side in place.dimensions)
    ones = np.ones(len(place.coords), np.float32)
    tiles = tile_raster(ones, place.coords, box=place.tile_px_level0, dimensions=place.dimensions, shape=(height, width))
    grey = np.where(np.isnan(tiles), GROUND_GREY, TILE_GREY).astype(np.uint8)
    about = {
        "reader": IMPORTED,
        "vendor": "",
        "compression": "",
        "level_dimensions": [list(place.dimensions)],
        "level_downsamples": [1.0],
        "bounds": None if bounds is None else list(bounds),
    }
    return Ground(np.repeat(grey[..., None], 3, axis=2), "", about)
