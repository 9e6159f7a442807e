"""Open a slide with the first reader that reads its format correctly. To add a reader: docs/add_a_slide_reader.md."""

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
from wsi_mil.slides.slide import Slide, SlideSource
from wsi_mil.slides.staging import LocalCopy, local_copy
from wsi_mil.slides.tiffslide_reader import TiffSlideReader

IMPLEMENTATIONS: dict[str, type[Slide]] = {name: resolve_name(record.implementation) for name, record in READERS.items()}
"""Reader classes by name, imported here: on first use the import could fail because too many files are open."""

EXPECTED = (
    "expected a slide that OpenSlide supports (for MRXS the .mrxs file beside its folder, for DICOM one of its .dcm files),"
    " a TIFF, or a PNG, JPEG or BMP image; correct the sheet's `path` column"
)

HINT_IN_PLACE = "set remote.staging to scratch, so that other readers can open a copy, or correct the sheet's `path` column"


def open_slide(
    path: Path | str,
    reader: str = "auto",
    *,
    mpp: Mpp | float | None = None,
    guess: MppGuess = MppGuess(),
    in_place: bool = False,
) -> Slide:
    """Open a slide. Close it after use, or use it in a `with` statement.

    Args:
        path: a file, or an fsspec URL such as `s3://…` or `https://…`, which tiffslide reads in place; with
            `remote.staging: scratch` any reader reads a local copy of it.
        reader: a name of `READERS`, or "auto" for the first that opens the file; the `reader` of a receipt opens it as before.
        mpp: µm per pixel of level 0; overrides the file's.
        guess: fallbacks for a slide without a resolution.
        in_place: read a URL in place even when staging is on (little data is needed), with tiffslide whatever `reader` says;
            fall back to a local copy if tiffslide cannot open it.

    Raises:
        MissingFileError: the file does not exist, or a package for such URLs is not installed.
        UnreachableError: the server of a URL does not answer.
        SlideAccessError: the server does not have the file, or denies access.
        OSError: the operating system cannot open the file.
        SlideFormatError: no reader opens the file; the message has the reason of each.
        ValueError: no such reader.
    """
    if reader != "auto" and reader not in READERS:
        raise ValueError(f"reader must be auto or one of {', '.join(READERS)}, got {reader!r}")
    mpp_override = Mpp(mpp, mpp) if isinstance(mpp, float | int) else mpp
    if is_url(path):
        return _open_url(path, reader, mpp_override, guess, in_place)
    path = Path(path)
    _require_file(path)
    path = with_companions(path)
    return _open_file(path, path, reader, mpp_override, guess)


def _open_file(source: SlideSource, file: Path, reader: str, mpp_override: Mpp | None, guess: MppGuess) -> Slide:
    path = source.url if isinstance(source, LocalCopy) else file
    file_format = format_of(file)
    _require_readable_by(path, file_format, reader)
    errors = []
    for name in file_format.readers if reader == "auto" else [reader]:
        try:
            with reading():
                slide = IMPLEMENTATIONS[name](source, mpp_override, guess)
        except SlideFormatError as error:
            _require_file(file)  # a fault of the machine, such as too many open files, must not hand the slide to another reader
            errors.append(error)
        else:
            slide.notes = tuple(dict.fromkeys((*slide.notes, *file_format.notes)))
            return slide
    specific = [error for error in errors if not isinstance(error, UnknownFormatError)][:1]
    reasons = "; ".join(dict.fromkeys(str(error).removeprefix(f"{path}: ") for error in specific or errors))
    hint = EXPECTED if reader == "auto" else f"{EXPECTED}, or set slide.reader to auto"
    raise SlideFormatError(path, f"{reasons}; {hint}".replace(str(file), str(path)))


def _require_readable_by(path: Path | str, file_format: Format, reader: str) -> None:
    """Raise SlideFormatError if the reader cannot show a file of this format correctly."""
    if file_format.fault:
        raise SlideFormatError(path, f"{file_format.fault}, or correct the sheet's `path` column")
    if reader not in ("auto", *file_format.readers):
        name = file_format.name or "a file of an unknown format"
        kind = f"{name} is read correctly by {' or '.join(file_format.readers)}, not by {reader}"
        raise SlideFormatError(path, f"{kind}; set slide.reader to auto, or correct the sheet's `path` column")


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise SlideFormatError(path, f"is a folder; {EXPECTED}")
    if not path.is_file():
        raise MissingFileError(path, "no such file; correct the sheet's `path` column, or copy it there")
    with path.open("rb") as file:  # OSError (permissions, too many open files) is no fault of the data
        if not file.read(1):
            raise SlideFormatError(path, f"is empty (0 bytes); {EXPECTED}")


def _open_in_place(slide: TiffSlideReader) -> Slide:
    """Open a URL in place, unless tiffslide does not show its format correctly."""
    try:
        _require_readable_by(slide.path, slide.format, TiffSlideReader.reader)
    except SlideFormatError:
        slide.close()
        raise
    slide.notes = tuple(dict.fromkeys((*slide.notes, *slide.format.notes)))
    return slide


def _open_url(url: str, reader: str, mpp_override: Mpp | None, guess: MppGuess, in_place: bool) -> Slide:
    fault = secret_fault(url) or address_fault(url)
    if fault:
        raise SlideFormatError(without_secrets(url), fault)
    is_copied = remote_settings().staging == "scratch"
    if in_place or not is_copied:
        try:
            if not in_place and reader not in ("auto", TiffSlideReader.reader):
                raise SlideFormatError(url, f"{reader} reads files only")
            return _open_in_place(TiffSlideReader(url, mpp_override, guess))
        except SlideFormatError as error:
            if not is_copied:
                reason = str(error).removeprefix(f"{url}: ")
                raise SlideFormatError(url, f"cannot be read in place ({reason}); {HINT_IN_PLACE}") from error
    copy = local_copy(url)
    try:
        return _open_file(copy, copy.path, reader, mpp_override, guess)
    except BaseException:
        copy.close()
        raise
