"""Weights files → networks: read safely, unpacked, renamed, and refused with the tensors that do not fit."""

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

NESTS = ("model", "state_dict", "teacher")
"""Keys under which training code stores the weights among other things."""

PREFIXES = ("module.", "backbone.", "model.", "vit.", "dinov2.")
"""Names of a network inside of which the encoder was trained."""

NOT_FEATURES = ("head.", "fc.", "classifier.", "last_linear.", "head_dist.", "dino_head.", "ibot_head.", "mask_token")
"""What stands behind the features, or for hidden places in training, and may be left over."""

MOST_NAMED = 3

SAVED_BY_TORCH = (b"PK", b"\x80")
"""Beginnings of what torch saves: a zip archive, once a pickle."""


def load_weights(
    network: nn.Module, file: Path, *, names: TensorNames, left_over: tuple[str, ...] = (), encoder: str, assign: bool = False
) -> None:
    """Load a weights file into a network.

    Args:
        network: that takes the tensors.
        file: safetensors, or a state dict that torch reads without running code.
        names: how published files of this encoder name their tensors; the network's own names are taken as well.
        left_over: beginnings of names that the file may have beside a classifier's.
        encoder: its name, for the message.
        assign: put the tensors in place of the network's own, which may be on the meta device.

    Raises:
        ConfigError: the file cannot be read, or does not fit; with the tensors that are missing, unexpected or of
            another shape.
    """
    own = network.state_dict()
    tensors = renamed(without_prefixes(unpacked(read_tensors(file), file)), names, own)
    faults = _misfits(tensors, own, (*NOT_FEATURES, *left_over))
    if faults:
        raise ConfigError([f"weights {file} are not of this encoder, {encoder}: {'; '.join(faults)}"])
    fitting = {name: value for name, value in tensors.items() if name in own}
    network.load_state_dict(fitting, strict=False, assign=assign)


def read_tensors(file: Path) -> Mapping[str, Any]:
    """What a weights file holds; pickled code is never run. Raises ConfigError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if _is_safetensors(file):
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError([f"weights {file}: no such file"]) from error
    except pickle.UnpicklingError as error:
        reason = "it is no state dict, or holds more than tensors, which is never loaded: save its state dict as safetensors"
        raise ConfigError([f"weights {file}: {reason}"]) from error
    except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError([f"weights {file}: cannot be read ({next(iter(str(error).splitlines()), '')})"]) from error
    if not isinstance(found, Mapping):
        raise ConfigError([f"weights {file}: expected a state dict (name → tensor), found {type(found).__name__}"])
    return found


def _is_safetensors(file: Path) -> bool:
    """Whether it is safetensors, whatever it is called: a length of 8 bytes, then JSON. Raises ConfigError, OSError."""
    with file.open("rb") as opened:
        begin = opened.read(40)
    if file.suffix == ".safetensors" or begin[8:9] == b"{":
        return True
    if not begin.startswith(SAVED_BY_TORCH):
        what = f"no weights file, it begins with {begin.decode('ascii', 'replace')!r}" if begin else "empty"
        raise ConfigError([f"weights {file}: the file is {what}; fetch it again"])
    return False


def unpacked(content: Mapping[str, Any], file: Path) -> Tensors:
    """The tensors of a file; where they stand under one of the usual keys among other things, those. Raises ConfigError."""
    nests = [key for key in NESTS if isinstance(content.get(key), Mapping)]
    if not nests:
        return {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if len(nests) > 1:
        raise ConfigError([f"weights {file}: holds several sets of weights ({', '.join(nests)}); save the one meant by itself"])
    return unpacked(content[nests[0]], file)


def without_prefixes(tensors: Tensors) -> Tensors:
    """Names without what most of them begin with, where they stay different without it."""
    for _ in PREFIXES:
        starts = Counter(prefix for name in tensors for prefix in PREFIXES if name.startswith(prefix))
        prefix, count = starts.most_common(1)[0] if starts else ("", 0)
        short = {name.removeprefix(prefix): value for name, value in tensors.items()}
        if 2 * count <= len(tensors) or len(short) < len(tensors):
            return tensors
        tensors = short
    return tensors


def _misfits(tensors: Tensors, own: Mapping[str, Tensor], left_over: tuple[str, ...]) -> list[str]:
    """What does not fit, in words."""
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own and not name.startswith(left_over)]
    other = [
        f"{name} {tuple(value.shape)} where {tuple(own[name].shape)} is expected"
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    return [f"{len(found)} tensor{'s' * (len(found) > 1)} {kind}: {_some(found)}" for kind, found in kinds if found]


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
