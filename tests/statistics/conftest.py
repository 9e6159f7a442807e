"""Feature stores on disk, slides of different size with some corrupt tiles."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wsi_mil.store import FeatureStore

Slides = Mapping[str, np.ndarray]


def write_features(folder: Path, slides: Slides, *, corrupt: int = 0) -> Path:
    """Stores of `slides` (float16, n × d); before each valid tile of the first `corrupt` stands a corrupt one, a zero row."""
    for slide_id, features in slides.items():
        at = np.repeat(np.arange(len(features)), np.where(np.arange(len(features)) < corrupt, 2, 1))
        valid = np.append(at[1:] != at[:-1], True)
        rows = np.where(valid[:, None], features[at], 0).astype(np.float16)
        coords = np.stack([np.arange(len(rows)) * 224, np.full(len(rows), 7)], axis=1)
        with FeatureStore(folder / f"{slide_id}.zarr", coords=coords, batch_size=64, attributes={"fingerprint": "f"}) as store:
            store.begin(rows.shape[1])
            while not store.is_complete:
                part = slice(store.rows_done, store.rows_done + store.shard_rows)
                store.append_shard(rows[part], valid[part])
    return folder


def drawn_slides(n: int, *, dim: int = 12, seed: int = 0, largest: int = 400) -> dict[str, np.ndarray]:
    """Slides of 3 to `largest` tiles, each with a mean of its own, features that are correlated and far from zero."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim))
    found = {}
    for number in range(n):
        size = int(rng.integers(3, largest))
        values = rng.normal(size=(size, dim)) @ mixing + rng.normal(scale=0.5, size=dim) + 20
        found[f"s{number}"] = values.astype(np.float16)
    return found
