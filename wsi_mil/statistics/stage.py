"""Stage `statistics`: all feature stores of an encoder entry → mean, variance, principal components, and who lies where."""

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
from wsi_mil.store import FeatureRows, feature_dim, write_whole

log = logging.getLogger(__name__)

STAGE_VERSION = 1
AT_ONCE_BYTES = 512 << 20
"""Of covariances of slides that are worked on side by side, on machines of many cores."""

MAX_SAMPLED = 20_000
"""Tiles that are sampled in the whole cohort, however many slides there are; one a slide at least."""

SLIDES, TILES = ".slides.csv", ".tiles.csv"
"""What the tables beside the receipt are called."""


@dataclass(frozen=True)
class CohortProjections:
    """Where slides and some of their tiles lie on the first components.

    Attributes:
        about: the receipt.
        shares: `(k,)` of the total variance, of each component.
        slide_ids: slides, sorted.
        slides: `(n_slides, k)`, means of their tiles.
        tile_slides: slide of each sampled tile.
        tiles: `(n_tiles, k)`.
    """

    about: dict[str, Any]
    shares: tuple[float, ...]
    slide_ids: tuple[str, ...]
    slides: NDArray[np.float64]
    tile_slides: tuple[str, ...]
    tiles: NDArray[np.float64]


@dataclass
class _Part:
    """Some slides: moments in which each has a weight of 1, and number of tiles and mean of each."""

    moments: Moments
    n_tiles: list[int]
    means: list[NDArray[np.float64]]


