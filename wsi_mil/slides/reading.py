"""Read many tiles of one slide, in grid order.

If the reader exposes the blocks of a level, each block is decoded once, in file order, and cached until the last tile that
needs it has been cut. Otherwise each tile is read by itself.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import SlideReadError
from wsi_mil.geometry import LevelWindows
from wsi_mil.records import TileGrid
from wsi_mil.runtime.crash_guard import reading
from wsi_mil.slides.resample import EXACT, block_means, resampled
from wsi_mil.slides.slide import WHITE, BlockGrid, Slide

log = logging.getLogger(__name__)

MIB = 1 << 20
BATCHES_AHEAD, AHEAD_BYTES = 4, 128 * MIB
"""Largest number and total bytes of batches read ahead of the one in use; one batch is always read ahead."""

CACHED_BYTES = 256 * MIB
"""Largest cache of decoded blocks for tiles of later rows; on very wide slides some blocks are decoded again."""

GROUP = 8
"""Number of blocks or tiles per thread task."""


@dataclass(frozen=True)
class TileBatch:
    """Consecutive tiles of a grid.

    Attributes:
        start: index of the first tile in the grid.
        tiles: uint8 `(n, height, width, 3)`; black where unreadable.
        readable: bool `(n,)`, False where the file's data are damaged.
    """

    start: int
    tiles: NDArray[np.uint8]
    readable: NDArray[np.bool_]


def _empty(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.empty(shape, np.uint8)


def read_tiles(
    slide: Slide,
    grid: TileGrid,
    *,
    mpp: float,
    batch_size: int = 64,
    threads: int = 1,
    start: int = 0,
    empty: Callable[[tuple[int, ...]], NDArray[np.uint8]] = _empty,
) -> Generator[TileBatch]:
    """Yield the pixels of a grid's tiles in batches; they equal those of `slide.read_region`.

    Memory is bounded for any slide: at most `BATCHES_AHEAD` batches are read ahead of the one in use.

    Args:
        slide: must stay open until the last batch, or until the generator is closed, which waits for its threads.
        grid: tiles in the slide's level-0 pixels.
        mpp: µm per pixel of the tiles.
        batch_size: tiles per batch; the last may have fewer.
        threads: number of threads that read and decode.
        start: index of the first tile to read.
        empty: allocates the array of a batch from its shape, for instance in pinned memory.

    Raises:
        SlideReadError: level 0 is over a tenth coarser than `mpp`.
        OSError: the operating system cannot read the file.
    """
    size = (grid.tile_px, grid.tile_px)
    level, windows = slide.windows(grid.coords, size, mpp)
    blocks = slide.block_grid(level)
    pool = ThreadPoolExecutor(threads)
    reader: _BatchReader
    if blocks is None:
        reader = _TileReader(slide, grid.coords, size, mpp, pool)
    else:
        reader = _BlockReader(slide, level, windows, blocks, size, pool, start)
    pixels = max(size[0] * size[1], int(windows.sizes.prod(axis=1).max(initial=1)))
    batch_bytes = batch_size * pixels * 3
    n_ahead = max(1, min(BATCHES_AHEAD, AHEAD_BYTES // batch_bytes))
    ahead: deque[_PendingBatch] = deque()
    try:
        for first in range(start, len(grid.coords), batch_size):
            ahead.append(reader.begin(range(first, min(first + batch_size, len(grid.coords))), empty))
            if len(ahead) > n_ahead:
                yield reader.finish(ahead.popleft())
        while ahead:
            yield reader.finish(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _PendingBatch:
    """Batch that threads are filling."""

    rows: range
    tiles: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    work: list[Future[None]]


class _BatchReader(ABC):
    """Fills batches in threads."""

    def __init__(self, slide: Slide, size: tuple[int, int], pool: ThreadPoolExecutor):
        self.slide = slide
        self.size = size
        self.pool = pool

    def begin(self, rows: range, empty: Callable[[tuple[int, ...]], NDArray[np.uint8]]) -> _PendingBatch:
        """Submit the tiles `rows` of the grid to the threads."""
        tiles = empty((len(rows), self.size[1], self.size[0], 3))
        readable = np.zeros(len(rows), bool)
        before = self._before(rows)
        work = [
            self.pool.submit(self._fill, group, tiles[at : at + GROUP], readable[at : at + GROUP], before)
            for at, group in _groups(rows)
        ]
        return _PendingBatch(rows, tiles, readable, work)

    def finish(self, batch: _PendingBatch) -> TileBatch:
        """Wait for a batch and return it."""
        for future in batch.work:
            future.result()
        self._after(batch.rows)
        return TileBatch(batch.rows.start, batch.tiles, batch.readable)

    def _fill(
        self, rows: Sequence[int], tiles: NDArray[np.uint8], readable: NDArray[np.bool_], before: list[Future[None]]
    ) -> None:
        for future in before:  # submitted first, so threads only wait for work already under way
            future.result()
        for i, row in enumerate(rows):
            try:
                self._read(row, tiles[i])
                readable[i] = True
            except SlideReadError as error:
                tiles[i] = 0
                log.warning("tile %d cannot be read and is left out: %s", row, error)

    @abstractmethod
    def _read(self, row: int, out: NDArray[np.uint8]) -> None:
        """Read a tile into `out` [height, width, 3]. Raises SlideReadError."""

    def _before(self, rows: range) -> list[Future[None]]:
        """Return the work that the tiles `rows` wait for."""
        return []

    def _after(self, rows: range) -> None:  # noqa: B027, only the block reader caches
        """Release what the tiles `rows` needed."""


class _TileReader(_BatchReader):
    """Reads each tile with `read_region`."""

    def __init__(self, slide: Slide, coords: NDArray[np.int64], size: tuple[int, int], mpp: float, pool: ThreadPoolExecutor):
        super().__init__(slide, size, pool)
        self.coords = coords
        self.mpp = mpp

    def _read(self, row: int, out: NDArray[np.uint8]) -> None:
        x, y = self.coords[row].tolist()
        out[...] = self.slide.read_region((x, y), self.size, self.mpp)


class _BlockReader(_BatchReader):
    """Cuts tiles from blocks. Blocks that tiles share are decoded ahead and cached, others when they are needed."""

    def __init__(
        self,
        slide: Slide,
        level: int,
        windows: LevelWindows,
        blocks: BlockGrid,
        size: tuple[int, int],
        pool: ThreadPoolExecutor,
        start: int,
    ):
        super().__init__(slide, size, pool)
        self.level = level
        self.windows = windows
        self.blocks = blocks
        limits = np.array(slide.level_dimensions[level])
        self.low = np.clip(windows.corners, 0, limits)
        self.high = np.clip(windows.corners + windows.sizes, 0, limits)
        self.first = self.low // blocks.size
        self.last = (self.high - 1) // blocks.size
        self.last[(self.high <= self.low).any(axis=1)] = -1  # wholly outside: no block
        self.is_cut = ((self.low != windows.corners) | (self.high != windows.corners + windows.sizes)).any(axis=1)
        self.steps = _whole_steps(windows, size, blocks)
        self.steps[self.is_cut & (self.steps > 1).any(axis=1)] = 0
        self.uses = self._count_uses(start)
        self.uses_left = self.uses.copy()
        self.wanted = np.zeros_like(self.uses)
        self.pixels: dict[int, NDArray[np.uint8] | SlideReadError] = {}
        self.decoding: dict[int, Future[None]] = {}

    def _count_uses(self, start: int) -> NDArray[np.int64]:
        """Number of tiles, from `start` on, that need each block."""
        uses = np.zeros(len(self.blocks.offsets), np.int64)
        first, last = self.first[start:], self.last[start:]
        reach = (last - first).max(axis=0, initial=-1) + 1
        for right in range(reach[0]):
            for down in range(reach[1]):
                at = first + np.array([right, down])
                needed = at[(at <= last).all(axis=1)]
                uses += np.bincount(needed[:, 1] * self.blocks.columns + needed[:, 0], minlength=len(uses))
        return uses

    def _ids(self, row: int) -> list[int]:
        """Blocks that a tile needs, row by row."""
        (left, top), (right, bottom) = self.first[row].tolist(), self.last[row].tolist()
        return [y * self.blocks.columns + x for y in range(top, bottom + 1) for x in range(left, right + 1)]

    def _shared(self, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Blocks of `rows` that several tiles need, and the number of tiles of `rows` that need each."""
        needed = np.array([i for row in rows for i in self._ids(row)], np.int64)
        return np.unique(needed[self.uses[needed] > 1], return_counts=True)

    def _before(self, rows: range) -> list[Future[None]]:
        shared, counts = self._shared(rows)
        self.wanted[shared] += counts
        new = np.array([i for i in shared.tolist() if i not in self.decoding], np.int64)
        new = new[np.argsort(self.blocks.offsets[new], kind="stable")]
        for _, group in _groups(new.tolist()):
            future = self.pool.submit(self._decode, group)
            self.decoding.update(dict.fromkeys(group, future))
        return list(dict.fromkeys(self.decoding[i] for i in shared.tolist()))

    def _after(self, rows: range) -> None:
        shared, counts = self._shared(rows)
        self.wanted[shared] -= counts
        self.uses_left[shared] -= counts
        for i in shared[self.uses_left[shared] == 0].tolist():
            self._forget(i)
        surplus = len(self.pixels) - CACHED_BYTES // (self.blocks.size[0] * self.blocks.size[1] * 3)
        if surplus > 0:
            idle = [i for i in self.decoding if not self.wanted[i]]
            for i in idle[:surplus]:
                self._forget(i)

    def _forget(self, index: int) -> None:
        del self.pixels[index], self.decoding[index]

    def _decode(self, indices: Sequence[int]) -> None:
        for index in indices:
            try:
                self.pixels[index] = self._read_block(index)
            except SlideReadError as error:
                self.pixels[index] = error

    def _read_block(self, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        with reading():
            return self.slide.read_block(self.level, index, out)

    def _block(self, index: int) -> NDArray[np.uint8]:
        if self.uses[index] == 1:
            return self._read_block(index)
        block = self.pixels[index]
        if isinstance(block, SlideReadError):
            raise block
        return block

    def _read(self, row: int, out: NDArray[np.uint8]) -> None:
        ids = self._ids(row)
        step_x, step_y = self.steps[row].tolist()
        if not step_x:
            width, height = self.windows.sizes[row].tolist()
            window = np.empty((height, width, 3), np.uint8)
            self._paste(row, ids, window)
            out[...] = resampled(window, self.windows.box(row), self.size)
        elif step_x == step_y == 1 and self.uses[ids].tolist() == [1] and self._is_block(row):
            self._read_block(ids[0], out)
        else:
            self._paste(row, ids, out, (step_x, step_y))

    def _is_block(self, row: int) -> bool:
        """Whether a tile's window is exactly one block, wholly inside the level."""
        corner, size = self.windows.corners[row], self.windows.sizes[row]
        return not self.is_cut[row] and tuple(size) == self.blocks.size and not (corner % self.blocks.size).any()

    def _paste(self, row: int, ids: list[int], window: NDArray[np.uint8], step: tuple[int, int] = (1, 1)) -> None:
        """Fill a tile's window [height, width, 3] from its blocks, averaged over `step` (x, y) level pixels, which never
        cross blocks; pixels outside the level are white.
        """
        (x, y), (left, top), (right, bottom) = (a[row].tolist() for a in (self.windows.corners, self.low, self.high))
        if self.is_cut[row]:
            window[...] = WHITE
        width, height = self.blocks.size
        for index in ids:
            v, u = index // self.blocks.columns * height, index % self.blocks.columns * width
            x0, y0, x1, y1 = max(left, u), max(top, v), min(right, u + width), min(bottom, v + height)
            part = self._block(index)[y0 - v : y1 - v, x0 - u : x1 - u]
            into = window[(y0 - y) // step[1] : (y1 - y) // step[1], (x0 - x) // step[0] : (x1 - x) // step[0]]
            into[...] = part if step == (1, 1) else block_means(part, step)


def _whole_steps(windows: LevelWindows, size: tuple[int, int], blocks: BlockGrid) -> NDArray[np.int64]:
    """Level pixels along x and y per tile pixel if they are whole and inside one block; else 0."""
    steps = np.maximum(1, windows.sizes // np.array(size))
    edges = np.concatenate([np.zeros_like(windows.sizes), windows.sizes], axis=1)
    is_whole = (np.abs(windows.boxes - edges) < EXACT).all(axis=1)
    in_one_block = (steps == 1) | ((np.array(blocks.size) % steps == 0) & (windows.corners % steps == 0))
    fits = is_whole & ((windows.sizes == steps * size) & in_one_block).all(axis=1)
    return np.where(fits[:, None], steps, 0)


def _groups(items: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Runs of `GROUP` items, each with the index of its first."""
    return ((at, items[at : at + GROUP]) for at in range(0, len(items), GROUP))
