"""Mean and variance of the features of each slide, read once and kept for the other folds and targets."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wsi_mil.errors import EmptyBagError, NotFiniteError
from wsi_mil.files import exclusive, write_bytes
from wsi_mil.models.mean_linear import LEAST_VARIANCE
from wsi_mil.receipts import fingerprint, store_path
from wsi_mil.store import FeatureRows, feature_attributes

Array = NDArray[np.float64]

VERSION = 1
"""Of the files; raised where they would have other numbers."""
ROWS = 128
"""Rows that are summed at once, few enough for a core's cache and for the digits of float32."""
FEATURES, N = "features", "n"
"""Keys in a file's header: fingerprint of the slide's features, and number of its tiles."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of the features of one bag.

    Attributes:
        n: number of tiles.
        mean: float64 `(dim,)`.
        variance: float64 `(dim,)`, of the population.
    """

    n: int
    mean: Array
    variance: Array

    @classmethod
    def of(cls, blocks: Iterable[NDArray[np.floating]]) -> Self:
        """Return the statistics of tiles that come in blocks `(any number, dim)`.

        Sums over a few rows are in float32, the sum of these in float64, in half the time that float64 takes throughout. They are
        of differences from the first tile, so that a mean far from zero takes no digits from the variance.
        """
        n, sums, squares, first = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), None
        for block in blocks:
            tiles = torch.from_numpy(block)
            for start in range(0, len(tiles), ROWS):
                rows = tiles[start : start + ROWS]
                first = rows[0].float() if first is None else first
                differences = rows.float() - first
                n, sums = n + len(rows), sums + differences.sum(dim=0)
                squares = squares + differences.square_().sum(dim=0)
        shift, variance = sums / max(n, 1), squares / max(n, 1) - (sums / max(n, 1)).square()
        mean = shift if first is None else first.double() + shift
        return cls(n, mean.numpy(), variance.clamp_min(0).numpy())

    @classmethod
    def together(cls, parts: Sequence["FeatureStatistics"]) -> Self:
        """Return the statistics of the tiles of several slides, as of one bag."""
        n = sum(part.n for part in parts)
        mean = sum(part.n / n * part.mean for part in parts)
        variance = sum(part.n / n * (part.variance + (part.mean - mean) ** 2) for part in parts)
        return cls(n, np.asarray(mean), np.asarray(variance))

    @property
    def deviation(self) -> Array:
        """Standard deviations `(dim,)`, as the network has them."""
        return np.sqrt(np.where(self.variance > LEAST_VARIANCE, self.variance, 0))


def statistics_of_bag(bag_id: str, receipts: Sequence[Path], kept: Path | None) -> FeatureStatistics:
    """Return the statistics of the bag of one or more slides.

    Args:
        bag_id: the bag, for messages.
        receipts: of `extract`, of its slides.
        kept: folder with the files of slides that were read before, to which others are added; None: every slide is read.

    Raises:
        EmptyBagError: no slide has a valid tile.
        NotFiniteError: a slide has features that are not finite.
    """
    parts = [part for part in (_of_slide(receipt, kept) for receipt in receipts) if part.n]
    if not parts:
        raise EmptyBagError(bag_id)
    return parts[0] if len(parts) == 1 else FeatureStatistics.together(parts)


def _of_slide(receipt: Path, kept: Path | None) -> FeatureStatistics:
    """Statistics of a slide, from its file or else from its features."""
    if kept is None:
        return _read_features(receipt)
    stamp = _stamp(receipt)
    file = kept / f"{receipt.stem}.safetensors"
    found = _read(file, stamp)
    if found is None:
        with exclusive(file):  # another fold may be reading the same slide: it is waited for
            found = _read(file, stamp)
            if found is None:
                found = _read_features(receipt)
                header = {FEATURES: stamp, N: str(found.n)}
                write_bytes(file, save({"mean": found.mean, "variance": found.variance}, metadata=header))
    return found


def _read_features(receipt: Path) -> FeatureStatistics:
    rows = FeatureRows(receipt)
    found = FeatureStatistics.of(rows.blocks())
    if not np.isfinite(found.mean).all():
        raise NotFiniteError(rows.slide_id, features_are_finite=False)
    return found


def _stamp(receipt: Path) -> str:
    """Fingerprint of the features of a slide: of what they were made from, and of their bytes."""
    attributes = feature_attributes(store_path(receipt))
    digests = hashlib.sha256(json.dumps(attributes.get("shard_digests")).encode()).hexdigest()
    return fingerprint({"features": attributes["fingerprint"], "digests": digests, "version": VERSION})


def _read(file: Path, stamp: str) -> FeatureStatistics | None:
    """Statistics in a file; None if there is none, it is damaged, or its features were others."""
    try:
        with safe_open(file, framework="np") as opened:
            header = opened.metadata()
            if header[FEATURES] != stamp:
                return None
            return FeatureStatistics(int(header[N]), opened.get_tensor("mean"), opened.get_tensor("variance"))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError):
        return None
