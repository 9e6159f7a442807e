"""Common interface of all slide readers."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import MissingFileError, SlideReadError
from wsi_mil.geometry import UPSAMPLING_TOLERANCE, LevelWindows, Mpp, best_level, footprint, is_reduction, level_windows, size_at
from wsi_mil.runtime.crash_guard import reading
from wsi_mil.slides.format import no_level_note
from wsi_mil.slides.mpp import PROPERTY_PREFIXES, MppGuess, Resolution, resolve_mpp
from wsi_mil.slides.resample import resampled
from wsi_mil.slides.scanner import scanner_of
from wsi_mil.slides.staging import LocalCopy, local_copy

log = logging.getLogger(__name__)

WHITE = 255
OVERVIEW_BLOCK_PX = 2048
"""Side of the pieces in which an overview is read, in pixels of the level read."""

RETRY_BLOCK_PX = 64
"""Side of the smaller pieces in which a damaged piece is read again, in pixels of the level read."""

MAX_UNREADABLE = 0.05
"""Largest share of an overview that may stay white because its data are damaged."""


HINT_COARSE = "correct the sheet's `mpp` column if it is wrong, or raise tilings.….mpp"
HINT_DAMAGE = "its data are damaged; copy the file again, or name another in the sheet's `path` column"


SlideSource = Path | str | LocalCopy
"""A file, a URL, or a local copy of a URL."""


@dataclass(frozen=True)
class BlockGrid:
    """Layout of a level in its file: blocks of one size, each decoded as a whole.

    Attributes:
        size: (width, height) of a block, level pixels; blocks at the right and bottom edge reach beyond the level.
        columns: number of blocks side by side; block i lies in column i % columns, row i // columns.
        offsets: int64 `(n_blocks,)`, byte offset of each block in the file.
    """

    size: tuple[int, int]
    columns: int
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Overview:
    """Image of a slide, or of a region of it.

    Attributes:
        image: uint8 [height, width, 3].
        unreadable: share of the image that is white because the file's data are damaged there.
    """

    image: NDArray[np.uint8]
    unreadable: float = 0.0


Piece = tuple[int, int, int, int]
"""(left, top, right, bottom) of a part of an overview, in the overview's pixels."""


