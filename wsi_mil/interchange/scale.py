"""What a file, the user and the slide say of the scale of tiles → where every tile lies on level 0."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.errors import FeatureFileError
from wsi_mil.geometry import Mpp, footprint, rounded
from wsi_mil.interchange.tile_features import Scale, TileFeatures

DISAGREEMENT = 1.1
"""Two resolutions that differ by more than this factor are worth a word."""

SAME_SIZE = 0.01
"""Sizes of a slide that differ by less are the same but for the rounding of its levels."""

NEXT_TO = 1.5
"""Corners that lie further apart than so many tiles are no neighbours."""


@dataclass(frozen=True)
class Given:
    """What the user says beside the files; None: nothing.

    Attributes:
        tile_px_level0: side of a tile, level-0 pixels.
        tile_px: side of a tile as the encoder saw it, pixels.
        mpp: µm per pixel that tiles were asked for at.
        slide_mpp: µm per pixel of level 0.
        encoder: what made the features.
    """

    tile_px_level0: int | None = None
    tile_px: int | None = None
    mpp: float | None = None
    slide_mpp: float | None = None
    encoder: str = ""


@dataclass(frozen=True)
class Placed:
    """Where tiles lie.

    Attributes:
        coords: int64 `(n, 2)`, (x, y), level-0 pixels.
        tile_px_level0: (width, height) of a tile, whole level-0 pixels.
        extent: the same, unrounded.
        stride: distance of neighbouring corners, level-0 pixels, unrounded.
        tile_px: side as the encoder saw it.
        mpp: µm per pixel that tiles were asked for at.
        slide_mpp: of level 0.
        mpp_source: who says that.
        dimensions: (width, height) of the slide, level-0 pixels.
        warnings: what is worth a look.
    """

    coords: NDArray[np.int64]
    tile_px_level0: tuple[int, int]
    extent: tuple[float, float]
    stride: tuple[float, float]
    tile_px: int
    mpp: float
    slide_mpp: Mpp
    mpp_source: str
    dimensions: tuple[int, int]
    warnings: tuple[str, ...]

    @property
    def overlap(self) -> float:
        """Pixels of `tile_px` that neighbours share."""
        return Scale(tile_px=self.tile_px, extent=self.extent, stride=self.stride).overlap

    @property
    def true_mpp(self) -> float:
        """µm per pixel of a tile, by its size on the slide."""
        return self.slide_mpp.x * self.extent[0] / self.tile_px

    @cached_property
    def outline(self) -> BaseGeometry:
        """What tiles cover of the slide, level-0 pixels."""
        far = np.minimum(self.coords + self.tile_px_level0, self.dimensions)
        return shapely.union_all(shapely.box(*np.hstack([self.coords, far]).T)) if len(far) else shapely.Polygon()


def slide_mpp_of(found: TileFeatures, given: Given, sheet: float | None) -> tuple[Mpp | None, str]:
    """µm per pixel of level 0 as far as sheet, options and file say it, and who does."""
    if sheet is not None:
        return Mpp(sheet, sheet), "sheet"
    if given.slide_mpp is not None:
        return Mpp(given.slide_mpp, given.slide_mpp), "--slide-mpp"
    return found.scale.slide_mpp, "feature file" if found.scale.slide_mpp else ""


def placed(
    path: Path, found: TileFeatures, given: Given, mpp: tuple[Mpp | None, str], dimensions: tuple[int, int] | None
) -> Placed:
    """Where the tiles of a file lie.

    Args:
        path: the file.
        found: what it holds; with coords.
        given: goes before what it says.
        mpp: of level 0, None where nobody says it, and who does.
        dimensions: (width, height) of the slide file, level-0 pixels; None where there is none.

    Raises:
        FeatureFileError: something is missing (all of it is named), or contradicts itself.
    """
    side = (given.tile_px_level0,) * 2 if given.tile_px_level0 else None
    said = Scale(tile_px_level0=side, tile_px=given.tile_px, mpp=given.mpp, extent=side)
    scale, (slide_mpp, source) = said.filled(found.scale), mpp
    box, tile_px, tile_mpp = _complete(path, scale, slide_mpp, is_um=found.unit == "um")
    warnings = []
    if slide_mpp is None:
        slide_mpp, source = Mpp(tile_mpp * tile_px / box[0], tile_mpp * tile_px / box[1]), "derived from the tiles"
        warnings.append(f"nobody says the slide's resolution: {slide_mpp.x:.4g} µm per pixel follows from its tiles")
    unrounded = footprint((tile_px, tile_px), target_mpp=tile_mpp, slide_mpp=slide_mpp)
    extent = scale.extent or (unrounded if found.unit == "um" else (float(box[0]), float(box[1])))
    coords = _level0(path, found, found.scale.slide_mpp or slide_mpp)  # our own exports were written by their own
    stride = scale.stride or (extent if found.unit == "um" else measured_stride(coords, extent))
    true_mpp = slide_mpp.x * extent[0] / tile_px
    if not 1 / DISAGREEMENT <= true_mpp / tile_mpp <= DISAGREEMENT:
        warnings.append(f"tiles are said to have {tile_mpp:.4g} µm per pixel; by their size on the slide it is {true_mpp:.4g}")
    size, more = _dimensions(path, scale, dimensions, coords, box)
    _refuse_outside(path, coords, size)
    return Placed(coords, box, extent, stride, tile_px, tile_mpp, slide_mpp, source, size, (*warnings, *more))


def _complete(path: Path, scale: Scale, slide_mpp: Mpp | None, *, is_um: bool) -> tuple[tuple[int, int], int, float]:
    """Footprint, side and µm per pixel of a tile, each worked out from the others where that can be done."""
    box, tile_px, mpp, lacking = scale.tile_px_level0, scale.tile_px, scale.mpp, []
    if box is None and tile_px and mpp and slide_mpp:
        box = rounded(footprint((tile_px, tile_px), target_mpp=mpp, slide_mpp=slide_mpp))
    if tile_px is None and box and mpp and slide_mpp:
        tile_px = max(1, round(box[0] * slide_mpp.x / mpp))
    if is_um and slide_mpp is None:
        lacking.append("its coords are in µm: give the slide's µm per pixel by --slide-mpp, the sheet's `mpp`, or the slide file")
    elif box is None:
        lacking.append("how many level-0 pixels a tile is wide: --tile-px-level0")
    if mpp is None:
        lacking.append("how many µm a pixel of a tile has: --mpp")
    if tile_px is None and box is not None:
        lacking.append("how many pixels a tile had for the encoder: --tile-px")
    if lacking:
        raise FeatureFileError(path, f"does not say {'; '.join(lacking)}" if not is_um else lacking[0])
    assert box is not None and tile_px is not None and mpp is not None
    return box, tile_px, mpp


def _level0(path: Path, found: TileFeatures, slide_mpp: Mpp) -> NDArray[np.int64]:
    assert found.coords is not None
    if found.coords.shape[1] != 2 or not np.isfinite(found.coords).all():
        raise FeatureFileError(path, f"coords of shape {found.coords.shape} must be finite (x, y) of each tile")
    coords = np.asarray(found.coords, np.float64)
    pixels = coords / (slide_mpp.x, slide_mpp.y) if found.unit == "um" else coords
    if found.unit == "px" and (pixels != np.rint(pixels)).any():
        raise FeatureFileError(path, "coords are no whole numbers, expected level-0 pixels; STAMP's µm need --layout stamp")
    return np.asarray(np.rint(pixels), np.int64)


def measured_stride(coords: NDArray[np.int64], extent: tuple[float, float]) -> tuple[float, float]:
    """The commonest distance of neighbours along x and y, level-0 pixels, of equally common ones the one nearest to
    a tile; where there are no neighbours, a tile.
    """
    return _commonest_step(coords[:, 0], coords[:, 1], extent[0]), _commonest_step(coords[:, 1], coords[:, 0], extent[1])


def _commonest_step(along: NDArray[np.int64], across: NDArray[np.int64], tile: float) -> float:
    order = np.lexsort((along, across))
    steps = np.diff(along[order])[np.diff(across[order]) == 0]
    steps = steps[(steps > 0) & (steps <= NEXT_TO * tile)]
    if not len(steps):
        return tile
    values, counts = np.unique(steps, return_counts=True)
    commonest = values[counts == counts.max()]
    return float(commonest[np.argmin(np.abs(commonest - tile))])


def _dimensions(
    path: Path, scale: Scale, slide: tuple[int, int] | None, coords: NDArray[np.int64], box: tuple[int, int]
) -> tuple[tuple[int, int], list[str]]:
    if slide and scale.dimensions and any(abs(a - b) > SAME_SIZE * a for a, b in zip(slide, scale.dimensions, strict=True)):
        (a, b), (c, d) = scale.dimensions, slide
        raise FeatureFileError(path, f"of a slide of {a} × {b} pixels, but the sheet's has {c} × {d}: not the same slide")
    if slide or scale.dimensions:
        return slide or scale.dimensions or (0, 0), []
    width, height = (coords.max(axis=0, initial=0) + box).tolist()
    return (width, height), ["nobody says the slide's size: the extent of its tiles stands for it"]


def _refuse_outside(path: Path, coords: NDArray[np.int64], dimensions: tuple[int, int]) -> None:
    outside = np.flatnonzero((coords < 0).any(axis=1) | (coords >= dimensions).any(axis=1))
    if len(outside):
        (x, y), (width, height) = coords[outside[0]], dimensions
        reason = f"{len(outside)} of {len(coords)} tiles lie outside of the slide ({width} × {height}), the first at ({x}, {y})"
        raise FeatureFileError(path, f"{reason}: coords must be level-0 pixels of this slide")
