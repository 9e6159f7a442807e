"""How many µm a pixel of level 0 is wide and high, and who says so."""

from collections.abc import Mapping
from pathlib import Path

from wsi_mil.errors import MissingMppError
from wsi_mil.geometry import SANE_MPP, Mpp

PROPERTY_PREFIXES = ("openslide", "tiffslide")


def resolve_mpp(override: float | None, properties: Mapping[str, str], path: Path) -> tuple[Mpp, str]:
    """Resolution of level 0 and its source: the sheet's `mpp` column, else what the reader found in the file.

    Raises:
        MissingMppError: neither gives a number in `SANE_MPP`.
    """
    if override is not None:
        return Mpp(override, override), "sheet"
    found = "no mpp in the file"
    for prefix in PROPERTY_PREFIXES:
        pair = tuple(_number(properties.get(f"{prefix}.mpp-{axis}")) for axis in "xy")
        if all(SANE_MPP[0] <= value <= SANE_MPP[1] for value in pair):
            return Mpp(*pair), f"{prefix}.mpp-x, {prefix}.mpp-y"
        if any(value == value for value in pair):
            found = f"the file says {pair[0]:g} × {pair[1]:g} µm, sane is {SANE_MPP[0]:g} to {SANE_MPP[1]:g}"
    raise MissingMppError(path, found)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
