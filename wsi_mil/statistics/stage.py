"""Stage `statistics`: mean, variance and principal components of all features of an encoder entry, and projections."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Statistics
from wsi_mil.errors import EmptyBagError, NotFiniteError, StoreMismatchError
from wsi_mil.files import read_table, write_table
from wsi_mil.receipts import array_digest, read_receipt, store_path, write_receipt
from wsi_mil.runtime.parallel import parallel_map, run_graph
from wsi_mil.statistics.components import Components, principal_components
from wsi_mil.statistics.moments import Moments
from wsi_mil.store import FeatureRows, feature_dim, read_array, read_attributes, write_whole

log = logging.getLogger(__name__)

STAGE_VERSION = 1
MAX_COVARIANCE_BYTES = 512 << 20
"""Memory limit for the covariances of slides that are processed in parallel."""

MAX_SAMPLED = 20_000
"""Upper limit on sampled tiles of the whole cohort; at least one per slide is sampled."""

SLIDES, TILES = ".slides.csv", ".tiles.csv"
"""Suffixes of the tables beside the receipt."""


@dataclass(frozen=True)
class CohortProjections:
    """Projections of slides and sampled tiles on the first components.

    Attributes:
        receipt: content of the receipt.
        shares: `(k,)`, share of the total variance of each component.
        slide_ids: slides, sorted.
        slides: `(n_slides, k)`, projections of the slides' mean features.
        tile_slides: slide of each sampled tile.
        tiles: `(n_tiles, k)`, projections of the sampled tiles.
    """

    receipt: dict[str, Any]
    shares: tuple[float, ...]
    slide_ids: tuple[str, ...]
    slides: NDArray[np.float64]
    tile_slides: tuple[str, ...]
    tiles: NDArray[np.float64]


@dataclass
class _Part:
    """Statistics of some slides: moments in which each slide has weight 1, and the number of tiles and mean of each."""

    moments: Moments
    n_tiles: list[int]
    means: list[NDArray[np.float64]]


def write_statistics(slide_ids: Iterable[str], features: Path, settings: Statistics, receipt: Path, *, threads: int) -> None:
    """Compute the statistics; write a store (mean, variance, components, means of slides), tables of projections, and a receipt.

    Every slide has the same weight, whatever its number of tiles. Only a few blocks of tiles and a few covariances are in
    memory at once, plus one mean per slide. BLAS must be limited to one thread: slides are processed in parallel, and the
    results do not depend on their number.

    Args:
        slide_ids: slides to include, in any order.
        features: folder with their receipts of `extract`.
        settings: number of components and of sampled tiles.
        receipt: JSON file to write, last.
        threads: slides processed in parallel; fewer if their covariances would need more than `MAX_COVARIANCE_BYTES`.

    Raises:
        StoreMismatchError: feature vectors of different lengths.
        NotFiniteError: a slide has non-finite features; names the first such tile.
        EmptyBagError: a slide has no valid tile.
    """
    ids = sorted(slide_ids)
    receipts = [features / f"{slide_id}.json" for slide_id in ids]
    dim = _common_dim(receipts)
    n_parallel = min(threads, max(1, MAX_COVARIANCE_BYTES // (8 * dim**2 or 1)))
    total_part = _reduce(receipts, n_parallel) if ids else _empty_part(dim)
    covariance = total_part.moments.covariance
    components = principal_components(covariance, settings.components)
    mean = total_part.moments.mean
    slide_means = np.array(total_part.means).reshape(len(ids), dim)
    per_slide = max(1, min(settings.tiles_per_slide, MAX_SAMPLED // max(1, len(ids)))) if settings.tiles_per_slide else 0
    sampled = _sample_slides(receipts, components, mean, (per_slide, settings.seed), threads)
    variance = np.diag(covariance).copy()
    store = {"mean": mean, "variance": variance, "components": components.directions, "slide_means": slide_means}
    digests = _write_tables(receipt, ids, total_part.n_tiles, components.project(slide_means, mean), sampled)
    write_whole(store_path(receipt), {name: np.ascontiguousarray(a) for name, a in store.items()}, {"slides": ids})
    total = float(variance.sum())
    between = float(slide_means.var(axis=0).sum()) if ids else 0.0
    content = {
        "stage_version": STAGE_VERSION,
        "settings": settings.model_dump(mode="json"),
        "n_slides": len(ids),
        "n_tiles": sum(total_part.n_tiles),
        "n_sampled": sum(len(coords) for coords, _ in sampled),
        "dim": dim,
        "weights": "each slide the same, shared evenly by its tiles",
        "total_variance": total,
        "between_slides": between / total if total else None,
        "explained": components.shares.tolist(),
        "digests": {**{name: array_digest(a) for name, a in store.items()}, **digests},
    }
    write_receipt(receipt, content)
    log.info("%d slides, %d tiles: %s", len(ids), content["n_tiles"], _variance_text(components.shares))


def read_projections(receipt: Path) -> CohortProjections:
    """Read the projections of slides and sampled tiles written by `write_statistics`."""
    content = read_receipt(receipt)
    shares = tuple(float(share) for share in content["explained"])
    names = [f"pc{i + 1}" for i in range(len(shares))]
    slides, tiles = read_table(receipt.with_suffix(SLIDES)), read_table(receipt.with_suffix(TILES))
    return CohortProjections(
        content,
        shares,
        tuple(row["slide_id"] for row in slides),
        _columns(slides, names),
        tuple(row["slide_id"] for row in tiles),
        _columns(tiles, names),
    )


def read_slide_means(receipt: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Return the slides and their mean features `(n_slides, dim)`, as `write_statistics` wrote them."""
    store = store_path(receipt)
    return list(read_attributes(store)["slides"]), np.asarray(read_array(store, "slide_means"), np.float64)


