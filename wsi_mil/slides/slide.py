"""What every reader offers."""

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
"""Side of the largest piece read at once for an overview, in pixels of the level read."""

RETRY_BLOCK_PX = 64
"""Side of the pieces that a damaged one is read in again, in pixels of the level read."""

MAX_UNREADABLE = 0.05
"""Largest share of an overview that may be left white because its data are damaged."""


MEND_COARSE = "correct the sheet's `mpp` column if that is wrong, or ask for more µm per pixel in tilings.….mpp"
MEND_DAMAGE = "its data are damaged; bring the file anew, or another in the sheet's `path` column"


Source = Path | str | LocalCopy
"""A file, a URL, or the copy of what lies at one."""


@dataclass(frozen=True)
class BlockGrid:
    """How the pixels of a level lie in its file: in blocks of one size, each decoded as a whole.

    Attributes:
        size: (width, height) of a block, level pixels; blocks at the right and bottom edge reach beyond the level.
        columns: number of blocks side by side; block i lies in column i % columns, row i // columns.
        offsets: int64 `(n_blocks,)`, where each begins in the file.
    """

    size: tuple[int, int]
    columns: int
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Overview:
    """A picture of a slide, or of a part of it.

    Attributes:
        image: uint8 [height, width, 3].
        unreadable: share of it that is white because the file's data are damaged there.
    """

    image: NDArray[np.uint8]
    unreadable: float = 0.0


Piece = tuple[int, int, int, int]
"""(left, top, right, bottom) of a part of an overview, its own pixels."""


