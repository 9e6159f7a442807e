"""`.pt` layout: a tensor (n, d), as CLAM and TRIDENT write it, or a dictionary of tensors with coords.

Files are loaded with torch's `weights_only`, so that they cannot run code.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.tile_features import OWN_ATTRIBUTE, Scale, TileFeatures, not_of_tiles

NAME = "pt"
FEATURES, COORDS = ("features", "feats"), ("coords", "coordinates")
"""Keys of a dictionary that are read; the first is the one that is written."""


def read(path: Path) -> TileFeatures:
    """Read a file.

    Raises:
        FeatureFileError: the file has objects other than tensors and plain values, or no features.
    """
    content = load_pt(path)
    if not isinstance(content, dict):
        return TileFeatures(_array(path, "its content", content), None)
    features = next((content[name] for name in FEATURES if name in content), None)
    coords = next((content[name] for name in COORDS if name in content), None)
    if features is None:
        names = ", ".join(map(str, content)) or "nothing"
        raise FeatureFileError(path, f"expected a tensor, or a dictionary with 'features' and 'coords', found {names}")
    side = content.get("patch_size_level0")
    scale = Scale(tile_px_level0=(int(side), int(side)) if side else None)
    coords_array = None if coords is None else _array(path, "coords", coords)
    return TileFeatures(_array(path, "features", features), coords_array, scale=scale).with_metadata(content)


def load_pt(path: Path) -> Any:
    """Load a file without running code. Raises FeatureFileError for anything but tensors and plain values."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = "has objects other than tensors and plain values, and loading them could run code"
        raise FeatureFileError(path, f"{reason}; save the tensor alone with torch.save") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise FeatureFileError(path, f"is no readable .pt file ({error})") from error


def tensor_array(path: Path, name: str, value: Any) -> NDArray[Any]:
    """Return a tensor as an array of any shape. Raises FeatureFileError for anything else."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise FeatureFileError(path, f"{name} is a {type(value).__name__}, expected a tensor")
    if value.dtype is torch.bfloat16:
        value = value.float()  # NumPy has no bfloat16; float32 represents it exactly
    values: NDArray[Any] = value.detach().numpy()
    return values


def _array(path: Path, name: str, value: Any) -> NDArray[Any]:
    values = tensor_array(path, name, value)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise FeatureFileError(path, not_of_tiles(name, values))
    return values


def write(folder: Path, slide_id: str, tile_features: TileFeatures) -> list[Path]:
    """Write `{slide_id}.pt`: a dictionary of features (float16, as stored), coords and scale that `weights_only` can load."""
    import torch

    assert tile_features.coords is not None
    path = folder / f"{slide_id}.pt"
    tensors = {FEATURES[0]: torch.from_numpy(tile_features.features), COORDS[0]: torch.from_numpy(tile_features.coords)}
    _save(path, {**tensors, OWN_ATTRIBUTE: tile_features.metadata_json()})
    return [path]


def write_tensor(path: Path, features: NDArray[np.float32]) -> None:
    """Write features alone."""
    import torch

    _save(path, torch.from_numpy(features))


def _save(path: Path, content: object) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    torch.save(content, part)
    part.replace(path)