def _common_dim(receipts: Sequence[Path]) -> int:
    """Common length of all slides' feature vectors; 0 without slides."""
    dims = [feature_dim(receipt) for receipt in receipts]
    for receipt, dim in zip(receipts, dims, strict=True):
        if dim != dims[0]:
            raise StoreMismatchError(
                store_path(receipt), f"has features of length {dim}, {store_path(receipts[0])} of {dims[0]}; run `extract` again"
            )
    return dims[0] if dims else 0


def _reduce(receipts: Sequence[Path], threads: int) -> _Part:
    """Merge all slides one after the other, always in the same order, whichever is ready first.

    A slide starts only after the one `threads + 1` before it has been merged, which bounds the number of slides that wait in
    memory. In a tree of merges, this number would grow with the number of slides.
    """
    ahead = threads + 1
    graph: dict[Any, Any] = {("merged", -1): (_empty_part, feature_dim(receipts[0]))}
    for i, receipt in enumerate(receipts):
        graph["started", i] = (_wait_for, ("merged", max(-1, i - ahead)))
        graph["slide", i] = (_slide_part, receipt, ("started", i))
        graph["merged", i] = (_merge, ("merged", i - 1), ("slide", i))
    return run_graph(graph, ("merged", len(receipts) - 1), threads=threads)  # type: ignore[no-any-return]


def _empty_part(dim: int) -> _Part:
    return _Part(Moments.empty(dim), [], [])


def _wait_for(_part: _Part) -> None:
    """Depend on a part without passing it on, so that it stays where it is."""


def _slide_part(receipt: Path, _started: None) -> _Part:
    """Statistics of one slide."""
    rows = FeatureRows(receipt)
    if not len(rows):
        raise EmptyBagError(rows.slide_id)
    moments = Moments.empty(rows.dim)
    done = 0
    for block in rows.blocks():
        are_finite = np.isfinite(block).all(axis=1)
        if not are_finite.all():
            tile = rows.place(done + int(are_finite.argmin()))
            raise NotFiniteError(rows.slide_id, features_are_finite=False, tile=tile)
        moments.add_block(block)
        done += len(block)
    moments.normalise_weight()
    return _Part(moments, [len(rows)], [moments.mean])


def _merge(first: _Part, second: _Part) -> _Part:
    """Statistics of both parts; neither is changed, since a step may be repeated after a worker died."""
    moments = replace(first.moments, scatter=first.moments.scatter.copy()).add(second.moments)
    return _Part(moments, first.n_tiles + second.n_tiles, first.means + second.means)


def _sample_slides(
    receipts: Sequence[Path], components: Components, mean: NDArray[np.float64], draw: tuple[int, int], threads: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Coords `(m, 2)` and projections `(m, k)` of sampled tiles of each slide; `draw` = (maximum number, seed)."""
    return parallel_map(partial(_sample, components, mean, draw), receipts, threads=threads)


def _sample(
    components: Components, mean: NDArray[np.float64], draw: tuple[int, int], receipt: Path
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Coords and projections of sampled tiles of one slide."""
    rows, (most, seed) = FeatureRows(receipt), draw
    slide_seed = int.from_bytes(hashlib.sha256(rows.slide_id.encode()).digest()[:8], "big")  # independent of other slides
    numbers = np.sort(np.random.default_rng([seed, slide_seed]).choice(len(rows), min(most, len(rows)), replace=False))
    return rows.coords[numbers], components.project(rows.at(numbers), mean)


def _write_tables(
    receipt: Path,
    ids: Sequence[str],
    n_tiles: Sequence[int],
    slides: NDArray[np.float64],
    sampled: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> dict[str, str]:
    """Write the tables and return their digests."""
    names = [f"pc{i + 1}" for i in range(slides.shape[1])]
    slide_rows = [[i, n, *_texts(row)] for i, n, row in zip(ids, n_tiles, slides, strict=True)]
    tile_rows = [
        [slide_id, *corner, *_texts(row)]
        for slide_id, (coords, rows) in zip(ids, sampled, strict=True)
        for corner, row in zip(coords.tolist(), rows, strict=True)
    ]
    slides_csv, tiles_csv = receipt.with_suffix(SLIDES), receipt.with_suffix(TILES)
    write_table(slides_csv, ["slide_id", "n_tiles", *names], slide_rows)
    write_table(tiles_csv, ["slide_id", "x", "y", *names], tile_rows)
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (("slides", slides_csv), ("tiles", tiles_csv))}


def _texts(row: NDArray[np.float64]) -> list[str]:
    return [f"{value:.7g}" for value in row.tolist()]


def _columns(table: Sequence[dict[str, str]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[float(row[name]) for name in names] for row in table], np.float64).reshape(len(table), len(names))


def _variance_text(shares: NDArray[np.float64]) -> str:
    first = ", ".join(f"{share:.1%}" for share in shares[:2].tolist())
    return f"the first components explain {first} of the variance" if first else "no variance"
