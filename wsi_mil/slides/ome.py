"""What the description of an OME-TIFF says, by text search: XML from a file is never parsed with its entities."""

import re
from collections.abc import Mapping

DESCRIPTIONS = ("tiff.ImageDescription", "openslide.comment", "tiffslide.comment")


def ome_description(properties: Mapping[str, str]) -> str:
    """The OME-XML in a slide's properties; "" where there is none."""
    text = next((properties[name] for name in DESCRIPTIONS if name in properties), "")
    return text if "<OME" in text else ""


def ome_fault(properties: Mapping[str, str]) -> str:
    """Why the first image of an OME-TIFF, which is what readers show, is not its slide in colour; "" where it is."""
    text = ome_description(properties)
    images = re.findall(r"<Image\b.*?</Image>", text, re.DOTALL)
    areas = [int(x[1]) * int(y[1]) for i in images if (x := _size(i, "X")) and (y := _size(i, "Y"))]
    if areas and areas[0] < max(areas):
        return "an OME-TIFF whose first image is not its largest (a label or macro?); write the slide as a file of its own"
    if images and len(re.findall(r"<Channel\b", images[0])) > 1:
        return "an OME-TIFF of several channels; readers show the first alone, so write it as one RGB image"
    return ""


def _size(image: str, axis: str) -> re.Match[str] | None:
    return re.search(rf'\bSize{axis}="(\d+)"', image)
