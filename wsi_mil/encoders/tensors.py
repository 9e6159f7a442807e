"""Load weights files into networks: read safely, unwrap, rename, and reject files with the tensors that do not fit."""

import pickle
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_mil.encoders.record import TensorNames
from wsi_mil.encoders.renaming import Tensors, renamed
from wsi_mil.errors import ConfigError

WRAPPER_KEYS = ("model", "state_dict", "teacher")
"""Keys under which training code stores the weights."""

PREFIXES = ("module.", "backbone.", "model.", "vit.", "dinov2.")
"""Prefixes from networks that contained the encoder in training."""

NON_FEATURE_PREFIXES = ("head.", "fc.", "classifier.", "last_linear.", "head_dist.", "dino_head.", "ibot_head.", "mask_token")
"""Prefixes of tensors that features do not depend on and a file may have: heads, mask tokens of training."""

MOST_NAMED = 3

SAVED_BY_TORCH = (b"PK", b"\x80")
"""Magic bytes of torch's files: a zip archive, formerly a pickle."""


def load_weights(
    network: nn.Module, file: Path, *, names: TensorNames, extra: tuple[str, ...] = (), encoder: str, assign: bool = False
) -> None:
    """Load a weights file into a network.

    Args:
        network: network that gets the tensors.
        file: safetensors, or a state dict that torch reads without running code.
        names: naming scheme of the encoder's published files; the network's own names are accepted as well.
        extra: prefixes of tensors that the file may have in addition to a classifier's.
        encoder: name of the encoder, for the message.
        assign: replace the network's tensors, which may be on the meta device, instead of copying into them.

    Raises:
        ConfigError: the file cannot be read, or does not fit; the message lists tensors that are missing, unexpected or of
            another shape.
    """
    own = network.state_dict()
    tensors = renamed(without_prefixes(unpacked(read_tensors(file), file)), names, own)
    faults = _misfits(tensors, own, (*NON_FEATURE_PREFIXES, *extra))
    if faults:
        raise ConfigError([f"weights {file} are not of this encoder, {encoder}: {'; '.join(faults)}"])
    fitting = {name: value for name, value in tensors.items() if name in own}
    network.load_state_dict(fitting, strict=False, assign=assign)


def read_tensors(file: Path) -> Mapping[str, Any]:
    """Read a weights file without running pickled code. Raises ConfigError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if _is_safetensors(file):
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError([f"weights {file}: no such file"]) from error
    except pickle.UnpicklingError as error:
        reason = "expected a state dict of tensors only, since other objects could run code: save its state dict as safetensors"
        raise ConfigError([f"weights {file}: {reason}"]) from error
    except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError([f"weights {file}: cannot be read ({next(iter(str(error).splitlines()), '')})"]) from error
    if not isinstance(content, Mapping):
        raise ConfigError([f"weights {file}: expected a state dict (name → tensor), found {type(content).__name__}"])
    return content


def _is_safetensors(file: Path) -> bool:
    """Whether a file is safetensors by its content: a length of 8 bytes, then JSON. Raises ConfigError, OSError."""
    with file.open("rb") as opened:
        head = opened.read(40)
    if file.suffix == ".safetensors" or head[8:9] == b"{":
        return True
    if not head.startswith(SAVED_BY_TORCH):
        what = f"no weights file, it begins with {head.decode('ascii', 'replace')!r}" if head else "empty"
        raise ConfigError([f"weights {file}: the file is {what}; download it again"])
    return False


def unpacked(content: Mapping[str, Any], file: Path) -> Tensors:
    """Return the tensors of a file, or those under one of `WRAPPER_KEYS`. Raises ConfigError."""
    nests = [key for key in WRAPPER_KEYS if isinstance(content.get(key), Mapping)]
    if not nests:
        return {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if len(nests) > 1:
        raise ConfigError([f"weights {file}: holds several sets of weights ({', '.join(nests)}); save the right one by itself"])
    return unpacked(content[nests[0]], file)


def without_prefixes(tensors: Tensors) -> Tensors:
    """Remove prefixes of `PREFIXES` that most names have, if the names stay distinct."""
    for _ in PREFIXES:
        starts = Counter(prefix for name in tensors for prefix in PREFIXES if name.startswith(prefix))
        prefix, count = starts.most_common(1)[0] if starts else ("", 0)
        short = {name.removeprefix(prefix): value for name, value in tensors.items()}
        if 2 * count <= len(tensors) or len(short) < len(tensors):
            return tensors
        tensors = short
    return tensors


def _misfits(tensors: Tensors, own: Mapping[str, Tensor], extra: tuple[str, ...]) -> list[str]:
    """Descriptions of the tensors that do not fit."""
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own and not name.startswith(extra)]
    other = [
        f"{name} {tuple(value.shape)}, expected {tuple(own[name].shape)}"
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    return [f"{len(names)} tensor{'s' * (len(names) > 1)} {kind}: {_some(names)}" for kind, names in kinds if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
