"""What every reader offers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import SlideReadError
from wsi_mil.geometry import UPSAMPLING_TOLERANCE, Mpp, best_level, footprint, size_at
from wsi_mil.slides.mpp import PROPERTY_PREFIXES, resolve_mpp
from wsi_mil.slides.resample import resampled

WHITE = 255
OVERVIEW_BLOCK_PX = 2048
"""Side of the largest piece read at once for an overview, in pixels of the level read."""


class Slide(ABC):
    """An open slide. Safe to use from several threads; close it, or use it as a context manager.

    Attributes:
        path: the file.
        reader: name of the reader.
        level_dimensions: (width, height) of each level.
        level_downsamples: level-0 pixels per pixel of each level.
        properties: the reader's own metadata, as text.
        mpp_override: µm per pixel of level 0 that replaces the file's own, or None.
    """

    reader: str
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    properties: Mapping[str, str]

    def __init__(self, path: Path, mpp_override: float | None):
        self.path = path
        self.mpp_override = mpp_override

    @abstractmethod
    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Pixels [size[1], size[0], 3] of a box wholly inside `level`, `corner` in level pixels."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.level_dimensions)

    @property
    def mpp(self) -> Mpp:
        """µm per pixel of level 0. Raises MissingMppError."""
        return resolve_mpp(self.mpp_override, self.properties, self.path)[0]

    @property
    def mpp_source(self) -> str:
        """Who says so."""
        return resolve_mpp(self.mpp_override, self.properties, self.path)[1]

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """(x, y, width, height) of what was scanned, level-0 pixels; None where the file names no bounds.

        MRXS and some others lay scanned fields on a far larger level 0. QuPath crops such slides, so that its coordinates
        count from (x, y).
        """
        for prefix in PROPERTY_PREFIXES:
            texts = [self.properties.get(f"{prefix}.bounds-{side}") for side in ("x", "y", "width", "height")]
            if all(text is not None and text.isdecimal() for text in texts):
                x, y, width, height = (int(text) for text in texts if text)
                return x, y, width, height
        return None

    def read_region(self, location: tuple[int, int], size: tuple[int, int], mpp: float) -> NDArray[np.uint8]:
        """Pixels of a region at any resolution: the next finer level, area-averaged down.

        Args:
            location: (x, y) of the top-left corner, level-0 pixels; may lie outside the slide.
            size: (width, height) wanted, pixels at `mpp`.
            mpp: µm per pixel wanted.

        Returns:
            uint8 [size[1], size[0], 3]; transparent pixels and what lies outside the slide are white.

        Raises:
            SlideReadError: the file's data are damaged, or level 0 is over a tenth coarser than `mpp`.
        """
        self.refuse_coarser(mpp)
        slide_mpp = self.mpp
        level = best_level(self.level_downsamples, mpp / max(slide_mpp.x, slide_mpp.y))
        to_level = [have / full for have, full in zip(self.level_dimensions[level], self.dimensions, strict=True)]
        extent = footprint(size, target_mpp=mpp, slide_mpp=slide_mpp)
        left, top = location[0] * to_level[0], location[1] * to_level[1]
        right, bottom = left + extent[0] * to_level[0], top + extent[1] * to_level[1]
        x, y = math.floor(left), math.floor(top)
        size_read = (max(1, math.ceil(right - 1e-6) - x), max(1, math.ceil(bottom - 1e-6) - y))
        pixels = self._read_padded((x, y), level, size_read)
        box = (left - x, top - y, min(right - x, size_read[0]), min(bottom - y, size_read[1]))
        return resampled(pixels, box, size)

    def refuse_coarser(self, mpp: float) -> None:
        """Raise SlideReadError where level 0 is over a tenth coarser than `mpp`: nothing is enlarged silently."""
        coarsest = max(self.mpp.x, self.mpp.y)
        if coarsest > mpp * UPSAMPLING_TOLERANCE:
            raise SlideReadError(self.path, f"level 0 has {coarsest:g} µm per pixel, coarser than the {mpp:g} asked for")

    def read_overview(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at `mpp` (or at level 0 where that is coarser), read piece by piece.

        Returns:
            uint8 [height, width, 3].
        """
        slide_mpp = self.mpp
        mpp = max(mpp, slide_mpp.x, slide_mpp.y)
        width, height = size_at(self.dimensions, slide_mpp=slide_mpp, target_mpp=mpp)
        downsample = mpp / max(slide_mpp.x, slide_mpp.y)
        level = best_level(self.level_downsamples, downsample)
        block = max(1, int(OVERVIEW_BLOCK_PX * self.level_downsamples[level] / downsample))
        image = np.full((height, width, 3), WHITE, np.uint8)
        for top in range(0, height, block):
            for left in range(0, width, block):
                size = (min(block, width - left), min(block, height - top))
                location = (round(left * mpp / slide_mpp.x), round(top * mpp / slide_mpp.y))
                image[top : top + size[1], left : left + size[0]] = self.read_region(location, size, mpp)
        return image

    def _read_padded(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        (x, y), (width, height) = corner, self.level_dimensions[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + size[0], width), min(y + size[1], height)
        if (left, top, right, bottom) == (x, y, x + size[0], y + size[1]):
            return self._read_level(corner, level, size)
        image = np.full((size[1], size[0], 3), WHITE, np.uint8)
        if right > left and bottom > top:
            inside = self._read_level((left, top), level, (right - left, bottom - top))
            image[top - y : bottom - y, left - x : right - x] = inside
        return image


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[height, width, 4] with straight alpha over a white ground: uint8 [height, width, 3]."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=WHITE) == WHITE:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = rgba[..., :3].astype(np.uint16) * alpha + WHITE * (WHITE - alpha.astype(np.uint16))
    return ((mixed + WHITE // 2) // WHITE).astype(np.uint8)
