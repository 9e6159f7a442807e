"""Deep Zoom: levels of a picture, each half of the next, cut into square tiles. Pure.

Level 0 is one pixel here, and the last level is the slide's own level 0; the docstrings say "level-0 pixels" of the slide only.
"""

import math
from dataclasses import dataclass

from wsi_mil.errors import UnknownNameError

TILE_PX = 256


@dataclass(frozen=True)
class View:
    """What one tile shows.

    Attributes:
        corner: (x, y) of its top-left corner, level-0 pixels.
        size: (width, height) of its picture, pixels.
        downsample: level-0 pixels per pixel of it.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    downsample: int

    @property
    def extent(self) -> tuple[int, int]:
        """(width, height) that it covers, level-0 pixels; may reach beyond the slide by less than a pixel of it."""
        return self.size[0] * self.downsample, self.size[1] * self.downsample


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide.

    Attributes:
        dimensions: (width, height), level-0 pixels.
    """

    dimensions: tuple[int, int]

    @property
    def max_level(self) -> int:
        """Of the full resolution."""
        return math.ceil(math.log2(max(self.dimensions)))

    def downsample(self, level: int) -> int:
        """Level-0 pixels per pixel of a level."""
        return 1 << (self.max_level - level)

    def size(self, level: int) -> tuple[int, int]:
        """(width, height) of a level, its pixels, rounded up."""
        step = self.downsample(level)
        return math.ceil(self.dimensions[0] / step), math.ceil(self.dimensions[1] / step)

    def level_of(self, downsample: float) -> int:
        """The coarsest level that is at least as fine as `downsample` asks for."""
        return max(0, self.max_level - max(0, math.floor(math.log2(max(downsample, 1)))))

    def view(self, level: int, column: int, row: int) -> View:
        """The tile of a level at a place of its grid.

        Raises:
            UnknownNameError: there is no such tile.
        """
        if not 0 <= level <= self.max_level:
            raise UnknownNameError(f"no level {level}: there are {self.max_level + 1}")
        width, height = self.size(level)
        left, top = column * TILE_PX, row * TILE_PX
        if not (0 <= left < width and 0 <= top < height):
            raise UnknownNameError(f"no tile ({column}, {row}) in level {level}")
        step = self.downsample(level)
        return View((left * step, top * step), (min(TILE_PX, width - left), min(TILE_PX, height - top)), step)
