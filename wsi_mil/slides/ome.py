"""What the description of an OME-TIFF says of its images."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from wsi_mil.slides.format import counted

DESCRIPTIONS = ("tiff.ImageDescription", "openslide.comment", "tiffslide.comment")
ASSOCIATED = re.compile("label|macro|overview|thumbnail|barcode", re.IGNORECASE)
"""Names of images that are no scenes; nobody misses them."""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME-TIFF.

    Attributes:
        dimensions: (width, height).
        name: as the file has it.
        channels: samples of a pixel, over all channels; an RGB image has three.
        planes: along z.
        times: time points.
        file: UUID of the file that its first plane lies in, or "" where the description names none.
    """

    dimensions: tuple[int, int]
    name: str
    channels: int
    planes: int
    times: int
    file: str


@dataclass(frozen=True)
class Ome:
    """The images of an OME-TIFF, in the order of its description.

    Attributes:
        images: at least one.
        file: UUID of this file, or "".
    """

    images: tuple[OmeImage, ...]
    file: str = ""


def ome_description(properties: Mapping[str, str]) -> str:
    """The OME-XML in a slide's properties; "" where there is none."""
    text = next((properties[name] for name in DESCRIPTIONS if name in properties), "")
    return text if is_ome(text) else ""


def is_ome(text: str) -> bool:
    """Whether a description is OME-XML, with or without a prefix before its names."""
    return re.search(r"<(?:\w+:)?OME\b", text) is not None


def ome_of(text: str) -> Ome | None:
    """What OME-XML says; None where it is no XML, or names no image (`BinaryOnly`: the description lies in another file)."""
    try:
        root = ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    images = tuple(image for element in _named(root, "Image") if (image := _image(element)))
    return Ome(images, root.get("UUID", "")) if images else None


def ome_fault(ome: Ome, samples_per_pixel: int) -> str:
    """Why the first page of an OME-TIFF, which is what readers show, is not its slide in colour; "" where it is.

    Args:
        ome: its description.
        samples_per_pixel: of the first page.
    """
    first = ome.images[0]
    if math.prod(first.dimensions) < max(math.prod(image.dimensions) for image in ome.images):
        return "an OME-TIFF whose first image is not its largest (a label or macro?); write the slide as a file of its own"
    if first.channels > samples_per_pixel:
        return "an OME-TIFF of several channels; readers show the first alone, so write it as one RGB image"
    if first.file and ome.file and first.file != ome.file:
        return "an OME-TIFF whose first image lies in another file of its set; name that file, or write the slide as one file"
    return ""


def ome_notes(ome: Ome) -> list[str]:
    """What an OME-TIFF holds beside the first plane of its first image."""
    first, others = ome.images[0], [image for image in ome.images[1:] if not ASSOCIATED.search(image.name)]
    same = sum(image.dimensions == first.dimensions for image in others)
    found = [
        (same, "further image of the same size", "further images of the same size"),
        (len(others) - same, "further image of another size", "further images of other sizes"),
        (first.planes - 1, "further focal plane", ""),
        (first.times - 1, "further time point", ""),
    ]
    return [f"{counted(n, what, plural)} in the file not read" for n, what, plural in found if n > 0]


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
    """Elements of that name below, whatever their namespace."""
    return (found for found in element.iter() if str(found.tag).rpartition("}")[2] == name)
