"""Resolution of level 0 in µm per pixel, with its source."""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import MissingMppError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.ome import DESCRIPTIONS, ome_description
from wsi_mil.units import SANE_MPP

PROPERTY_PREFIXES = ("openslide", "tiffslide")

SHEET, DEFAULT = "sheet", "slide.on_missing_mpp"
"""Names of the sources that are no property of the file."""

DISAGREEMENT = 1.1
"""Factor by which two sources may differ without a note."""

OBJECTIVE_MPP = 10.0
"""µm per pixel times magnification of the objective: 0.25 at 40×, 0.5 at 20×, as in most scanners."""

UNIT_UM = {"inch": 25_400.0, "centimeter": 10_000.0, "centimetre": 10_000.0, "2": 25_400.0, "3": 10_000.0}
OME_UNIT_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "": 1.0}

IMAGEJ_UNIT_UM = {
    **dict.fromkeys(
        ("µm", "μm", "um", "micron", "microns", "micrometer", "micrometers", "micrometre", "\\u00b5m", "\ufffdm", "\udcb5m"), 1.0
    ),
    **dict.fromkeys(("inch", "inches", "in", '"'), 25_400.0),
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
}
"""µm by the lower-case unit in ImageJ's description; it writes µ as an escape, other tools as a byte of Latin-1."""


@dataclass(frozen=True)
class MppGuess:
    """Fallbacks for a file without a resolution.

    Attributes:
        from_objective: whether to use 10 µm divided by the magnification of the objective.
        default: µm per pixel, or None.
    """

    from_objective: bool = False
    default: float | None = None


@dataclass(frozen=True)
class Resolution:
    """Resolution of a slide's level 0.

    Attributes:
        mpp: µm per pixel.
        source: `sheet`, the names of the properties, or `slide.on_missing_mpp`.
        notes: disagreements between sources, one sentence each.
    """

    mpp: Mpp
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    source: str
    x: float
    y: float

    @property
    def is_sane(self) -> bool:
        return all(SANE_MPP[0] <= value <= SANE_MPP[1] for value in (self.x, self.y))

    def __str__(self) -> str:
        return f"{self.x:g} × {self.y:g} µm ({self.source})"


def resolve_mpp(
    properties: Mapping[str, str], path: Path | str, *, mpp_override: Mpp | None = None, guess: MppGuess = MppGuess()
) -> Resolution:
    """Return the resolution of level 0 from the first source with values in `SANE_MPP`.

    Sources in order: `mpp_override` (the sheet's `mpp` column), the reader's own property, the vendor's properties, TIFF
    resolution tags, then the fallbacks that `guess` allows: the objective's magnification, a default.

    Raises:
        MissingMppError: no source has such values; the message lists the values of the file.
    """
    candidates = list(_file_candidates(properties))
    sane = [candidate for candidate in candidates if candidate.is_sane]
    if mpp_override is not None:
        sane.insert(0, _Candidate(SHEET, mpp_override.x, mpp_override.y))
    if not sane and guess.from_objective:
        sane = [candidate for candidate in _objective_candidates(properties) if candidate.is_sane]
    if not sane and guess.default is not None:
        sane = [_Candidate(DEFAULT, guess.default, guess.default)]
    if not sane:
        values = ", ".join(dict.fromkeys([*map(str, candidates), *_unknown_unit(properties)]))
        expected = f"expected {SANE_MPP[0]:g} to {SANE_MPP[1]:g}"
        raise MissingMppError(path, f"the file has {values}, {expected}" if values else "")
    best = sane[0]
    return Resolution(Mpp(best.x, best.y), best.source, tuple(_disagreements(best, sane[1:])))


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Return the magnification of the objective; None if the file does not have it."""
    names = [f"{prefix}.objective-power" for prefix in PROPERTY_PREFIXES] + ["aperio.AppMag", "hamamatsu.SourceLens"]
    return next((power for power in (_number(properties.get(name)) for name in names) if power > 0), None)


def _file_candidates(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    """Every resolution in a file's properties, the most reliable first."""
    pairs = [(f"{prefix}.mpp-x", f"{prefix}.mpp-y", 1.0) for prefix in PROPERTY_PREFIXES]
    pairs += [("aperio.MPP", "aperio.MPP", 1.0), ("ventana.ScanRes", "ventana.ScanRes", 1.0)]
    mirax = "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_"
    spacing = "dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing"
    pairs += [(f"{mirax}X", f"{mirax}Y", 1.0), (f"{spacing}[1]", f"{spacing}[0]", 1000.0)]
    for x_name, y_name, factor in pairs:
        yield from _pair(x_name, y_name, properties.get(x_name), properties.get(y_name), factor)
    yield from _philips(properties)
    yield from _ome(properties)
    yield from _imagej(properties)
    yield from _tiff_tags(properties)