class Slide(ABC):
    """An open slide. Safe to use from several threads; can be pickled, and is then opened anew in the other process; close
    it, or use it as a context manager.

    Attributes:
        path: the file, or its URL.
        file: what is opened: `path`, or the copy of what lies at the URL.
        version: of what lies at the URL; "" of a file.
        reader: name of the reader.
        level_dimensions: (width, height) of each level.
        level_downsamples: level-0 pixels per pixel of each level.
        properties: the reader's own metadata, as text.
        notes: what the file holds beside the slide, or holds otherwise than it declares, one sentence each.
    """

    reader: str
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    properties: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __init__(self, source: Source, given: Mpp | None, guess: MppGuess):
        self._copy = source if isinstance(source, LocalCopy) else None
        self.path = source.url if isinstance(source, LocalCopy) else source
        self.file = source.path if isinstance(source, LocalCopy) else source
        self.version = source.about.version if isinstance(source, LocalCopy) else ""
        self._given = given
        self._guess = guess

    @abstractmethod
    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Pixels [size[1], size[0], 3] of a box wholly inside `level`, `corner` in level pixels."""

    def _take_levels(self, dimensions: Sequence[tuple[int, int]], downsamples: Sequence[float]) -> None:
        """Keep the levels of the file that are reductions of its first; `_file_levels` has their numbers there."""
        kept = [number for number, size in enumerate(dimensions) if is_reduction(dimensions[0], size)]
        self._file_levels = tuple(kept)
        self.level_dimensions = tuple(dimensions[number] for number in kept)
        self.level_downsamples = tuple(downsamples[number] for number in kept)
        left_out = [size for number, size in enumerate(dimensions) if number not in kept]
        self.notes += tuple(no_level_note(size, dimensions[0]) for size in left_out)

    @abstractmethod
    def _let_go(self) -> None:
        """Close the file."""

    def close(self) -> None:
        """Let go of the file, and of the copy that it is."""
        self._let_go()
        if self._copy is not None:
            self._copy.close()

    def block_grid(self, level: int) -> BlockGrid | None:
        """How a level lies in the file, where its blocks can be read one by one."""
        return None

    def read_block(self, level: int, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """One block of a level that has a `block_grid`.

        Args:
            level: index of the level.
            index: of the block.
            out: contiguous uint8 [height, width, 3] to decode into.

        Returns:
            uint8 [height, width, 3] of the block's size; what reaches beyond the level is not defined.

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
            return type(self), (self.path, self._given, self._guess)
        return _of_copy, (type(self), self.path, self._given, self._guess)

    def refuse_machine_faults(self) -> None:
        """Raise what the machine says where the file is gone or cannot be read at all: that is no fault of its data.

        Raises:
            MissingFileError: it is gone.
            OSError: its disk, or the limit of open files.
        """
        if isinstance(self.file, Path):
            try:
                with self.file.open("rb") as file:
                    file.read(1)
            except FileNotFoundError as error:
                raise MissingFileError(self.path, "it is gone, or its disk is") from error

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.level_dimensions)

    @cached_property
    def resolution(self) -> Resolution:
        """Resolution of level 0 with its source. Raises MissingMppError."""
        return resolve_mpp(self.properties, self.path, given=self._given, guess=self._guess)

    @property
    def mpp(self) -> Mpp:
        """µm per pixel of level 0. Raises MissingMppError."""
        return self.resolution.mpp

    @property
    def mpp_source(self) -> str:
        """Who says so."""
        return self.resolution.source

    @property
    def held_px(self) -> int:
        """Pixels that are held in memory as long as it is open, of 3 bytes each; none where they are read as they are needed."""
        return 0

    @property
    def vendor(self) -> str:
        """Who made the scanner or wrote the file, as the reader names it; "" where it does not say."""
        return next((self.properties[name] for name in (f"{p}.vendor" for p in PROPERTY_PREFIXES) if name in self.properties), "")

    @property
    def scanner(self) -> str:
        """Model and serial number of the scanner as the file has them; "" where it has neither."""
        return scanner_of(self.properties)

    @property
    def compression(self) -> str:
        """How level 0 is compressed, as far as the reader can tell; "" where it cannot."""
        return ""

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
        level, windows = self.windows(np.array([location], np.int64), size, mpp)
        (x, y), (width, height) = windows.corners[0].tolist(), windows.sizes[0].tolist()
        return resampled(self._read_padded((x, y), level, (width, height)), windows.box(0), size)

    def windows(self, locations: NDArray[np.int64], size: tuple[int, int], mpp: float) -> tuple[int, LevelWindows]:
        """The level that regions are read from, and where in it they lie.

        Args:
            locations: `(n, 2)` top-left corners (x, y), level-0 pixels.
            size: (width, height) of every region, pixels at `mpp`.
            mpp: µm per pixel wanted.

        Raises:
            SlideReadError: level 0 is over a tenth coarser than `mpp`.
        """
        self.refuse_coarser(mpp)
        level = self.level_for(mpp)
        extent = footprint(size, target_mpp=mpp, slide_mpp=self.mpp)
        level_size = self.level_dimensions[level]
        return level, level_windows(locations, extent, dimensions=self.dimensions, level_dimensions=level_size)

    def level_for(self, mpp: float) -> int:
        """The coarsest level that is at least as fine as `mpp`."""
        return best_level(self.level_downsamples, mpp / max(self.mpp.x, self.mpp.y))

    def refuse_coarser(self, mpp: float) -> None:
        """Raise SlideReadError where level 0 is over a tenth coarser than `mpp`: nothing is enlarged silently."""
        coarsest = max(self.mpp.x, self.mpp.y)
        if coarsest > mpp * UPSAMPLING_TOLERANCE:
            raise SlideReadError(
                self.path, f"level 0 has {coarsest:g} µm per pixel, coarser than the {mpp:g} asked for; {MEND_COARSE}"
            )

    def read_overview(self, mpp: float, *, threads: int = 1) -> Overview:
        """The whole slide at `mpp` (or at level 0 where that is coarser), read piece by piece.

        Pieces whose data are damaged stay white.

        Raises:
            SlideReadError: more than `MAX_UNREADABLE` of it cannot be read.
        """
        mpp = max(mpp, self.mpp.x, self.mpp.y)
        width, height = size_at(self.dimensions, slide_mpp=self.mpp, target_mpp=mpp)
        image = np.empty((height, width, 3), np.uint8)

        def fill(piece: Piece) -> float:
            left, top, right, bottom = piece
            location = (round(left * mpp / self.mpp.x), round(top * mpp / self.mpp.y))
            part = self.read_what_can_be(location, (right - left, bottom - top), mpp)
            image[top:bottom, left:right] = part.image
            return part.unreadable * (right - left) * (bottom - top)

        with ThreadPoolExecutor(threads) as pool:
            missing = sum(pool.map(fill, _pieces((0, 0, width, height), self._overview_block(OVERVIEW_BLOCK_PX, mpp))))
        unreadable = missing / (width * height)
        if unreadable > MAX_UNREADABLE:
            raise SlideReadError(self.path, f"cannot read {unreadable:.0%} of the slide: {MEND_DAMAGE}")
        return Overview(image, unreadable)

    def read_what_can_be(self, location: tuple[int, int], size: tuple[int, int], mpp: float) -> Overview:
        """`read_region`, but where the file's data are damaged it is white, in pieces of `RETRY_BLOCK_PX`."""
        try:
            return Overview(self.read_region(location, size, mpp))
        except SlideReadError:
            self.refuse_coarser(mpp)
        image, missing = np.full((size[1], size[0], 3), WHITE, np.uint8), 0
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
    """[height, width, 4] with straight alpha over a white ground: uint8 [height, width, 3]."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=WHITE) == WHITE:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = rgba[..., :3].astype(np.uint16) * alpha + WHITE * (WHITE - alpha.astype(np.uint16))
    return ((mixed + WHITE // 2) // WHITE).astype(np.uint8)


def _pieces(whole: Piece, side: int) -> Iterator[Piece]:
    """Pieces of at most `side` pixels that cover `whole` without overlap, row by row."""
    left, top, right, bottom = whole
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            yield x, y, min(x + side, right), min(y + side, bottom)


def _of_copy(reader: type[Slide], url: str, given: Mpp | None, guess: MppGuess) -> Slide:
    """A slide that was opened from a copy, in another process: on another node there is another copy."""
    copy = local_copy(url)
    try:
        return reader(copy, given, guess)
    except BaseException:
        copy.close()
        raise
