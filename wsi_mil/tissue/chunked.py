"""Segment a slide chunk by chunk with Dask, so that the image is never whole in memory."""

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
"""(x, y) and (width, height) in mask pixels → uint8 [height, width, 3], and the number of unreadable pixels."""

BYTES_PER_PX = 128
"""Peak memory per pixel of a chunk during segmentation."""

LEAST_SIDE_PX = 256
"""Smallest side of a chunk; smaller ones would mostly read each other's margins."""


def chunked_mask(
    read: Read, shape: tuple[int, int], finder: TissueFinder, *, threads: int, memory_bytes: int
) -> tuple[TissueMask, float]:
    """Return the mask of `whole_mask`, pixel for pixel, in bounded memory, and the share of it that cannot be read.

    Chunks in which the overview shows no tissue are not read.

    Args:
        read: reads any part of the slide at the mask's resolution; called from several threads or processes.
        shape: [height, width] of the mask.
        finder: fitted on the slide's overview.
        threads: number of chunks processed at once, or fewer if memory does not suffice.
        memory_bytes: memory of all chunks together. The packed mask comes on top: at most one bit per pixel.

    Raises:
        ValueError: `memory_bytes` is too little for chunks of `LEAST_SIDE_PX` pixels.
    """
    side, threads = _side_px(finder.halo_px(shape), threads, memory_bytes)
    plan = windows(shape, side)
    chunks = parallel_map(partial(_segmented, read, finder, shape), plan, threads=threads)
    pieces = [piece for piece, _ in chunks]
    unread = sum(n for _, n in chunks)
    pieces = _without_small(pieces, finder.least_px(shape), tissue=True, threads=threads)
    if any(piece.n_tissue for piece in pieces):  # a slide without tissue is no hole
        pieces = _without_small(pieces, finder.hole_px(shape), tissue=False, threads=threads)
    return TissueMask.of(pieces, shape), unread / (shape[0] * shape[1])


def _side_px(halo: int, threads: int, memory_bytes: int) -> tuple[int, int]:
    """Side of a chunk, and the number of chunks processed at once."""
    least = (LEAST_SIDE_PX + 2 * halo + 1) ** 2 * BYTES_PER_PX
    if least > memory_bytes:
        raise ValueError(f"a chunk of the tissue mask needs {least} bytes, got {memory_bytes}")
    threads = min(threads, memory_bytes // least)
    return int((memory_bytes / threads / BYTES_PER_PX) ** 0.5) - 2 * halo, threads


def _segmented(read: Read, finder: TissueFinder, shape: tuple[int, int], window: Window) -> tuple[MaskPiece, float]:
    """Piece of the mask, and the number of unreadable pixels in it and its margin."""
    margin = window.grown(finder.halo_px(shape), shape)
    if not finder.is_possible(window, shape).any():
        return MaskPiece.of(window, np.zeros((window.height, window.width), bool)), 0.0
    image, unread = read((margin.left, margin.top), (margin.width, margin.height))
    return MaskPiece.of(window, finder.find(image, margin, shape)[window.within(margin)]), unread


@dataclass(frozen=True)
class _Border:
    """Components that reach the border of a chunk and may continue beyond it.

    Attributes:
        window: the chunk.
        labels: `(n,)` labels of these components.
        areas: `(n,)` pixels of each inside the chunk.
        faces: along each side of the chunk, the component's index in `labels` plus 1, or 0 where there is none.
    """

    window: Window
    labels: NDArray[np.int64]
    areas: NDArray[np.int64]
    faces: dict[str, NDArray[np.int64]]


def _without_small(pieces: list[MaskPiece], max_px: int, *, tissue: bool, threads: int) -> list[MaskPiece]:
    """Flip connected components of tissue (or background) of at most `max_px` pixels, across chunk borders too."""
    borders = parallel_map(partial(_border, tissue), pieces, threads=threads)
    tasks = list(zip(pieces, borders, _whole_areas(borders), strict=True))
    return parallel_map(partial(_flip_small, tissue, max_px), tasks, threads=threads)


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
    """For each chunk, the total areas of its `labels` including their parts in other chunks."""
    first = np.cumsum([0, *(len(border.labels) for border in borders)])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *_touching(borders, first)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(first[-1], first[-1]))
    joined = connected_components(graph, directed=False)[1]
    areas = np.bincount(joined, weights=np.concatenate([border.areas for border in borders]))[joined]
    return [areas[start:end].astype(np.int64) for start, end in itertools.pairwise(first)]


def _touching(borders: Sequence[_Border], first: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Pairs `(n, 2)` of adjacent components in neighbouring chunks, numbered from `first` of their chunk."""
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


def _flip_small(tissue: bool, max_px: int, task: tuple[MaskPiece, _Border, NDArray[np.int64]]) -> MaskPiece:
    piece, border, whole_areas = task
    components = _components(piece, tissue)
    areas = np.bincount(components.ravel())
    areas[border.labels] = whole_areas
    small = areas <= max_px
    small[0] = False
    return MaskPiece.of(piece.window, piece.mask() ^ small[components])
