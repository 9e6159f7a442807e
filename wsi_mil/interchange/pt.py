"""`.pt` files: a tensor (n, d), as CLAM and TRIDENT write it, or a dictionary of tensors with its coords.

They are loaded with torch's `weights_only`, so that a file cannot run code.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.tile_features import OWN, Scale, TileFeatures

NAME = "pt"
FEATURES, COORDS = ("features", "feats"), ("coords", "coordinates")
"""What a dictionary may call them; the first is what we write."""


def read(path: Path) -> TileFeatures:
    """What a file holds.

    Raises:
        FeatureFileError: it holds anything but tensors and plain values, or no features.
    """
    content = _loaded(path)
    if not isinstance(content, dict):
        return TileFeatures(_array(path, "its content", content), None)
    features = next((content[name] for name in FEATURES if name in content), None)
    coords = next((content[name] for name in COORDS if name in content), None)
    if features is None:
        names = ", ".join(map(str, content)) or "nothing"
        raise FeatureFileError(path, f"holds {names}; expected a tensor, or 'features' and 'coords'")
    side = content.get("patch_size_level0")
    scale = Scale(tile_px_level0=(int(side), int(side)) if side else None)
    placed = None if coords is None else _array(path, "coords", coords)
    return TileFeatures(_array(path, "features", features), placed, scale=scale).with_own(content)


def _loaded(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = "it holds more than tensors and plain values, and loading it could run code"
        raise FeatureFileError(path, f"refused: {reason}; save the tensor alone with torch.save") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise FeatureFileError(path, f"no readable .pt file ({error})") from error


def _array(path: Path, name: str, value: Any) -> NDArray[Any]:
    import torch

    if not isinstance(value, torch.Tensor):
        raise FeatureFileError(path, f"{name} is a {type(value).__name__}, expected a tensor")
    if value.dtype is torch.bfloat16:
        value = value.float()  # NumPy knows no bfloat16; float32 holds it
    values: NDArray[Any] = value.detach().numpy()
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise FeatureFileError(path, f"{name} has shape {values.shape}, expected (tiles, numbers)")
    return values


def write(folder: Path, slide_id: str, found: TileFeatures) -> list[Path]:
    """Write `{slide_id}.pt`: a dictionary with features (float16, as stored), coords and scale, which `weights_only` loads."""
    import torch

    assert found.coords is not None
    path = folder / f"{slide_id}.pt"
    tensors = {FEATURES[0]: torch.from_numpy(found.features), COORDS[0]: torch.from_numpy(found.coords)}
    _save(path, {**tensors, OWN: found.own_json()})
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
