"""Slides whose JPEG data are in another colour space than the file declares, which OpenSlide trusts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tifffile

from wsi_mil.slides.dicom import instances
from wsi_mil.slides.tiff_format import is_mislabelled

DICOM_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""Transfer syntaxes of JPEG frames with 8 and with 12 bits."""


@dataclass(frozen=True)
class MislabelledColours:
    """Images of a slide whose declared colour space is wrong.

    Attributes:
        as_rgb: (width, height) of YCbCr images declared as RGB; their true colours can be recovered.
        as_ycbcr: (width, height) of RGB images declared as YCbCr; the wrong conversion clips colours for good.
    """

    as_rgb: frozenset[tuple[int, int]] = frozenset()
    as_ycbcr: frozenset[tuple[int, int]] = frozenset()


def mislabelled_colours(path: Path, properties: Mapping[str, str]) -> MislabelledColours:
    """Return the images of a slide that OpenSlide opened whose JPEG markers contradict the declared colour space."""
    vendor = properties.get("openslide.vendor", "")
    if vendor == "dicom" and properties.get("dicom.TransferSyntaxUID", "") in DICOM_JPEG:
        files = list(instances(path))
        return MislabelledColours(
            frozenset(x.dimensions for x in files if x.is_ycbcr is True and not x.declared_ycbcr),
            frozenset(x.dimensions for x in files if x.is_ycbcr is False and x.declared_ycbcr),
        )
    if vendor in ("generic-tiff", "aperio"):
        try:
            with tifffile.TiffFile(path) as tif:
                pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
                return MislabelledColours(frozenset((p.imagewidth, p.imagelength) for p in pages if is_mislabelled(tif, p)))
        except (MemoryError, OSError):
            raise
        except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files, which OpenSlide may open
            return MislabelledColours()
    return MislabelledColours()
