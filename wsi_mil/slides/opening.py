"""Open a slide with the reader for what the file is. To add a reader: docs/add_a_slide_reader.md."""

from pathlib import Path
from pkgutil import resolve_name

from wsi_mil.addresses import is_url, secret_fault, without_secrets
from wsi_mil.config import READERS
from wsi_mil.errors import MissingFileError, SlideFormatError, UnknownFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.runtime.crash_guard import reading
from wsi_mil.slides.companions import with_companions
from wsi_mil.slides.detection import address_fault, format_of
from wsi_mil.slides.format import Format
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.remote import remote_settings
from wsi_mil.slides.slide import Slide, Source
from wsi_mil.slides.staging import LocalCopy, local_copy
from wsi_mil.slides.tiffslide_reader import TiffSlideReader

IMPLEMENTATIONS: dict[str, type[Slide]] = {name: resolve_name(record.implementation) for name, record in READERS.items()}
"""By name. Imported here and not on first use: where no more files can be opened, an import would fail too."""

EXPECTED = (
    "expected a slide that OpenSlide knows (for MRXS its .mrxs file beside its folder, for DICOM one of its .dcm files),"
    " a TIFF, or a PNG, JPEG or BMP image; correct the sheet's `path` column"
)

MEND_IN_PLACE = "set remote.staging to scratch, so that other readers can try a copy, or correct the sheet's `path` column"


def open_slide(
    path: Path | str,
    reader: str = "auto",
    *,
    mpp: Mpp | float | None = None,
    guess: MppGuess = MppGuess(),
    in_place: bool = False,
) -> Slide:
    """Open a slide; close it after use, or use it in a `with`.

    Args:
        path: a file, or an fsspec URL such as `s3://…` or `https://…`, which tiffslide reads in place; with
            `remote.staging: scratch` any reader reads a copy of it on this machine.
        reader: a name of `READERS`, or "auto" for the first that opens it; a receipt's `reader` opens it alike again.
        mpp: µm per pixel of level 0, overriding the file's own.
        guess: what may stand in where neither says it.
        in_place: make no copy of what lies at a URL, since little of it is wanted, unless tiffslide cannot open it; whatever the
            reader.

    Raises:
        MissingFileError: no such file, or no package for such a URL.
        UnreachableError: the server of a URL does not answer.
        SlideAccessError: it does not have it, or does not give it.
        OSError: the machine cannot open the file.
        SlideFormatError: no reader opens it; the message has the reason of each.
        ValueError: no such reader.
    """
    if reader != "auto" and reader not in READERS:
        raise ValueError(f"reader must be auto or one of {', '.join(READERS)}, got {reader!r}")
    given = Mpp(mpp, mpp) if isinstance(mpp, float | int) else mpp
    if is_url(path):
        return _open_url(path, reader, given, guess, in_place)
    path = Path(path)
    _refuse_no_file(path)
    path = with_companions(path)
    return _open_file(path, path, reader, given, guess)


def _open_file(source: Source, file: Path, reader: str, given: Mpp | None, guess: MppGuess) -> Slide:
    path = source.url if isinstance(source, LocalCopy) else file
    found = format_of(file)
    _refuse(path, found, reader)
    errors = []
    for name in found.readers if reader == "auto" else [reader]:
        try:
            with reading():
                slide = IMPLEMENTATIONS[name](source, given, guess)
        except SlideFormatError as error:
            _refuse_no_file(file)  # too many open files, say, must not make it another reader's slide
            errors.append(error)
        else:
            slide.notes = tuple(dict.fromkeys((*slide.notes, *found.notes)))
            return slide
    known = [error for error in errors if not isinstance(error, UnknownFormatError)][:1]
    said = "; ".join(dict.fromkeys(str(error).removeprefix(f"{path}: ") for error in known or errors))
    mend = EXPECTED if reader == "auto" else f"{EXPECTED}, or set slide.reader to auto"
    raise SlideFormatError(path, f"{said}; {mend}".replace(str(file), str(path)))


def _refuse(path: Path | str, found: Format, reader: str) -> None:
    """Raise SlideFormatError where what a file is keeps a reader from showing it truly."""
    if found.fault:
        raise SlideFormatError(path, f"{found.fault}, or correct the sheet's `path` column")
    if reader not in ("auto", *found.readers):
        name = found.name or "a file of an unknown kind"
        kind = f"{name} is read truly by {' or '.join(found.readers)}, not by {reader}"
        raise SlideFormatError(path, f"{kind}; set slide.reader to auto, or correct the sheet's `path` column")


def _refuse_no_file(path: Path) -> None:
    if path.is_dir():
        raise SlideFormatError(path, f"is a folder; {EXPECTED}")
    if not path.is_file():
        raise MissingFileError(path, "no such file; correct the sheet's `path` column, or bring the file")
    with path.open("rb") as file:  # a file that the machine cannot open (rights, too many open files) is no fault of the data
        if not file.read(1):
            raise SlideFormatError(path, f"is empty (0 bytes); {EXPECTED}")


def _in_place(slide: TiffSlideReader) -> Slide:
    """A slide at a URL, unless it is of a kind that tiffslide does not show truly."""
    try:
        _refuse(slide.path, slide.format, TiffSlideReader.reader)
    except SlideFormatError:
        slide.close()
        raise
    slide.notes = tuple(dict.fromkeys((*slide.notes, *slide.format.notes)))
    return slide


def _open_url(url: str, reader: str, given: Mpp | None, guess: MppGuess, in_place: bool) -> Slide:
    fault = secret_fault(url) or address_fault(url)
    if fault:
        raise SlideFormatError(without_secrets(url), fault)
    is_copied = remote_settings().staging == "scratch"
    if in_place or not is_copied:
        try:
            if not in_place and reader not in ("auto", TiffSlideReader.reader):
                raise SlideFormatError(url, f"{reader} reads files only")
            return _in_place(TiffSlideReader(url, given, guess))
        except SlideFormatError as error:
            if not is_copied:
                said = str(error).removeprefix(f"{url}: ")
                raise SlideFormatError(url, f"cannot be read in place ({said}); {MEND_IN_PLACE}") from error
    copy = local_copy(url)
    try:
        return _open_file(copy, copy.path, reader, given, guess)
    except BaseException:
        copy.close()
        raise
