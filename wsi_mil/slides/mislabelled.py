"""Slides whose JPEG data are stored in other colours than the file declares, which OpenSlide believes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tifffile

from wsi_mil.slides.dicom import instances
from wsi_mil.slides.tiff_format import is_mislabelled

DICOM_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""Transfer syntaxes whose frames are JPEG streams of 8 and of 12 bits."""


@dataclass(frozen=True)
class Mislabelled:
    """Which pictures of a slide are declared wrongly.

    Attributes:
        as_rgb: (width, height) of those that are YCbCr: their true colours can be had.
        as_ycbcr: those that are RGB: in the wrong conversion colours were cut off.
    """

    as_rgb: frozenset[tuple[int, int]] = frozenset()
    as_ycbcr: frozenset[tuple[int, int]] = frozenset()


def mislabelled(path: Path, properties: Mapping[str, str]) -> Mislabelled:
    """Of a slide that OpenSlide opened, by its properties; nothing where its JPEG data do not say so beyond doubt."""
    vendor = properties.get("openslide.vendor", "")
    if vendor == "dicom" and properties.get("dicom.TransferSyntaxUID", "") in DICOM_JPEG:
        found = list(instances(path))
        return Mislabelled(
            frozenset(x.dimensions for x in found if x.is_ycbcr is True and not x.declared_ycbcr),
            frozenset(x.dimensions for x in found if x.is_ycbcr is False and x.declared_ycbcr),
        )
    if vendor in ("generic-tiff", "aperio"):
        try:
            with tifffile.TiffFile(path) as tif:
                pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
                return Mislabelled(frozenset((p.imagewidth, p.imagelength) for p in pages if is_mislabelled(tif, p)))
        except (MemoryError, OSError):
            raise
        except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files, which OpenSlide may open
            return Mislabelled()
    return Mislabelled()
