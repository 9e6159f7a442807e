"""Detect the format of a file by its content, and with it the readers that may open it.

All readers go by this result: if one rejects a file because of its format, the next must not open it unchecked.
"""

from pathlib import Path

import tifffile

from wsi_mil.config.readers import IMAGE, OPENSLIDE
from wsi_mil.slides.companions import HAMAMATSU_INI, MIRAX
from wsi_mil.slides.dicom import is_dicom
from wsi_mil.slides.format import Format
from wsi_mil.slides.tiff_format import tiff_format

HEAD_BYTES = 132
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
IMAGE_FORMATS = {b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"BM": "a BMP image"}

MIRAX_INDEX = "Slidedat.ini"

CONVERT = "convert it to a pyramidal TIFF"
FOREIGN_FORMATS = {
    b"PK\x03\x04": "a ZIP archive (unpack it)",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"GIF8": f"a GIF image ({CONVERT})",
    b"RIFF": f"a WebP image ({CONVERT})",
    b"\x00\x00\x00\x0cjP  ": f"a JPEG 2000 image ({CONVERT})",
    b"\xff\x4f\xff\x51": f"a JPEG 2000 image ({CONVERT})",
    b"\xd0\xcf\x11\xe0": f"an OLE document, as Zeiss ZVI and Olympus OIB are ({CONVERT})",
    b"\x70\x00\x00\x00": f"a Leica LIF file ({CONVERT})",
    b"<?xm": f"an XML file, which may describe a slide but has no pixels ({CONVERT})",
    b"<!DO": "a web page, as a failed download leaves behind (get the slide itself)",
    b"<htm": "a web page, as a failed download leaves behind (get the slide itself)",
    b"version https://git-lfs": "a Git LFS pointer (get the slide itself: git lfs pull)",
    b"<OME": f"an XML file, which may describe a slide but has no pixels ({CONVERT})",
}
"""Magic bytes of formats that no reader supports, with a description of each."""

SLIDE_SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".svslide", ".czi", ".dcm", ".vms", ".vmu")
"""Endings of slide formats; a plain image with one of them is probably a preview saved in place of the slide."""

INDEX_FILES = {
    ".vsi": "a .vsi of Olympus is only an overview; its slide is in the .ets files of a folder beside it, which no reader"
    f" supports; {CONVERT}",
    ".ndpis": "a .ndpis only lists the .ndpi files of fluorescence channels, which cannot be read as one slide in colour",
    ".afi": "an .afi only lists the .svs files of fluorescence channels, which cannot be read as one slide in colour",
    ".dzi": f"a .dzi only describes the images in a folder beside it, which no reader supports; {CONVERT}",
}
"""Endings of files that hold no slide pixels, though some can be opened as an image, with the reason."""


def format_of(path: Path) -> Format:
    """Return the format of a file. A damaged TIFF is left to OpenSlide, whose error message is specific.

    Raises:
        OSError: the operating system cannot read the file.
    """
    endings = {path.suffix.lower(), path.resolve().suffix.lower()}
    for ending in endings & INDEX_FILES.keys():
        return Format(f"a {ending} file", (), INDEX_FILES[ending])
    if MIRAX in endings:
        return _mirax(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(TIFF):
        return _tiff(path)
    if is_dicom(head):
        return Format("a DICOM file", (OPENSLIDE,))
    for magic, name in IMAGE_FORMATS.items():
        if head.startswith(magic):
            ending = next(iter(endings.intersection(SLIDE_SUFFIXES)), "")
            preview = f"is {name} with the ending of a {ending} slide (a preview?); get the slide itself, or rename the file"
            return Format(name, () if ending else (IMAGE,), preview if ending else "")
    for magic, name in FOREIGN_FORMATS.items():
        if head.startswith(magic):
            return Format("", (), f"is {name}")
    return Format("", (OPENSLIDE,))


def address_fault(url: str) -> str:
    """Return why a URL cannot be a slide, judged by its ending (only one file can be fetched); "" if it can."""
    ending = Path(url.partition("?")[0]).suffix.lower()
    if ending in (MIRAX, *HAMAMATSU_INI):
        return f"a {ending} slide is several files, but a URL gives only one; copy all of them to a disk"
    return INDEX_FILES.get(ending, "")


def _mirax(path: Path) -> Format:
    folder = path.with_suffix("")
    missing = f"the folder {folder.name} with its data is missing"
    if folder.is_dir():
        missing = "" if (folder / MIRAX_INDEX).is_file() else f"its folder {folder.name} has no {MIRAX_INDEX}"
    if not missing:
        return Format("a MIRAX slide", (OPENSLIDE,))
    return Format("a MIRAX slide", (), f"{missing}: the .mrxs alone is only an overview; copy that folder beside it")


def _tiff(path: Path) -> Format:
    try:
        with tifffile.TiffFile(path) as tif:
            return tiff_format(tif)
    except (MemoryError, OSError):
        raise
    except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files
        return Format("", (OPENSLIDE,))
