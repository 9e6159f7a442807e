"""Channels, focal planes and time points that OpenSlide does not show, detected by the vendors' properties."""

import re
from collections.abc import Iterator, Mapping

from wsi_mil.slides.format import counted

FOCAL_PLANES = (
    "dicom.TotalPixelMatrixFocalPlanes",
    "dicom.NumberOfFocalPlanes",
    "hamamatsu.NoLayers",
    "ventana.Z-layers",
    "zeiss.Information.Image.SizeZ",
)
TIME_POINTS = ("zeiss.Information.Image.SizeT",)
CHANNELS = ("dicom.NumberOfOpticalPaths", "zeiss.Information.Image.SizeC")
MIRAX_LAYERS = re.compile(r"mirax\.HIERARCHICAL\.(HIER|NONHIER)_(\d+)_NAME")
MIRAX_CHANNELS, MIRAX_PLANES = "slide filter level", "microscope focus level"
OPTICAL_PATH = re.compile(r"dicom\.OpticalPathSequence\[(\d+)\]")


def channel_fault(properties: Mapping[str, str]) -> str:
    """Return why the image that OpenSlide shows is only one of several channels; "" if it is the slide in colour."""
    optical_paths = {match[1] for name in properties if (match := OPTICAL_PATH.match(name))}
    n = max(_most(properties, CHANNELS), _mirax(properties, MIRAX_CHANNELS), len(optical_paths))
    if n > 1:
        return f"holds {n} channels (fluorescence?), of which not all are shown; save it as one RGB image of 8 bits per channel"
    return ""


def unread_notes(properties: Mapping[str, str]) -> Iterator[str]:
    """Yield notes on focal planes, time points and full-resolution data that are not read."""
    if properties.get("dicom.ImageType[3]") == "RESAMPLED":
        yield "its DICOM file of full resolution is missing: the finest level is a reduced one"
    planes = max(_most(properties, FOCAL_PLANES), _mirax(properties, MIRAX_PLANES))
    for n, what in ((planes, "further focal plane"), (_most(properties, TIME_POINTS), "further time point")):
        if n > 1:
            yield f"{counted(n - 1, what)} in the file not read"


def _most(properties: Mapping[str, str], names: tuple[str, ...]) -> int:
    return max((int(text) for name in names if (text := properties.get(name, "").strip()).isdecimal()), default=1)


def _mirax(properties: Mapping[str, str], layer: str) -> int:
    """Number of levels of a MIRAX slide's layer."""
    counts = [
        _most(properties, (name.removesuffix("NAME") + "COUNT",))
        for name, text in properties.items()
        if MIRAX_LAYERS.fullmatch(name) and text.strip().lower() == layer
    ]
    return max(counts, default=1)
