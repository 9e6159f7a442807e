"""Deep Zoom pyramid: levels of an image, each half the size of the next, cut into square tiles. No I/O.

Level 0 of Deep Zoom is one pixel; its last level is the slide's level 0. "Level-0 pixels" always means those of the slide.
"""

import math
from dataclasses import dataclass

from wsi_mil.errors import UnknownNameError

TILE_PX = 256


@dataclass(frozen=True)
class View:
    """Region of a slide shown by one tile of the viewer.

    Attributes:
        corner: (x, y) of its top-left corner, level-0 pixels.
        size: (width, height) of its image, pixels.
        downsample: level-0 pixels per pixel of the image.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    downsample: int

    @property
    def extent(self) -> tuple[int, int]:
        """(width, height) of the region, level-0 pixels; may extend beyond the slide by less than a pixel of the image."""
        return self.size[0] * self.downsample, self.size[1] * self.downsample


@dataclass(frozen=True)
class Pyramid:
    """Deep Zoom levels of a slide.

    Attributes:
        dimensions: (width, height), level-0 pixels.
    """

    dimensions: tuple[int, int]

    @property
    def max_level(self) -> int:
        """Level of the full resolution."""
        return math.ceil(math.log2(max(self.dimensions)))

    def downsample(self, level: int) -> int:
        """Return the level-0 pixels per pixel of a level."""
        return 1 << (self.max_level - level)

    def size(self, level: int) -> tuple[int, int]:
        """Return the (width, height) of a level in its own pixels, rounded up."""
        step = self.downsample(level)
        return math.ceil(self.dimensions[0] / step), math.ceil(self.dimensions[1] / step)

    def level_of(self, downsample: float) -> int:
        """Return the coarsest level whose downsample does not exceed `downsample`."""
        return max(0, self.max_level - max(0, math.floor(math.log2(max(downsample, 1)))))

    def view(self, level: int, column: int, row: int) -> View:
        """Return the region of a tile.

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