def write_statistics(slide_ids: Iterable[str], features: Path, settings: Statistics, receipt: Path, *, threads: int) -> None:
    """Write the receipt, and beside it a store (mean, variance, components, means of slides) and tables of projections.

    Every slide has the same weight, whatever its number of tiles. No more than a few blocks of tiles and a few covariances
    are in memory at once, however large slides and cohort; what grows with the cohort is one mean for each slide. BLAS must
    be held to one thread: slides are what runs side by side, and the numbers do not depend on how many do.

    Args:
        slide_ids: slides to count, in any order.
        features: folder with their receipts of `extract`.
        settings: number of components, sampled tiles.
        receipt: JSON to write, last.
        threads: slides worked on at once, fewer where their covariances would take more than `AT_ONCE_BYTES`.

    Raises:
        StoreMismatchError: features of different lengths.
        NotFiniteError: a slide has features that are no numbers; with the first tile.
        EmptyBagError: a slide has no valid tile.
    """
    ids = sorted(slide_ids)
    receipts = [features / f"{slide_id}.json" for slide_id in ids]
    dim = _common_dim(receipts)
    at_once = min(threads, max(1, AT_ONCE_BYTES // (8 * dim**2 or 1)))
    whole = _reduced(receipts, at_once) if ids else _nothing(dim)
    covariance = whole.moments.covariance
    components = principal_components(covariance, settings.components)
    means = np.array(whole.means).reshape(len(ids), dim)
    each = max(1, min(settings.tiles_per_slide, MAX_SAMPLED // max(1, len(ids)))) if settings.tiles_per_slide else 0
    sampled = _sampled(receipts, components, whole.moments.mean, (each, settings.seed), threads)
    variance = np.diag(covariance).copy()
    store = {"mean": whole.moments.mean, "variance": variance, "components": components.directions, "slide_means": means}
    digests = _write_tables(receipt, ids, whole.n_tiles, components.of(means, whole.moments.mean), sampled)
    write_whole(store_path(receipt), {name: np.ascontiguousarray(a) for name, a in store.items()}, {"slides": ids})
    total, between = float(variance.sum()), float(means.var(axis=0).sum()) if ids else 0.0
    content = {
        "stage_version": STAGE_VERSION,
        "settings": settings.model_dump(mode="json"),
        "n_slides": len(ids),
        "n_tiles": sum(whole.n_tiles),
        "n_sampled": sum(len(coords) for coords, _ in sampled),
        "dim": dim,
        "weights": "each slide the same, shared evenly by its tiles",
        "total_variance": total,
        "between_slides": between / total if total else None,
        "explained": components.shares.tolist(),
        "digests": {**{name: array_digest(a) for name, a in store.items()}, **digests},
    }
    write_receipt(receipt, content)
    log.info("%d slides, %d tiles: %s", len(ids), content["n_tiles"], _in_words(components.shares))


def read_projections(receipt: Path) -> CohortProjections:
    """What `write_statistics` wrote of slides and sampled tiles."""
    about = read_receipt(receipt)
    shares = tuple(float(share) for share in about["explained"])
    names = [f"pc{i + 1}" for i in range(len(shares))]
    slides, tiles = read_table(receipt.with_suffix(SLIDES)), read_table(receipt.with_suffix(TILES))
    return CohortProjections(
        about,
        shares,
        tuple(row["slide_id"] for row in slides),
        _columns(slides, names),
        tuple(row["slide_id"] for row in tiles),
        _columns(tiles, names),
    )


def _common_dim(receipts: Sequence[Path]) -> int:
    """Length of all slides' feature vectors; 0 of no slides."""
    dims = [feature_dim(receipt) for receipt in receipts]
    for receipt, dim in zip(receipts, dims, strict=True):
        if dim != dims[0]:
            raise StoreMismatchError(
                store_path(receipt), f"has features of {dim} numbers, {store_path(receipts[0])} of {dims[0]}; run `extract` again"
            )
    return dims[0] if dims else 0


def _reduced(receipts: Sequence[Path], threads: int) -> _Part:
    """All slides, joined one after the other: always in the same order, whoever is ready first.

    A slide begins only when the one `threads + 1` before it is joined, so that no more of them can wait, however many there
    are. Joined in pairs and pairs of pairs, more would wait the more slides there are.
    """
    ahead, last = threads + 1, len(receipts) - 1
    graph: dict[Any, Any] = {("joined", -1): (_nothing, feature_dim(receipts[0]))}
    for i, receipt in enumerate(receipts):
        graph["begun", i] = (_ready, ("joined", max(-1, i - ahead)))
        graph["slide", i] = (_slide_part, receipt, ("begun", i))
        graph["joined", i] = (_joined, ("joined", i - 1), ("slide", i))
    return run_graph(graph, ("joined", last), threads=threads)  # type: ignore[no-any-return]


def _nothing(dim: int) -> _Part:
    return _Part(Moments.nothing(dim), [], [])


def _ready(_part: _Part) -> None:
    """That a part is there; the part itself stays where it is."""


def _slide_part(receipt: Path, _begun: None) -> _Part:
    """One slide, begun when its turn has come."""
    rows = FeatureRows(receipt)
    if not len(rows):
        raise EmptyBagError(rows.slide_id)
    moments = Moments.nothing(rows.dim)
    done = 0
    for block in rows.blocks():
        are_finite = np.isfinite(block).all(axis=1)
        if not are_finite.all():
            tile = rows.place(done + int(are_finite.argmin()))
            raise NotFiniteError(rows.slide_id, features_are_finite=False, tile=tile)
        moments.add_block(block)
        done += len(block)
    moments.weigh_as_one()
    return _Part(moments, [len(rows)], [moments.mean])


def _joined(first: _Part, second: _Part) -> _Part:
    """The first, and the second taken in; neither is changed, since a step may be done again where a worker died."""
    moments = replace(first.moments, scatter=first.moments.scatter.copy()).add(second.moments)
    return _Part(moments, first.n_tiles + second.n_tiles, first.means + second.means)


def _sampled(
    receipts: Sequence[Path], components: Components, mean: NDArray[np.float64], draw: tuple[int, int], threads: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Coords `(m, 2)` and projections `(m, k)` of some tiles of each slide; `draw` is how many at most, and the seed."""
    return parallel_map(partial(_sample, components, mean, draw), receipts, threads=threads)


def _sample(
    components: Components, mean: NDArray[np.float64], draw: tuple[int, int], receipt: Path
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of one slide."""
    rows, (most, seed) = FeatureRows(receipt), draw
    own = int.from_bytes(hashlib.sha256(rows.slide_id.encode()).digest()[:8], "big")  # so that no slide moves another's
    numbers = np.sort(np.random.default_rng([seed, own]).choice(len(rows), min(most, len(rows)), replace=False))
    return rows.coords[numbers], components.of(rows.at(numbers), mean)


def _write_tables(
    receipt: Path,
    ids: Sequence[str],
    n_tiles: Sequence[int],
    slides: NDArray[np.float64],
    sampled: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> dict[str, str]:
    """Write the tables, and tell their digests."""
    names = [f"pc{i + 1}" for i in range(slides.shape[1])]
    of_slides = [[i, n, *_texts(row)] for i, n, row in zip(ids, n_tiles, slides, strict=True)]
    of_tiles = [
        [slide_id, *corner, *_texts(row)]
        for slide_id, (coords, rows) in zip(ids, sampled, strict=True)
        for corner, row in zip(coords.tolist(), rows, strict=True)
    ]
    slides_csv, tiles_csv = receipt.with_suffix(SLIDES), receipt.with_suffix(TILES)
    write_table(slides_csv, ["slide_id", "n_tiles", *names], of_slides)
    write_table(tiles_csv, ["slide_id", "x", "y", *names], of_tiles)
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (("slides", slides_csv), ("tiles", tiles_csv))}


def _texts(row: NDArray[np.float64]) -> list[str]:
    return [f"{value:.7g}" for value in row.tolist()]


def _columns(table: Sequence[dict[str, str]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[float(row[name]) for name in names] for row in table], np.float64).reshape(len(table), len(names))


def _in_words(shares: NDArray[np.float64]) -> str:
    first = ", ".join(f"{share:.1%}" for share in shares[:2].tolist())
    return f"the first components explain {first} of the variance" if first else "no variance"
