"""Place imported tiles on level 0, from the scale in the file, the user's options and the slide."""

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
"""Factor by which two resolutions may differ without a warning."""

SAME_SIZE = 0.01
"""Relative difference up to which two sizes of a slide count as equal, since levels are rounded."""

NEXT_TO = 1.5
"""Largest distance between neighbouring corners, in tiles."""


@dataclass(frozen=True)
class ImportOptions:
    """Information that the user supplies; None: not supplied.

    Attributes:
        tile_px_level0: side of a tile, level-0 pixels.
        tile_px: side of a tile at the encoder's input, pixels.
        mpp: nominal µm per pixel of the tiles.
        slide_mpp: µm per pixel of level 0.
        encoder: name of the encoder.
    """

    tile_px_level0: int | None = None
    tile_px: int | None = None
    mpp: float | None = None
    slide_mpp: float | None = None
    encoder: str = ""


@dataclass(frozen=True)
class TilePlacement:
    """Placement of tiles on a slide.

    Attributes:
        coords: int64 `(n, 2)`, (x, y), level-0 pixels.
        tile_px_level0: (width, height) of a tile, whole level-0 pixels.
        extent: (width, height) of a tile, level-0 pixels, unrounded.
        stride: distance of neighbouring corners, level-0 pixels, unrounded.
        tile_px: side of a tile at the encoder's input, pixels.
        mpp: nominal µm per pixel of the tiles.
        slide_mpp: µm per pixel of level 0.
        mpp_source: source of `slide_mpp`.
        dimensions: (width, height) of the slide, level-0 pixels.
        warnings: warnings, one sentence each.
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
        """Return the pixels of `tile_px` that neighbouring tiles share."""
        return Scale(tile_px=self.tile_px, extent=self.extent, stride=self.stride).overlap

    @property
    def true_mpp(self) -> float:
        """Return the µm per pixel of a tile by its size on the slide."""
        return self.slide_mpp.x * self.extent[0] / self.tile_px

    @cached_property
    def outline(self) -> BaseGeometry:
        """Return the union of the tiles, level-0 pixels."""
        far = np.minimum(self.coords + self.tile_px_level0, self.dimensions)
        return shapely.union_all(shapely.box(*np.hstack([self.coords, far]).T)) if len(far) else shapely.Polygon()


def slide_mpp_of(tile_features: TileFeatures, options: ImportOptions, sheet: float | None) -> tuple[Mpp | None, str]:
    """Return the µm per pixel of level 0 from sheet, options or file, and its source; (None, "") if none has it."""
    if sheet is not None:
        return Mpp(sheet, sheet), "sheet"
    if options.slide_mpp is not None:
        return Mpp(options.slide_mpp, options.slide_mpp), "--slide-mpp"
    mpp = tile_features.scale.slide_mpp
    return mpp, "feature file" if mpp else ""


def place_tiles(
    path: Path,
    tile_features: TileFeatures,
    options: ImportOptions,
    mpp: tuple[Mpp | None, str],
    dimensions: tuple[int, int] | None,
) -> TilePlacement:
    """Place the tiles of a file on level 0.

    Args:
        path: the file.
        tile_features: content of the file, with coords.
        options: overrides the content of the file.
        mpp: µm per pixel of level 0, None if unknown, and its source.
        dimensions: (width, height) of the slide file, level-0 pixels; None if there is no slide file.

    Raises:
        FeatureFileError: information is missing (the message names all of it) or contradictory.
    """
    side = (options.tile_px_level0,) * 2 if options.tile_px_level0 else None
    supplied = Scale(tile_px_level0=side, tile_px=options.tile_px, mpp=options.mpp, extent=side)
    scale = supplied.filled(tile_features.scale)
    slide_mpp, source = mpp
    is_um = tile_features.unit == "um"
    box, tile_px, tile_mpp = _complete(path, scale, slide_mpp, is_um=is_um)
    warnings = []
    if slide_mpp is None:
        slide_mpp = Mpp(tile_mpp * tile_px / box[0], tile_mpp * tile_px / box[1])
        source = "derived from the tiles"
        warnings.append(f"the slide's resolution is unknown and was derived from its tiles: {slide_mpp.x:.4g} µm per pixel")
    unrounded = footprint((tile_px, tile_px), target_mpp=tile_mpp, slide_mpp=slide_mpp)
    extent = scale.extent or (unrounded if is_um else (float(box[0]), float(box[1])))
    coords = _level0(path, tile_features, tile_features.scale.slide_mpp or slide_mpp)  # our exports used their own resolution
    stride = scale.stride or (extent if is_um else measured_stride(coords, extent))
    true_mpp = slide_mpp.x * extent[0] / tile_px
    if not 1 / DISAGREEMENT <= true_mpp / tile_mpp <= DISAGREEMENT:
        warnings.append(
            f"tiles have {tile_mpp:.4g} µm per pixel by their file or options, but {true_mpp:.4g} by their size on the slide"
        )
    size, more = _dimensions(path, scale, dimensions, coords, box)
    _require_inside(path, coords, size)
    return TilePlacement(coords, box, extent, stride, tile_px, tile_mpp, slide_mpp, source, size, (*warnings, *more))


def _complete(path: Path, scale: Scale, slide_mpp: Mpp | None, *, is_um: bool) -> tuple[tuple[int, int], int, float]:
    """Footprint, side and µm per pixel of a tile, each computed from the others if needed and possible."""
    box = scale.tile_px_level0
    tile_px = scale.tile_px
    mpp = scale.mpp
    missing = []
    if box is None and tile_px and mpp and slide_mpp:
        box = rounded(footprint((tile_px, tile_px), target_mpp=mpp, slide_mpp=slide_mpp))
    if tile_px is None and box and mpp and slide_mpp:
        tile_px = max(1, round(box[0] * slide_mpp.x / mpp))
    if is_um and slide_mpp is None:
        missing.append(
            "has coords in µm: give the slide's µm per pixel as --slide-mpp, in the sheet's `mpp` column, or by the slide file"
        )
    elif box is None:
        missing.append("the side of a tile in level-0 pixels (--tile-px-level0)")
    if mpp is None:
        missing.append("the µm per pixel of the tiles (--mpp)")
    if tile_px is None and box is not None:
        missing.append("the side of a tile at the encoder's input in pixels (--tile-px)")
    if missing:
        raise FeatureFileError(path, f"lacks {', '.join(missing)}; give each as an option" if not is_um else missing[0])
    assert box is not None and tile_px is not None and mpp is not None
    return box, tile_px, mpp


def _level0(path: Path, tile_features: TileFeatures, slide_mpp: Mpp) -> NDArray[np.int64]:
    """Coords in level-0 pixels."""
    assert tile_features.coords is not None
    coords = np.asarray(tile_features.coords, np.float64)
    if coords.shape[1] != 2 or not np.isfinite(coords).all():
        raise FeatureFileError(path, f"coords must be finite (x, y) of each tile, but have shape {coords.shape}")
    is_um = tile_features.unit == "um"
    pixels = coords / (slide_mpp.x, slide_mpp.y) if is_um else coords
    if not is_um and (pixels != np.rint(pixels)).any():
        raise FeatureFileError(path, "coords must be whole level-0 pixels, but have fractions; STAMP's µm need --layout stamp")
    return np.asarray(np.rint(pixels), np.int64)


def measured_stride(coords: NDArray[np.int64], extent: tuple[float, float]) -> tuple[float, float]:
    """Return the commonest distance of neighbouring tiles along x and y, level-0 pixels.

    Among equally common distances the one nearest to a tile is taken; without neighbours the stride is a tile.
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
        raise FeatureFileError(
            path, f"is of a slide of {a} × {b} pixels, but the sheet's slide has {c} × {d}: it is another slide"
        )
    if slide or scale.dimensions:
        return slide or scale.dimensions or (0, 0), []
    width, height = (coords.max(axis=0, initial=0) + box).tolist()
    return (width, height), ["the slide's size is unknown: the extent of its tiles is used instead"]


def _require_inside(path: Path, coords: NDArray[np.int64], dimensions: tuple[int, int]) -> None:
    outside = np.flatnonzero((coords < 0).any(axis=1) | (coords >= dimensions).any(axis=1))
    if len(outside):
        (x, y), (width, height) = coords[outside[0]], dimensions
        reason = f"{len(outside)} of {len(coords)} tiles lie outside the slide ({width} × {height}), the first at ({x}, {y})"
        raise FeatureFileError(path, f"{reason}: coords must be level-0 pixels of this slide")
