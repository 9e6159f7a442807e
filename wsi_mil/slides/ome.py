"""Images of an OME-TIFF as listed in its OME-XML description."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from wsi_mil.slides.format import counted

DESCRIPTIONS = ("tiff.ImageDescription", "openslide.comment", "tiffslide.comment")
ASSOCIATED = re.compile("label|macro|overview|thumbnail|barcode", re.IGNORECASE)
"""Names of associated images, which are left out without a note."""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME-TIFF.

    Attributes:
        dimensions: (width, height).
        name: name of the image in the description.
        channels: samples per pixel over all channels; an RGB image has three.
        planes: number of focal planes.
        times: number of time points.
        file: UUID of the file that holds its first plane; "" if the description has none.
    """

    dimensions: tuple[int, int]
    name: str
    channels: int
    planes: int
    times: int
    file: str


@dataclass(frozen=True)
class Ome:
    """Images of an OME-TIFF, in the order of its description.

    Attributes:
        images: the images, at least one.
        file: UUID of this file, or "".
    """

    images: tuple[OmeImage, ...]
    file: str = ""


def ome_description(properties: Mapping[str, str]) -> str:
    """Return the OME-XML in a slide's properties; "" if there is none."""
    text = next((properties[name] for name in DESCRIPTIONS if name in properties), "")
    return text if is_ome(text) else ""


def is_ome(text: str) -> bool:
    """Return whether a description is OME-XML, with or without a namespace prefix."""
    return re.search(r"<(?:\w+:)?OME\b", text) is not None


def ome_of(text: str) -> Ome | None:
    """Parse OME-XML; None if it is no XML, or lists no image (`BinaryOnly`: the description is in another file)."""
    try:
        root = ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    images = tuple(image for element in _named(root, "Image") if (image := _image(element)))
    return Ome(images, root.get("UUID", "")) if images else None


def ome_fault(ome: Ome, samples_per_pixel: int) -> str:
    """Return why the first page of an OME-TIFF, which readers show, is not the slide in colour; "" if it is.

    Args:
        ome: description of the file.
        samples_per_pixel: samples per pixel of the first page.
    """
    first = ome.images[0]
    if math.prod(first.dimensions) < max(math.prod(image.dimensions) for image in ome.images):
        return "an OME-TIFF whose first image is not its largest (a label or macro?); save the slide as a file of its own"
    if first.channels > samples_per_pixel:
        return "an OME-TIFF of several channels; readers show the first alone, so save it as one RGB image"
    if first.file and ome.file and first.file != ome.file:
        return "an OME-TIFF whose first image lies in another file of its set; name that file, or save the slide as one file"
    return ""


def ome_notes(ome: Ome) -> list[str]:
    """Return notes on the content of an OME-TIFF beside the first plane of its first image."""
    first = ome.images[0]
    others = [image for image in ome.images[1:] if not ASSOCIATED.search(image.name)]
    same = sum(image.dimensions == first.dimensions for image in others)
    counts = [
        (same, "further image of the same size", "further images of the same size"),
        (len(others) - same, "further image of another size", "further images of other sizes"),
        (first.planes - 1, "further focal plane", ""),
        (first.times - 1, "further time point", ""),
    ]
    return [f"{counted(n, what, plural)} in the file not read" for n, what, plural in counts if n > 0]


def _image(element: Element) -> OmeImage | None:
    pixels = next(_named(element, "Pixels"), None)
    if pixels is None:
        return None
    width, height, planes, times, samples = (_size(pixels, axis) for axis in "XYZTC")
    file = next((uuid.text or "" for data in _named(pixels, "TiffData") for uuid in _named(data, "UUID")), "")
    channels = samples if "SizeC" in pixels.keys() else len(list(_named(pixels, "Channel")))  # noqa: SIM118
    return OmeImage((width, height), element.get("Name", ""), channels, planes, times, file.strip())


def _size(pixels: Element, axis: str) -> int:
    text = pixels.get(f"Size{axis}", "1")
    return int(text) if text.isdecimal() else 1


def _named(element: Element, name: str) -> Iterator[Element]:
    """Descendants of that name, whatever their namespace."""
    return (child for child in element.iter() if str(child.tag).rpartition("}")[2] == name)