class Slide(ABC):
    """Open slide. Close it after use, or use it as a context manager.

    A slide may be used from several threads. It can be pickled; the other process opens it again.

    Attributes:
        path: the file, or its URL.
        file: the file that is opened: `path`, or the local copy of the URL.
        version: version of the URL's content; "" for a file.
        reader: name of the reader.
        level_dimensions: (width, height) of each level.
        level_downsamples: level-0 pixels per pixel of each level.
        properties: the reader's own metadata, as text.
        notes: content of the file that is not read or was declared wrongly, one sentence each.
    """

    reader: str
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    properties: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __init__(self, source: SlideSource, mpp_override: Mpp | None, guess: MppGuess):
        self._copy = source if isinstance(source, LocalCopy) else None
        self.path = source.url if isinstance(source, LocalCopy) else source
        self.file = source.path if isinstance(source, LocalCopy) else source
        self.version = source.remote.version if isinstance(source, LocalCopy) else ""
        self._mpp_override = mpp_override
        self._guess = guess

    @abstractmethod
    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read pixels [size[1], size[0], 3] of a box wholly inside `level`, `corner` in level pixels."""

    def _set_levels(self, dimensions: Sequence[tuple[int, int]], downsamples: Sequence[float]) -> None:
        """Keep the levels that are reductions of the first; `_file_levels` holds their indices in the file."""
        kept = [number for number, size in enumerate(dimensions) if is_reduction(dimensions[0], size)]
        self._file_levels = tuple(kept)
        self.level_dimensions = tuple(dimensions[number] for number in kept)
        self.level_downsamples = tuple(downsamples[number] for number in kept)
        others = [size for number, size in enumerate(dimensions) if number not in kept]
        self.notes += tuple(no_level_note(size, dimensions[0]) for size in others)

    @abstractmethod
    def _close_file(self) -> None:
        """Close the file."""

    def close(self) -> None:
        """Close the file, and release its local copy."""
        self._close_file()
        if self._copy is not None:
            self._copy.close()

    def block_grid(self, level: int) -> BlockGrid | None:
        """Return the block layout of a level; None if its blocks cannot be read one by one."""
        return None

    def read_block(self, level: int, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Read one block of a level that has a `block_grid`.

        Args:
            level: index of the level.
            index: index of the block.
            out: contiguous uint8 [height, width, 3] to decode into.

        Returns:
            uint8 [height, width, 3] of the block's size; pixels beyond the level are undefined.

        Raises:
            SlideReadError: the file's data are damaged.
        """
        raise NotImplementedError(f"{self.reader} has no blocks")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._copy is None:
            return type(self), (self.path, self._mpp_override, self._guess)
        return _reopen_copy, (type(self), self.path, self._mpp_override, self._guess)

    def require_readable_file(self) -> None:
        """Raise OSError if the file is missing or unreadable, so that it is not mistaken for damaged data.

        Raises:
            MissingFileError: the file no longer exists.
            OSError: the disk cannot be read, or too many files are open.
        """
        if isinstance(self.file, Path):
            try:
                with self.file.open("rb") as file:
                    file.read(1)
            except FileNotFoundError as error:
                raise MissingFileError(self.path, "no longer exists, or its disk is not mounted") from error

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Return the number of levels."""
        return len(self.level_dimensions)

    @cached_property
    def resolution(self) -> Resolution:
        """Return the resolution of level 0 with its source. Raises MissingMppError."""
        return resolve_mpp(self.properties, self.path, mpp_override=self._mpp_override, guess=self._guess)

    @property
    def mpp(self) -> Mpp:
        """Return the µm per pixel of level 0. Raises MissingMppError."""
        return self.resolution.mpp

    @property
    def mpp_source(self) -> str:
        """Return the source of `mpp`: `sheet`, the names of the file's properties, or `slide.on_missing_mpp`."""
        return self.resolution.source

    @property
    def resident_pixels(self) -> int:
        """Pixels held in memory while the slide is open, 3 bytes each; 0 for readers that read on demand."""
        return 0

    @property
    def vendor(self) -> str:
        """Return the vendor of the scanner or file format, as the reader names it; "" if unknown."""
        return next((self.properties[name] for name in (f"{p}.vendor" for p in PROPERTY_PREFIXES) if name in self.properties), "")

    @property
    def scanner(self) -> str:
        """Return the scanner's model and serial number as in the file; "" if it has neither."""
        return scanner_of(self.properties)

    @property
    def compression(self) -> str:
        """Return the compression of level 0; "" if the reader cannot tell."""
        return ""

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """Return (x, y, width, height) of the scanned area, level-0 pixels; None if the file has no bounds.

        MRXS and some other formats place the scanned area on a far larger level 0. QuPath crops such slides, so that its
        coordinates count from (x, y).
        """
        for prefix in PROPERTY_PREFIXES:
            texts = [self.properties.get(f"{prefix}.bounds-{side}") for side in ("x", "y", "width", "height")]
            if all(text is not None and text.isdecimal() for text in texts):
                x, y, width, height = (int(text) for text in texts if text)
                return x, y, width, height
        return None

    def read_region(self, location: tuple[int, int], size: tuple[int, int], mpp: float) -> NDArray[np.uint8]:
        """Read a region at any resolution: area averages of the next finer level.

        Args:
            location: (x, y) of the top-left corner, level-0 pixels; may lie outside the slide.
            size: (width, height) wanted, pixels at `mpp`.
            mpp: µm per pixel wanted.

        Returns:
            uint8 [size[1], size[0], 3]; transparent pixels and those outside the slide are white.

        Raises:
            SlideReadError: the file's data are damaged, or level 0 is over a tenth coarser than `mpp`.
        """
        level, windows = self.windows(np.array([location], np.int64), size, mpp)
        (x, y), (width, height) = windows.corners[0].tolist(), windows.sizes[0].tolist()
        return resampled(self._read_padded((x, y), level, (width, height)), windows.box(0), size)

    def windows(self, locations: NDArray[np.int64], size: tuple[int, int], mpp: float) -> tuple[int, LevelWindows]:
        """Return the level that regions are read from, and their windows in it.

        Args:
            locations: `(n, 2)` top-left corners (x, y), level-0 pixels.
            size: (width, height) of every region, pixels at `mpp`.
            mpp: µm per pixel wanted.

        Raises:
            SlideReadError: level 0 is over a tenth coarser than `mpp`.
        """
        self.require_fine_enough(mpp)
        level = self.level_for(mpp)
        extent = footprint(size, target_mpp=mpp, slide_mpp=self.mpp)
        level_size = self.level_dimensions[level]
        return level, level_windows(locations, extent, dimensions=self.dimensions, level_dimensions=level_size)

    def level_for(self, mpp: float) -> int:
        """Return the coarsest level that is at least as fine as `mpp`."""
        return best_level(self.level_downsamples, mpp / max(self.mpp.x, self.mpp.y))

    def require_fine_enough(self, mpp: float) -> None:
        """Raise SlideReadError if level 0 is over a tenth coarser than `mpp`; pixels are never upsampled silently."""
        coarsest = max(self.mpp.x, self.mpp.y)
        if coarsest > mpp * UPSAMPLING_TOLERANCE:
            raise SlideReadError(
                self.path, f"level 0 has {coarsest:g} µm per pixel, coarser than the requested {mpp:g}; {HINT_COARSE}"
            )

    def read_overview(self, mpp: float, *, threads: int = 1) -> Overview:
        """Read the whole slide at `mpp` (or at level 0 if that is coarser), piece by piece.

        Pieces with damaged data stay white.

        Raises:
            SlideReadError: more than `MAX_UNREADABLE` of the slide cannot be read.
        """
        mpp = max(mpp, self.mpp.x, self.mpp.y)
        width, height = size_at(self.dimensions, slide_mpp=self.mpp, target_mpp=mpp)
        image = np.empty((height, width, 3), np.uint8)

        def fill(piece: Piece) -> float:
            left, top, right, bottom = piece
            location = (round(left * mpp / self.mpp.x), round(top * mpp / self.mpp.y))
            part = self.read_region_or_white(location, (right - left, bottom - top), mpp)
            image[top:bottom, left:right] = part.image
            return part.unreadable * (right - left) * (bottom - top)

        with ThreadPoolExecutor(threads) as pool:
            missing = sum(pool.map(fill, _pieces((0, 0, width, height), self._overview_block(OVERVIEW_BLOCK_PX, mpp))))
        unreadable = missing / (width * height)
        if unreadable > MAX_UNREADABLE:
            raise SlideReadError(self.path, f"cannot read {unreadable:.0%} of the slide: {HINT_DAMAGE}")
        return Overview(image, unreadable)

    def read_region_or_white(self, location: tuple[int, int], size: tuple[int, int], mpp: float) -> Overview:
        """Read a region as `read_region` does, but leave damaged pieces of `RETRY_BLOCK_PX` white."""
        try:
            return Overview(self.read_region(location, size, mpp))
        except SlideReadError:
            self.require_fine_enough(mpp)
        image = np.full((size[1], size[0], 3), WHITE, np.uint8)
        missing = 0
        for left, top, right, bottom in _pieces((0, 0, *size), self._overview_block(RETRY_BLOCK_PX, mpp)):
            corner = location[0] + round(left * mpp / self.mpp.x), location[1] + round(top * mpp / self.mpp.y)
            try:
                image[top:bottom, left:right] = self.read_region(corner, (right - left, bottom - top), mpp)
            except SlideReadError as error:
                log.debug("left white: %s", error)
                missing += (right - left) * (bottom - top)
        return Overview(image, missing / (size[0] * size[1]))

    def _overview_block(self, level_px: int, mpp: float) -> int:
        downsample = mpp / max(self.mpp.x, self.mpp.y)
        return max(1, int(level_px * self.level_downsamples[self.level_for(mpp)] / downsample))

    def _read_padded(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        (x, y), (width, height) = corner, self.level_dimensions[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + size[0], width), min(y + size[1], height)
        if (left, top, right, bottom) == (x, y, x + size[0], y + size[1]):
            with reading():
                return self._read_level(corner, level, size)
        image = np.full((size[1], size[0], 3), WHITE, np.uint8)
        if right > left and bottom > top:
            with reading():
                inside = self._read_level((left, top), level, (right - left, bottom - top))
            image[top - y : bottom - y, left - x : right - x] = inside
        return image


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite [height, width, 4] with straight alpha on white: uint8 [height, width, 3]."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=WHITE) == WHITE:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = rgba[..., :3].astype(np.uint16) * alpha + WHITE * (WHITE - alpha.astype(np.uint16))
    return ((mixed + WHITE // 2) // WHITE).astype(np.uint8)


def _pieces(whole: Piece, side: int) -> Iterator[Piece]:
    """Pieces of at most `side` pixels that tile `whole` without overlap, row by row."""
    left, top, right, bottom = whole
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            yield x, y, min(x + side, right), min(y + side, bottom)


def _reopen_copy(reader: type[Slide], url: str, mpp_override: Mpp | None, guess: MppGuess) -> Slide:
    """Reopen a slide that was opened from a local copy; another node has a copy of its own."""
    copy = local_copy(url)
    try:
        return reader(copy, mpp_override, guess)
    except BaseException:
        copy.close()
        raise