def _philips(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    """DICOM pixel spacing in mm, rows first, as `"0.00025" "0.00025"`."""
    values = re.findall(r"[\d.eE+-]+", properties.get("philips.DICOM_PIXEL_SPACING", ""))
    if len(values) >= 2:
        yield from _pair("philips.DICOM_PIXEL_SPACING", "philips.DICOM_PIXEL_SPACING", values[1], values[0], 1000.0)


def _ome(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    """Physical sizes of the first image in an OME-TIFF's description."""
    text = ome_description(properties)
    sizes = {axis: re.search(rf'\bPhysicalSize{axis}="([^"]+)"', text) for axis in "XY"}
    units = {axis: re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', text) for axis in "XY"}
    factors = {axis: OME_UNIT_UM.get(html.unescape(unit[1]) if unit else "") for axis, unit in units.items()}
    if sizes["X"] and sizes["Y"] and factors["X"] and factors["Y"]:
        x, y = (_number(match[1]) * (factors[axis] or 0) for axis, match in sizes.items() if match)
        yield _Candidate("OME PhysicalSizeX, PhysicalSizeY", x, y)


def _imagej(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    """ImageJ stores pixels per unit in the resolution tags, and the unit in its description."""
    factor = IMAGEJ_UNIT_UM.get(_imagej_unit(properties).lower())
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if factor and x > 0 and y > 0:
        yield _Candidate("ImageJ unit, tiff.XResolution, tiff.YResolution", factor / x, factor / y)


def _unknown_unit(properties: Mapping[str, str]) -> list[str]:
    unit = _imagej_unit(properties)
    return (
        [f"unit={unit} in ImageJ's description, which is no known unit of length"]
        if unit.lower() not in ("", *IMAGEJ_UNIT_UM)
        else []
    )


def _imagej_unit(properties: Mapping[str, str]) -> str:
    text = next((properties[name] for name in DESCRIPTIONS if name in properties), "")
    unit = re.search(r"^unit=(.*)$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    return unit[1].strip() if unit else ""


def _tiff_tags(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "inch").lower())
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if unit and x > 0 and y > 0:
        yield _Candidate("tiff.XResolution, tiff.YResolution", unit / x, unit / y)


def _objective_candidates(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    power = objective_power(properties)
    if power:
        yield _Candidate(f"objective power {power:g}", OBJECTIVE_MPP / power, OBJECTIVE_MPP / power)


def _pair(x_name: str, y_name: str, x: str | None, y: str | None, factor: float) -> Iterator[_Candidate]:
    values = _number(x) * factor, _number(y) * factor
    if any(value == value for value in values):
        yield _Candidate(x_name if x_name == y_name else f"{x_name}, {y_name}", *values)


def _disagreements(used: _Candidate, others: list[_Candidate]) -> Iterator[str]:
    for other in {(other.x, other.y): other for other in reversed(others)}.values():
        ratios = (used.x / other.x, used.y / other.y)
        if any(not 1 / DISAGREEMENT <= ratio <= DISAGREEMENT for ratio in ratios):
            yield f"sources of the resolution differ: {used} is used, but the file also has {other}"


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
