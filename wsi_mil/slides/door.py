"""Choosing the reader."""

from pathlib import Path

from wsi_mil.errors import MissingFileError, SlideFormatError
from wsi_mil.slides.openslide_reader import OpenSlideReader
from wsi_mil.slides.slide import Slide
from wsi_mil.slides.tiffslide_reader import TiffSlideReader

READERS: dict[str, type[Slide]] = {"openslide": OpenSlideReader, "tiffslide": TiffSlideReader}
"""In the order in which `auto` tries them."""


def open_slide(path: Path, reader: str = "auto", *, mpp: float | None = None) -> Slide:
    """Open a slide file; close it after use, or use it in a `with`.

    Args:
        path: the file.
        reader: a name of `READERS`, or "auto" for the first that opens it.
        mpp: µm per pixel of level 0, overriding the file's own.

    Raises:
        MissingFileError: no such file.
        OSError: the machine cannot open the file.
        SlideFormatError: no reader opens it; the message has the reason of each.
        ValueError: no such reader.
    """
    if reader != "auto" and reader not in READERS:
        raise ValueError(f"reader must be auto or one of {', '.join(READERS)}, got {reader!r}")
    if not path.is_file():
        raise MissingFileError(path, "no such file")
    with path.open("rb"):
        pass  # a file that the machine cannot open (rights, too many open files) is no fault of the data
    reasons = []
    for name in READERS if reader == "auto" else [reader]:
        try:
            return READERS[name](path, mpp)
        except SlideFormatError as error:
            reasons.append(str(error).removeprefix(f"{path}: "))
    raise SlideFormatError(path, "; ".join(reasons))
