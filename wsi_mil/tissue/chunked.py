"""A mask of any size, chunk by chunk with Dask: the image is never whole in memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_mil.geometry import Window, windows
from wsi_mil.runtime.parallel import parallel_map
from wsi_mil.tissue.finder import TissueFinder
from wsi_mil.tissue.masks import MaskPiece, TissueMask

Read = Callable[[tuple[int, int], tuple[int, int]], tuple[NDArray[np.uint8], float]]
"""(x, y) and (width, height) in pixels of the mask → uint8 [height, width, 3], and how many of its pixels cannot be read."""

BYTES_PER_PX = 128
"""What one pixel of a chunk takes while tissue is looked for in it."""

LEAST_SIDE_PX = 256
"""Smaller chunks would read little but each other's margins."""


def chunked_mask(
    read: Read, shape: tuple[int, int], finder: TissueFinder, *, threads: int, memory_bytes: int
) -> tuple[TissueMask, float]:
    """The mask that `whole_mask` gives, pixel for pixel, in bounded memory; and the share of it that cannot be read.

    Chunks in which the overview shows no tissue are not read.

    Args:
        read: gives any part of the slide at the mask's resolution; called from several threads or processes.
        shape: [height, width] of the mask.
        finder: what was measured on the slide's overview.
        threads: chunks worked on at once, or fewer where the memory does not suffice.
        memory_bytes: all chunks at work keep to this together. The mask itself, packed, comes on top: at most a bit a pixel.

    Raises:
        ValueError: `memory_bytes` is too little for chunks of `LEAST_SIDE_PX` pixels.
    """
    side, threads = _side_px(finder.halo_px(shape), threads, memory_bytes)
    plan = windows(shape, side)
    found = parallel_map(partial(_found, read, finder, shape), plan, threads=threads)
    pieces, unread = [piece for piece, _ in found], sum(unread for _, unread in found)
    pieces = _without_small(pieces, finder.least_px(shape), tissue=True, threads=threads)
    if any(piece.n_tissue for piece in pieces):  # a slide without tissue is no hole
        pieces = _without_small(pieces, finder.hole_px(shape), tissue=False, threads=threads)
    return TissueMask.of(pieces, shape), unread / (shape[0] * shape[1])


def _side_px(halo: int, threads: int, memory_bytes: int) -> tuple[int, int]:
    """Side of a chunk, and how many threads may work on one each."""
    least = (LEAST_SIDE_PX + 2 * halo + 1) ** 2 * BYTES_PER_PX
    if least > memory_bytes:
        raise ValueError(f"a chunk of the tissue mask needs {least} bytes, got {memory_bytes}")
    threads = min(threads, memory_bytes // least)
    return int((memory_bytes / threads / BYTES_PER_PX) ** 0.5) - 2 * halo, threads


def _found(read: Read, finder: TissueFinder, shape: tuple[int, int], window: Window) -> tuple[MaskPiece, float]:
    """A piece of the mask, and how many pixels of it and its margin cannot be read."""
    margin = window.grown(finder.halo_px(shape), shape)
    if not finder.is_possible(window, shape).any():
        return MaskPiece.of(window, np.zeros((window.height, window.width), bool)), 0.0
    image, unread = read((margin.left, margin.top), (margin.width, margin.height))
    return MaskPiece.of(window, finder.found(image, margin, shape)[window.within(margin)]), unread


@dataclass(frozen=True)
class _Border:
    """What reaches the border of a chunk, and may go on beyond it.

    Attributes:
        window: the chunk.
        labels: `(n,)` of those components that reach it.
        areas: `(n,)` pixels of each inside the chunk.
        faces: along each side of the chunk, the place of the component in `labels` plus 1, or 0 where there is none.
    """

    window: Window
    labels: NDArray[np.int64]
    areas: NDArray[np.int64]
    faces: dict[str, NDArray[np.int64]]


def _without_small(pieces: list[MaskPiece], max_px: int, *, tissue: bool, threads: int) -> list[MaskPiece]:
    """With components of tissue (or of what is none) of at most `max_px` pixels turned over, also across chunks."""
    borders = parallel_map(partial(_border, tissue), pieces, threads=threads)
    tasks = list(zip(pieces, borders, _whole_areas(borders), strict=True))
    return parallel_map(partial(_turned_over, tissue, max_px), tasks, threads=threads)


def _components(piece: MaskPiece, tissue: bool) -> NDArray[np.int32]:
    return np.asarray(ndimage.label(piece.mask() == tissue)[0], np.int32)


def _border(tissue: bool, piece: MaskPiece) -> _Border:
    components = _components(piece, tissue)
    sides = {"left": components[:, 0], "right": components[:, -1], "top": components[0], "bottom": components[-1]}
    labels = np.unique(np.concatenate([[0], *sides.values()]))
    faces = {side: np.searchsorted(labels, along) for side, along in sides.items()}
    areas = np.bincount(components.ravel())[labels[1:]]
    return _Border(piece.window, labels[1:], areas, faces)


def _whole_areas(borders: Sequence[_Border]) -> list[NDArray[np.int64]]:
    """For each chunk the areas of its `labels` with all that they join up with in other chunks."""
    first = np.cumsum([0, *(len(border.labels) for border in borders)])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *_touching(borders, first)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(first[-1], first[-1]))
    joined = connected_components(graph, directed=False)[1]
    areas = np.bincount(joined, weights=np.concatenate([border.areas for border in borders]))[joined]
    return [areas[start:end].astype(np.int64) for start, end in itertools.pairwise(first)]


def _touching(borders: Sequence[_Border], first: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Pairs `(n, 2)` of components that lie side by side in neighbouring chunks, counted from `first` of their chunk on."""
    at = {(border.window.left, border.window.top): number for number, border in enumerate(borders)}
    for number, border in enumerate(borders):
        window = border.window
        for corner, side, facing in (
            ((window.right, window.top), "right", "left"),
            ((window.left, window.bottom), "bottom", "top"),
        ):
            if corner in at:
                here, there = border.faces[side], borders[at[corner]].faces[facing]
                met = (here > 0) & (there > 0)
                pairs = np.stack([here[met] - 1 + first[number], there[met] - 1 + first[at[corner]]], axis=1)
                yield np.unique(pairs, axis=0)


def _turned_over(tissue: bool, max_px: int, task: tuple[MaskPiece, _Border, NDArray[np.int64]]) -> MaskPiece:
    piece, border, whole_areas = task
    components = _components(piece, tissue)
    areas = np.bincount(components.ravel())
    areas[border.labels] = whole_areas
    small = areas <= max_px
    small[0] = False
    return MaskPiece.of(piece.window, piece.mask() ^ small[components])
