"""The one place that decides what a file is, by its content, and so which readers may open it.

What one reader refuses because of what the file is must not be opened by the next one, which does not look at that.
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
PLAIN = {b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"BM": "a BMP image"}

MIRAX_INDEX = "Slidedat.ini"

WRITE_ANEW = "write the slide as a pyramidal TIFF"
OTHERS = {
    b"PK\x03\x04": "a ZIP archive (unpack it)",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"GIF8": f"a GIF image ({WRITE_ANEW})",
    b"RIFF": f"a WebP image ({WRITE_ANEW})",
    b"\x00\x00\x00\x0cjP  ": f"a JPEG 2000 image ({WRITE_ANEW})",
    b"\xff\x4f\xff\x51": f"a JPEG 2000 image ({WRITE_ANEW})",
    b"\xd0\xcf\x11\xe0": f"an OLE document, as Zeiss ZVI and Olympus OIB are ({WRITE_ANEW})",
    b"\x70\x00\x00\x00": f"a Leica LIF file ({WRITE_ANEW})",
    b"<?xm": f"an XML text: it may describe a slide, but holds no pixels ({WRITE_ANEW})",
    b"<!DO": "a web page, as a failed download leaves behind (bring the slide itself)",
    b"<htm": "a web page, as a failed download leaves behind (bring the slide itself)",
    b"version https://git-lfs": "a Git LFS pointer (bring the slide itself: git lfs pull)",
    b"<OME": f"an XML text: it may describe a slide, but holds no pixels ({WRITE_ANEW})",
}
"""How files begin that no reader here opens, and what they are."""

SLIDE_ENDINGS = (".svs", ".ndpi", ".scn", ".bif", ".svslide", ".czi", ".dcm", ".vms", ".vmu")
"""Of files that are never a plain image, unless somebody took a preview for the slide."""

OVERVIEWS = {
    ".vsi": "a .vsi of Olympus is only an overview, its slide lies in the .ets files of a folder beside it, which no reader here"
    f" opens; {WRITE_ANEW}",
    ".ndpis": "a .ndpis only lists the .ndpi files of fluorescence channels, which cannot be read as one slide in colour",
    ".afi": "an .afi only lists the .svs files of fluorescence channels, which cannot be read as one slide in colour",
    ".dzi": f"a .dzi only describes the pictures in a folder beside it, which no reader here opens; {WRITE_ANEW}",
}
"""By ending, files that hold no slide, though some can be opened as a picture."""


def format_of(path: Path) -> Format:
    """What a file is. A damaged TIFF is left to OpenSlide, which says what it finds.

    Raises:
        OSError: the machine cannot read it.
    """
    endings = {path.suffix.lower(), path.resolve().suffix.lower()}
    for ending in endings & OVERVIEWS.keys():
        return Format(f"a {ending} file", (), OVERVIEWS[ending])
    if MIRAX in endings:
        return _mirax(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(TIFF):
        return _tiff(path)
    if is_dicom(head):
        return Format("a DICOM file", (OPENSLIDE,))
    for magic, name in PLAIN.items():
        if head.startswith(magic):
            ending = next(iter(endings.intersection(SLIDE_ENDINGS)), "")
            preview = f"is {name} under the name of a {ending} slide (a preview?); bring the slide, or rename what is meant so"
            return Format(name, () if ending else (IMAGE,), preview if ending else "")
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            return Format("", (), f"is {name}")
    return Format("", (OPENSLIDE,))


def address_fault(url: str) -> str:
    """Why what an address names can be no slide, by its ending: one file comes from there; "" for any other."""
    ending = Path(url.partition("?")[0]).suffix.lower()
    if ending in (MIRAX, *HAMAMATSU_INI):
        return f"a {ending} slide is several files, and an address brings one; copy it to a disk with what lies beside it"
    return OVERVIEWS.get(ending, "")


def _mirax(path: Path) -> Format:
    folder = path.with_suffix("")
    missing = f"the folder {folder.name} with its data is missing"
    if folder.is_dir():
        missing = "" if (folder / MIRAX_INDEX).is_file() else f"its folder {folder.name} has no {MIRAX_INDEX}"
    if not missing:
        return Format("a MIRAX slide", (OPENSLIDE,))
    return Format("a MIRAX slide", (), f"{missing}: the .mrxs alone is only an overview; bring the folder to lie beside it")


def _tiff(path: Path) -> Format:
    try:
        with tifffile.TiffFile(path) as tif:
            return tiff_format(tif)
    except (MemoryError, OSError):
        raise
    except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files
        return Format("", (OPENSLIDE,))
