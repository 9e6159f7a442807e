"""A made cohort of benchmarks/targets.py: features of tiles, and outcomes that follow the shares of two kinds of them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.geometry import Mpp
from wsi_mil.interchange import trident
from wsi_mil.interchange.tile_features import Scale, TileFeatures

DIM, LATENT, DISTANCE = 256, 8, 5.0
"""Length of a feature vector; latent directions, of which the first two are those of the two kinds; how far they are moved."""
TILE, COLUMNS = 256, 40
"""Side of a tile in level-0 pixels, and tiles of a row."""
SHARES = (0.02, 0.30)
"""Bounds of the share of each kind in a slide."""
NOISE = 0.5
"""Standard deviation of the value's noise; the signal's is near 1.1."""
CENSORED = 0.3


@dataclass(frozen=True)
class Size:
    """How large the cohort is.

    Attributes:
        patients: each has one slide.
        tiles: bounds of the number of tiles.
        folds: folds of every target.
        permuted_patients: of the cohort whose outcomes are permuted.
        permuted_seeds: number of permutations.
        training: settings that shorten every training.
    """

    patients: int = 300
    tiles: tuple[int, int] = (200, 801)
    folds: int = 3
    permuted_patients: int = 120
    permuted_seeds: int = 10
    training: Mapping[str, object] | None = None


FULL = Size()
TINY = Size(
    patients=24, tiles=(6, 13), folds=2, permuted_patients=24, permuted_seeds=2,
    training={"epochs": 1, "patience": 1, "min_epochs": 1, "cox_updates": 2},
)  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """Outcomes of patients, and the kind of each tile.

    Attributes:
        risk: `(n,)` log hazard.
        rows: cells of the sheet.
        kinds: for each slide `(n_tiles,)`: 0, or 1 and 2 for the kinds that drive the outcomes.
        ceiling: R² of the value without its noise.
    """

    risk: NDArray[np.float64]
    rows: list[dict[str, object]]
    kinds: dict[str, NDArray[np.int64]]
    ceiling: float


def write_cohort(folder: Path, size: Size, *, seed: int = 0) -> Cohort:
    """Write a file of features for each slide to `folder`, in TRIDENT's layout, and return what is known about them."""
    rng = np.random.default_rng(seed)
    n = size.patients
    shares = rng.uniform(*SHARES, size=(n, 2))
    scaled = (shares - shares.mean(axis=0)) / shares.std(axis=0)
    outcomes, ceiling = _outcomes(scaled, rng)
    kinds = {}
    rows = []
    for number in range(n):
        name = f"s{number:03d}"
        kinds[name] = _kinds(shares[number], int(rng.integers(*size.tiles)), rng)
        _write_features(folder, name, kinds[name], rng)
        rows.append({"slide_id": name, "path": "", "patient_id": f"p{number:03d}", **{k: v[number] for k, v in outcomes.items()}})
    return Cohort(_log_hazard(scaled), rows, kinds, ceiling)


def write_sheet(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the cohort sheet."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def permuted(rows: list[dict[str, object]], *, seed: int) -> list[dict[str, object]]:
    """Return rows whose outcomes belong to other patients; those of one patient stay together."""
    order = np.random.default_rng(seed).permutation(len(rows))
    keys = ("slide_id", "path", "patient_id")
    return [{**rows[other], **{key: row[key] for key in keys}} for row, other in zip(rows, order, strict=True)]


def _log_hazard(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.2 * scaled[:, 0] + 0.6 * scaled[:, 1])


def _outcomes(scaled: NDArray[np.float64], rng: np.random.Generator) -> tuple[dict[str, list[object]], float]:
    """Return the columns of the sheet, and the R² of the value without noise."""
    n = len(scaled)
    event_time = rng.exponential(36 * np.exp(-_log_hazard(scaled)))
    follow_up = rng.exponential(size=n)
    follow_up *= np.quantile(event_time / follow_up, 1 - CENSORED)
    signal = scaled[:, 0] + 0.5 * scaled[:, 1]
    value = 10 + 3 * (signal + NOISE * rng.normal(size=n))
    labels = {"one": scaled[:, 0] > 0, "two": scaled[:, 1] > 0, "both": scaled.sum(axis=1) > 0.3}
    columns = {
        "months": [f"{t:.4f}" for t in np.maximum(np.minimum(event_time, follow_up), 1e-3)],
        "died": [int(died) for died in event_time <= follow_up],
        "value": [f"{v:.4f}" for v in value],
        **{name: ["pos" if positive else "neg" for positive in own] for name, own in labels.items()},
    }
    return columns, float(np.var(signal) / (np.var(signal) + NOISE**2))


def _kinds(shares: NDArray[np.float64], n_tiles: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Kinds of a slide's tiles, in random order."""
    first, second = (max(1, round(share * n_tiles)) for share in shares)
    kinds = np.zeros(n_tiles, np.int64)
    kinds[:first], kinds[first : first + second] = 1, 2
    return rng.permutation(kinds)


def _write_features(folder: Path, name: str, kinds: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Features are mixtures of latent directions after a ReLU, as those of an encoder."""
    mixing = np.random.default_rng(99).normal(size=(LATENT, DIM)) / np.sqrt(LATENT)
    latent = rng.normal(size=(len(kinds), LATENT))
    latent[kinds == 1, 0] += DISTANCE
    latent[kinds == 2, 1] += DISTANCE
    features = np.maximum(latent @ mixing + 0.3 * rng.normal(size=(len(kinds), DIM)), 0).astype(np.float32)
    row, column = np.divmod(np.arange(len(kinds)), COLUMNS)
    coords = np.stack([column, row], axis=1) * TILE
    dimensions = (COLUMNS * TILE, (int(row.max()) + 1) * TILE)
    scale = Scale((TILE, TILE), TILE, 0.5, Mpp(0.5, 0.5), dimensions, None, (TILE, TILE), (TILE, TILE))
    trident.write(folder, name, TileFeatures(features, coords, scale=scale, encoder="made"))
