"""Feature files as other tools write them, by h5py and torch alone."""

from pathlib import Path

import h5py
import numpy as np
import torch

DIM = 6


def grid(columns: int, rows: int, step: int, left: int = 0, top: int = 0) -> np.ndarray:
    """Corners (x, y), level-0 pixels, column by column as CLAM lists them."""
    return np.array([(left + step * i, top + step * j) for i in range(columns) for j in range(rows)], np.int64)


def numbers(n: int, seed: int = 0) -> np.ndarray:
    """float32 `(n, 6)` that float16 holds."""
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float16).astype(np.float32)


def write_clam(path: Path, coords: np.ndarray, features: np.ndarray | None, **attributes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if features is not None:
            file.create_dataset("features", data=features, maxshape=(None, features.shape[1]))
        file.create_dataset("coords", data=coords.astype(np.int32), maxshape=(None, 2))
        file["coords"].attrs.update(attributes)
    return path


def write_trident(path: Path, coords: np.ndarray, features: np.ndarray, **changes: object) -> Path:
    said = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": path.stem,
        "savetodir": "/data/trident",
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords
        file["features"].attrs["encoder"] = "uni_v1"
        file["coords"].attrs.update(said)
    return path


def write_stamp(path: Path, um: np.ndarray, features: np.ndarray, **changes: object) -> Path:
    said = {
        "stamp_version": "2.3.0",
        "extractor": "ctranspath",
        "unit": "um",
        "tile_size_um": 256.0,
        "tile_size_px": 224,
        "code_hash": "abc",
        "feat_type": "tile",
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = features.astype(np.float16), um.astype(np.float32)
        file.attrs.update({key: value for key, value in said.items() if value is not None})
    return path


def write_pt(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
