"""Choosing the reader."""

from pathlib import Path

import fsspec

from wsi_mil.errors import MissingFileError, SlideFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.image_reader import ImageReader
from wsi_mil.slides.jpeg_tiff_reader import JpegTiffReader
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.ome import ome_fault
from wsi_mil.slides.openslide_reader import OpenSlideReader
from wsi_mil.slides.slide import Slide
from wsi_mil.slides.tiffslide_reader import TiffSlideReader
from wsi_mil.supervision import reading

READERS: dict[str, type[Slide]] = {
    reader.reader: reader for reader in (JpegTiffReader, OpenSlideReader, TiffSlideReader, ImageReader)
}
"""In the order in which `auto` tries them: the fastest that gives OpenSlide's pixels, then what opens the rest."""

EXPECTED = (
    "expected a slide that OpenSlide knows (for MRXS its .mrxs file beside its folder, for DICOM one of its .dcm files),"
    " a TIFF, or a PNG, JPEG or BMP image; correct the sheet's `path` column"
)


def open_slide(path: Path | str, reader: str = "auto", *, mpp: Mpp | float | None = None, guess: MppGuess = MppGuess()) -> Slide:
    """Open a slide; close it after use, or use it in a `with`.

    Args:
        path: a file, or an fsspec URL such as `s3://…` or `https://…`, which tiffslide reads in place.
        reader: a name of `READERS`, or "auto" for the first that opens it; a receipt's `reader` opens it alike again.
        mpp: µm per pixel of level 0, overriding the file's own.
        guess: what may stand in where neither says it.

    Raises:
        MissingFileError: no such file, or a URL that cannot be reached.
        OSError: the machine cannot open the file.
        SlideFormatError: no reader opens it; the message has the reason of each.
        ValueError: no such reader.
    """
    if reader != "auto" and reader not in READERS:
        raise ValueError(f"reader must be auto or one of {', '.join(READERS)}, got {reader!r}")
    given = Mpp(mpp, mpp) if isinstance(mpp, float | int) else mpp
    if is_url(path):
        return _open_url(str(path), reader, given, guess)
    path = Path(path)
    _refuse_no_file(path)
    reasons = []
    for name in READERS if reader == "auto" else [reader]:
        try:
            with reading():
                return _one_image(READERS[name](path, given, guess))
        except SlideFormatError as error:
            _refuse_no_file(path)  # too many open files, say, must not make it another reader's slide
            reasons.append(str(error).removeprefix(f"{path}: "))
    mend = EXPECTED if reader == "auto" else f"{EXPECTED}, or set slide.reader to auto"
    raise SlideFormatError(path, f"{mend} ({'; '.join(dict.fromkeys(reasons))})")


def is_url(path: Path | str) -> bool:
    """Whether it is an fsspec URL, not a local file."""
    return isinstance(path, str) and "://" in path


def _one_image(slide: Slide) -> Slide:
    """The slide, unless it is an OME-TIFF of which readers show something else than the slide: its first image or channel."""
    fault = ome_fault(slide.properties)
    if fault:
        slide.close()
        raise SlideFormatError(slide.path, fault)
    return slide


def _refuse_no_file(path: Path) -> None:
    if path.is_dir():
        raise SlideFormatError(path, f"is a folder; {EXPECTED}")
    if not path.is_file():
        raise MissingFileError(path, "no such file; correct the sheet's `path` column, or bring the file")
    with path.open("rb") as file:  # a file that the machine cannot open (rights, too many open files) is no fault of the data
        if not file.read(1):
            raise SlideFormatError(path, f"is empty (0 bytes); {EXPECTED}")


def _open_url(url: str, reader: str, given: Mpp | None, guess: MppGuess) -> Slide:
    if reader not in ("auto", TiffSlideReader.reader):
        raise SlideFormatError(url, f"{reader} reads files only; a URL is read by tiffslide (slide.reader: auto)")
    _refuse_unreachable(url)
    return _one_image(TiffSlideReader(url, given, guess))


def _refuse_unreachable(url: str) -> None:
    mend = "check it and the network, or correct the sheet's `path` column"
    try:
        with fsspec.open(url, "rb") as file:
            file.read(1)
    except ImportError as error:
        raise MissingFileError(url, f"needs a package ({_line(error)}); pip install 'wsi_mil[remote]', or {mend}") from error
    except Exception as error:  # each file system of fsspec has errors of its own
        raise MissingFileError(url, f"cannot be reached ({_line(error)}); {mend}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
