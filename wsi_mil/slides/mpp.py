"""How many µm a pixel of level 0 is wide and high, and who says so."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import MissingMppError
from wsi_mil.geometry import SANE_MPP, Mpp
from wsi_mil.slides.ome import DESCRIPTIONS, ome_description

PROPERTY_PREFIXES = ("openslide", "tiffslide")

SHEET, DEFAULT = "sheet", "slide.on_missing_mpp"
"""Sources that are no property of the file."""

DISAGREEMENT = 1.1
"""Two sources that differ by more than this factor are worth a word."""

OBJECTIVE_MPP = 10.0
"""µm per pixel times magnification of the objective: 0.25 at 40×, 0.5 at 20×, as most scanners have it, but not all."""

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
"""By the unit in ImageJ's description, in small letters; it writes µ as an escape, others as a byte of Latin-1."""


@dataclass(frozen=True)
class MppGuess:
    """What may stand in where the file does not say its resolution.

    Attributes:
        from_objective: 10 µm over the magnification of the objective.
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
        notes: where another source says something else, in words.
    """

    mpp: Mpp
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    source: str
    x: float
    y: float

    @property
    def is_sane(self) -> bool:
        return all(SANE_MPP[0] <= value <= SANE_MPP[1] for value in (self.x, self.y))

    def __str__(self) -> str:
        return f"{self.x:g} × {self.y:g} µm ({self.source})"


def resolve_mpp(
    properties: Mapping[str, str], path: Path | str, *, given: Mpp | None = None, guess: MppGuess = MppGuess()
) -> Resolution:
    """Resolution of level 0 by the first source that gives numbers in `SANE_MPP`.

    In order: `given` (the sheet's `mpp` column), the reader's own property, the vendor's properties, TIFF resolution tags,
    then what `guess` allows: the objective's magnification, a default.

    Raises:
        MissingMppError: none does; the message has what was found.
    """
    found = list(_in_file(properties))
    sane = [f for f in found if f.is_sane]
    if given is not None:
        sane.insert(0, _Found(SHEET, given.x, given.y))
    if not sane and guess.from_objective:
        sane = [f for f in _by_objective(properties) if f.is_sane]
    if not sane and guess.default is not None:
        sane = [_Found(DEFAULT, guess.default, guess.default)]
    if not sane:
        said = ", ".join(dict.fromkeys([*map(str, found), *_unit_of_no_length(properties)]))
        raise MissingMppError(path, f"the file says {said}, sane is {SANE_MPP[0]:g} to {SANE_MPP[1]:g}" if said else "")
    chosen = sane[0]
    return Resolution(Mpp(chosen.x, chosen.y), chosen.source, tuple(_disagreements(chosen, sane[1:])))


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Magnification of the objective, where the file says it."""
    names = [f"{prefix}.objective-power" for prefix in PROPERTY_PREFIXES] + ["aperio.AppMag", "hamamatsu.SourceLens"]
    return next((power for power in (_number(properties.get(name)) for name in names) if power > 0), None)


def _in_file(properties: Mapping[str, str]) -> Iterator[_Found]:
    """Every resolution that a file's properties hold, the most trusted first."""
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


def _philips(properties: Mapping[str, str]) -> Iterator[_Found]:
    """DICOM pixel spacing in mm, rows first, as `"0.00025" "0.00025"`."""
    values = re.findall(r"[\d.eE+-]+", properties.get("philips.DICOM_PIXEL_SPACING", ""))
    if len(values) >= 2:
        yield from _pair("philips.DICOM_PIXEL_SPACING", "philips.DICOM_PIXEL_SPACING", values[1], values[0], 1000.0)


def _ome(properties: Mapping[str, str]) -> Iterator[_Found]:
    """Physical sizes of the first image in an OME-TIFF's description."""
    text = ome_description(properties)
    sizes = {axis: re.search(rf'\bPhysicalSize{axis}="([^"]+)"', text) for axis in "XY"}
    units = {axis: re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', text) for axis in "XY"}
    factors = {axis: OME_UNIT_UM.get(unit[1] if unit else "") for axis, unit in units.items()}
    if sizes["X"] and sizes["Y"] and factors["X"] and factors["Y"]:
        x, y = (_number(match[1]) * (factors[axis] or 0) for axis, match in sizes.items() if match)
        yield _Found("OME PhysicalSizeX, PhysicalSizeY", x, y)


def _imagej(properties: Mapping[str, str]) -> Iterator[_Found]:
    """ImageJ gives pixels per unit in the resolution tags, and the unit in its description."""
    factor = IMAGEJ_UNIT_UM.get(_imagej_unit(properties).lower())
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if factor and x > 0 and y > 0:
        yield _Found("ImageJ unit, tiff.XResolution, tiff.YResolution", factor / x, factor / y)


def _unit_of_no_length(properties: Mapping[str, str]) -> list[str]:
    unit = _imagej_unit(properties)
    return [f"unit={unit} in ImageJ's description, no length that is known"] if unit.lower() not in ("", *IMAGEJ_UNIT_UM) else []


def _imagej_unit(properties: Mapping[str, str]) -> str:
    text = next((properties[name] for name in DESCRIPTIONS if name in properties), "")
    unit = re.search(r"^unit=(.*)$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    return unit[1].strip() if unit else ""


def _tiff_tags(properties: Mapping[str, str]) -> Iterator[_Found]:
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "inch").lower())
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if unit and x > 0 and y > 0:
        yield _Found("tiff.XResolution, tiff.YResolution", unit / x, unit / y)


def _by_objective(properties: Mapping[str, str]) -> Iterator[_Found]:
    power = objective_power(properties)
    if power:
        yield _Found(f"objective power {power:g}", OBJECTIVE_MPP / power, OBJECTIVE_MPP / power)


def _pair(x_name: str, y_name: str, x: str | None, y: str | None, factor: float) -> Iterator[_Found]:
    values = _number(x) * factor, _number(y) * factor
    if any(value == value for value in values):
        yield _Found(x_name if x_name == y_name else f"{x_name}, {y_name}", *values)


def _disagreements(chosen: _Found, others: list[_Found]) -> Iterator[str]:
    for other in {(other.x, other.y): other for other in reversed(others)}.values():
        ratios = (chosen.x / other.x, chosen.y / other.y)
        if any(not 1 / DISAGREEMENT <= ratio <= DISAGREEMENT for ratio in ratios):
            yield f"sources of the resolution differ: {chosen} is used, but there is {other}"


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
