"""Reader of JPEG-tiled TIFFs, block by block: 2.5 to 5 times as fast as OpenSlide with the same pixels. The only importer of
imagecodecs.

OpenSlide interpolates levels whose downsample is no whole number; this reader returns the pixels as stored in the file.
"""

import os
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_mil.config.readers import JPEG_TIFF
from wsi_mil.errors import SlideFormatError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.openslide_reader import OpenSlideReader
from wsi_mil.slides.resample import EXACT
from wsi_mil.slides.slide import BlockGrid, Slide, SlideSource
from wsi_mil.slides.tiff_format import has_levels_below
from wsi_mil.slides.tiffslide_reader import TiffSlideReader

T = TypeVar("T")

VENDORS = ("aperio", "generic-tiff")
"""Vendors with one TIFF image per level. Others place several images on a level, some of them overlapping."""

JPEG, RGB, YCBCR = 7, 2, 6
"""Values of the TIFF tags Compression and PhotometricInterpretation."""

COLOUR_SPACES = {RGB: "rgb", YCBCR: "ycbcr"}
N_COMPARED = 4
"""Number of blocks per level, those with the most data, that are compared with OpenSlide's pixels on opening."""


class _JpegLevel:
    """Blocks of one TIFF image."""

    def __init__(self, page: tifffile.TiffPage):
        self.offsets = np.asarray(page.dataoffsets, np.int64)
        self.sizes = np.asarray(page.databytecounts, np.int64)
        self.tables = page.jpegtables
        self.colour_space = COLOUR_SPACES[int(page.photometric)]
        columns = -(-page.imagewidth // page.tilewidth)
        self.grid = BlockGrid((page.tilewidth, page.tilelength), columns, self.offsets)


class JpegTiffReader(Slide):
    """Reader of a TIFF of JPEG tiles. OpenSlide reads everything but the pixels; tiffslide if the levels are in SubIFDs, which
    OpenSlide does not read.
    """

    reader = JPEG_TIFF

    def __init__(self, path: SlideSource, mpp_override: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, mpp_override, guess)
        self._file = -1
        self._other = self._open_other(path)
        self.properties = self._other.properties
        self.notes = self._other.notes
        self.level_dimensions = self._other.level_dimensions
        self.level_downsamples = self._other.level_downsamples
        try:
            self._levels = self._jpeg_levels()
            self._file = os.open(self.file, os.O_RDONLY)
            self._file_size = os.fstat(self._file).st_size
            self._require_openslide_pixels()
        except BaseException:
            self._close_file()  # keep the copy of a remote slide for the next reader
            raise

    def _open_other(self, path: SlideSource) -> Slide:
        """Open the reader of the metadata."""
        if self._of_file(has_levels_below):
            return TiffSlideReader(path)
        other = OpenSlideReader(path)
        if other.vendor not in VENDORS:
            other._close_file()
            raise SlideFormatError(
                self.path, f"jpeg_tiff reads the formats {', '.join(VENDORS)}, but this is {other.vendor or 'unknown'}"
            )
        return other

    def _of_file(self, work: Callable[[tifffile.TiffFile], T]) -> T:
        """Apply `work` to the open TIFF. Raises SlideFormatError if it is damaged."""
        try:
            with tifffile.TiffFile(self.file) as tif:
                return work(tif)
        except MemoryError:
            raise
        except Exception as error:  # tifffile raises anything from KeyError to struct.error on damaged files
            self.require_readable_file()
            raise SlideFormatError(self.path, f"not a readable TIFF ({error or type(error).__name__})") from error

    def _close_file(self) -> None:
        self._other._close_file()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:  # unpickled in a worker, which closes nothing
            os.close(self._file)

    @property
    def compression(self) -> str:
        return f"JPEG {self._levels[0].colour_space}" if 0 in self._levels else ""

    def block_grid(self, level: int) -> BlockGrid | None:
        return self._levels[level].grid if level in self._levels else None

    def read_block(self, level: int, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        at = self._levels[level]
        size = int(at.sizes[index])
        if size == 0:
            return self._missing_block(level, index, out)
        if not 0 <= int(at.offsets[index]) <= self._file_size - size:
            raise SlideReadError(self.path, f"block {index} of level {level} lies beyond the end of the file")
        data = os.pread(self._file, size, int(at.offsets[index]))
        width, height = at.grid.size
        try:
            block = imagecodecs.jpeg8_decode(
                data, tables=at.tables, colorspace=at.colour_space, outcolorspace="rgb", shape=(height, width), out=out
            )
        except (imagecodecs.Jpeg8Error, ValueError) as error:
            raise SlideReadError(self.path, f"cannot decode block {index} of level {level} ({error})") from error
        if block.shape != (height, width, 3):
            raise SlideReadError(self.path, f"block {index} of level {level} is {block.shape}, not {(height, width, 3)}")
        return np.asarray(block)

    def _require_openslide_pixels(self) -> None:
        """Raise SlideFormatError if blocks differ from OpenSlide's pixels; a level without comparable blocks is left to it."""
        compared = {level: self._comparable(level) for level in self._levels}
        self._levels = {level: at for level, at in self._levels.items() if len(compared[level])}
        if not self._levels:
            raise SlideFormatError(self.path, "no JPEG tile can be compared with OpenSlide's pixels")
        for level, at in self._levels.items():
            blocks = compared[level]
            for index in blocks[np.argsort(-at.sizes[blocks], kind="stable")][:N_COMPARED]:  # all background looks alike
                if not self._is_openslides(level, int(index)):
                    raise SlideFormatError(self.path, f"JPEG tiles do not decode to OpenSlide's pixels (level {level})")

    def _comparable(self, level: int) -> NDArray[np.int64]:
        """Stored blocks whose corner is a whole pixel of level 0; elsewhere OpenSlide interpolates."""
        at = self._levels[level]
        index = np.flatnonzero(at.sizes)
        corners = np.stack([index % at.grid.columns, index // at.grid.columns], axis=1) * at.grid.size
        at_level0 = corners * self.level_downsamples[level]
        return np.asarray(index[(np.abs(at_level0 - np.rint(at_level0)) < EXACT).all(axis=1)], np.int64)

    def _is_openslides(self, level: int, index: int) -> bool:
        """Whether a block has OpenSlide's pixels, or neither can read it."""
        corner, (width, height) = self._block_box(level, index)
        try:
            expected = self._other._read_level(corner, level, (width, height))
        except SlideReadError:
            return True
        try:
            return np.array_equal(self.read_block(level, index)[:height, :width], expected)
        except SlideReadError:
            return False

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        grid = self.block_grid(level)
        if grid is None:
            return self._other._read_level(corner, level, size)
        (x, y), (width, height) = corner, size
        image = np.empty((height, width, 3), np.uint8)
        for row in range(y // grid.size[1], (y + height - 1) // grid.size[1] + 1):
            for column in range(x // grid.size[0], (x + width - 1) // grid.size[0] + 1):
                block = self.read_block(level, row * grid.columns + column)
                copy_overlap(image, corner, block, (column * grid.size[0], row * grid.size[1]))
        return image

    def _missing_block(self, level: int, index: int, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Block without data in the file; OpenSlide implements what each vendor means by it."""
        (width, height) = self._levels[level].grid.size
        block = np.full((height, width, 3), 255, np.uint8) if out is None else out
        corner, inside = self._block_box(level, index)
        block[: inside[1], : inside[0]] = self._other._read_level(corner, level, inside)
        return block

    def _block_box(self, level: int, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Corner (x, y) and (width, height) of the part of a block inside its level."""
        grid, (width, height) = self._levels[level].grid, self.level_dimensions[level]
        x, y = index % grid.columns * grid.size[0], index // grid.columns * grid.size[1]
        return (x, y), (min(grid.size[0], width - x), min(grid.size[1], height - y))

    def _jpeg_levels(self) -> dict[int, _JpegLevel]:
        levels = self._of_file(self._levels_of)
        if not levels:
            raise SlideFormatError(self.path, "no level is made of JPEG tiles in RGB or YCbCr")
        return levels

    def _levels_of(self, tif: tifffile.TiffFile) -> dict[int, _JpegLevel]:
        below = tif.pages.first.pages or ()
        pages = [page for page in (*tif.pages, *below) if isinstance(page, tifffile.TiffPage) and page.is_tiled]
        sizes = Counter((page.imagewidth, page.imagelength) for page in pages)
        of_size = {
            (page.imagewidth, page.imagelength): page
            for page in pages
            if _is_jpeg_tiled(page) and (page.index == 0 or page.is_reduced or self.vendor != "generic-tiff")
        }
        return {
            number: _JpegLevel(of_size[size])
            for number, size in enumerate(self.level_dimensions)
            if size in of_size and sizes[size] == 1
        }


def copy_overlap(
    image: NDArray[np.uint8], corner: tuple[int, int], block: NDArray[np.uint8], block_corner: tuple[int, int]
) -> None:
    """Copy the overlap of `block` into `image`, both [height, width, 3] with corners (x, y) in the same pixels."""
    left, top = max(corner[0], block_corner[0]), max(corner[1], block_corner[1])
    right = min(corner[0] + image.shape[1], block_corner[0] + block.shape[1])
    bottom = min(corner[1] + image.shape[0], block_corner[1] + block.shape[0])
    (x, y), (u, v) = corner, block_corner
    image[top - y : bottom - y, left - x : right - x] = block[top - v : bottom - v, left - u : right - u]


def _is_jpeg_tiled(page: tifffile.TiffPage) -> bool:
    return (
        page.is_tiled
        and int(page.compression) == JPEG
        and int(page.photometric) in COLOUR_SPACES
        and page.samplesperpixel == 3
        and page.bitspersample == 8
        and len(page.dataoffsets) == len(page.databytecounts)
        and len(page.dataoffsets) == -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    )
