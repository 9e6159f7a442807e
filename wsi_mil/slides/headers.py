"""What the header of a slide file says, without opening its pixels: whether it is a slide at all, and its resolution."""

from pathlib import Path

import openslide
import tifffile

from wsi_mil.config.readers import IMAGE, OPENSLIDE, TIFFSLIDE
from wsi_mil.errors import MissingMppError, SlideFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.dicom import MAGIC_AT, SERIES_HEAD, is_dicom
from wsi_mil.slides.format import Format
from wsi_mil.slides.mpp import resolve_mpp
from wsi_mil.slides.opening import open_slide

PLAIN_TIFFS = ("an Aperio slide", "a TIFF", "an OME-TIFF")
"""Formats whose resolution is in the tags of the first image; in those of other vendors it is elsewhere."""

TAGS = {"ImageDescription": 270, "XResolution": 282, "YResolution": 283, "ResolutionUnit": 296}

UNITS = {2: "inch", 3: "centimeter"}

PATIENT_ID, CONTAINER = b"\x10\x00\x20\x00LO", b"\x40\x00\x12\x05LO"
"""(0010,0020) PatientID and (0040,0512) ContainerIdentifier, the name of the glass slide, with explicit value representation."""


def is_openslide_format(path: Path) -> bool:
    """Return whether OpenSlide recognises a file of a format that its first bytes do not name."""
    return openslide.OpenSlide.detect_format(path) is not None


def header_mpp(path: Path, file_format: Format) -> Mpp | None:
    """Return the resolution of level 0 as `open_slide` would, from the header only where that is enough; None if it has none.

    Raises:
        SlideFormatError: no reader opens the file.
        OSError: the operating system cannot read it.
    """
    if file_format.readers == (IMAGE,) and file_format.name not in PLAIN_TIFFS:
        return None  # the resolution of a plain image is not reliable
    if file_format.name in PLAIN_TIFFS and (mpp := _tag_mpp(path)):
        return mpp
    for reader in (OPENSLIDE, TIFFSLIDE):  # those that read metadata only
        if reader in file_format.readers:
            return _opened_mpp(path, reader)
    return _opened_mpp(path, "auto")


def dicom_names(path: Path) -> tuple[str, str]:
    """Return the patient and the glass slide that a DICOM file names; "" for what it does not name, or for any other file."""
    with path.open("rb") as file:
        head = file.read(SERIES_HEAD)
    return (_text(head, PATIENT_ID), _text(head, CONTAINER)) if is_dicom(head[: MAGIC_AT + 4]) else ("", "")


def _text(head: bytes, tag: bytes) -> str:
    at = head.find(tag)
    length = int.from_bytes(head[at + len(tag) : at + len(tag) + 2], "little")
    return "" if at < 0 else head[at + len(tag) + 2 : at + len(tag) + 2 + length].decode("utf-8", "replace").strip(" \0")


def _tag_mpp(path: Path) -> Mpp | None:
    """Resolution in the tags of the first image; None also if the file is damaged, which its reader explains."""
    try:
        with tifffile.TiffFile(path) as tif:
            values = {name: tif.pages.first.tags.valueof(code) for name, code in TAGS.items()}
            properties = _properties(values)
        return resolve_mpp(properties, path).mpp
    except MissingMppError:
        return None
    except (MemoryError, OSError):
        raise
    except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files
        return None


def _properties(values: dict[str, object]) -> dict[str, str]:
    """Properties as readers name them."""
    text = str(values["ImageDescription"] or "")
    properties = {"tiff.ImageDescription": text} if text else {}
    if text.startswith("Aperio"):
        fields = dict(part.split("=", 1) for part in text.split("|") if "=" in part)
        properties |= {f"aperio.{name.strip()}": value.strip() for name, value in fields.items()}
    for axis in "XY":
        ratio = values[f"{axis}Resolution"]
        if isinstance(ratio, tuple) and ratio[1]:
            properties[f"tiff.{axis}Resolution"] = repr(ratio[0] / ratio[1])
    unit = values["ResolutionUnit"]
    if isinstance(unit, int):
        properties["tiff.ResolutionUnit"] = UNITS.get(int(unit), "none")
    return properties


def _opened_mpp(path: Path, reader: str) -> Mpp | None:
    try:
        with open_slide(path, reader) as slide:
            return slide.mpp
    except MissingMppError:
        return None
    except SlideFormatError:
        if reader == "auto":
            raise
    return _opened_mpp(path, "auto")
