"""Sort the files of folders by their content: slides, pictures beside them, and files that look like slides but are none."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.addresses import is_url
from wsi_mil.config.readers import IMAGE
from wsi_mil.errors import ConfigError, SlideFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.init.words import PICTURES, natural, words
from wsi_mil.slides.companions import HAMAMATSU_INI, MIRAX, companions
from wsi_mil.slides.detection import INDEX_FILES, MIRAX_INDEX, SLIDE_SUFFIXES, format_of
from wsi_mil.slides.dicom import series_of
from wsi_mil.slides.format import Format
from wsi_mil.slides.headers import header_mpp, is_openslide_format

LOOK_LIKE_SLIDES = (*SLIDE_SUFFIXES, *INDEX_FILES, MIRAX, ".tif", ".tiff", ".qptiff", ".btf")
READERS_AT_ONCE = 8
"""Headers read at the same time: on a network drive nearly all of the time is waiting."""
OWN_RESULTS = "cohort_status.csv"
"""File by which a results folder is recognised."""
STORES = (".zarr",)
DICOM = "a DICOM file"
TIFFS = ("a TIFF", "an OME-TIFF")


@dataclass(frozen=True)
class Seen:
    """A file, by its content.

    Attributes:
        path: as it was found.
        format: of the file; None if it is nothing that looks like a slide.
        mpp: µm per pixel of level 0; None if the file does not have it.
        series: of a DICOM file.
        fault: why the file cannot be used although it looks like a slide; or "".
    """

    path: Path
    format: Format | None = None
    mpp: Mpp | None = None
    series: bytes = b""
    fault: str = ""

    @property
    def is_plain_image(self) -> bool:
        """Whether it is a PNG, JPEG or BMP."""
        return self.format is not None and self.format.readers == (IMAGE,) and self.format.name not in TIFFS


def listed_files(sources: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the files of all sources, in natural order and without hidden ones, and notes on what was passed over.

    Raises:
        ConfigError: a source does not exist.
    """
    missing = [source for source in sources if not os.path.lexists(source)]
    if missing:
        raise ConfigError([_absent(source) for source in missing])
    notes: list[str] = []
    seen: set[tuple[int, int]] = set()
    files: list[Path] = []
    for source in sources:
        files += _walk(source, seen, notes) if source.is_dir() else [source]
    return list(dict.fromkeys(files)), notes


def _absent(source: Path) -> str:
    if is_url(str(source)) or ":/" in str(source):
        return f"{source}: slides on servers cannot be listed; write a sheet with their addresses (docs/remote.md)"
    return f"{source}: no such file or folder; give the folder of the slides"


def _walk(folder: Path, seen: set[tuple[int, int]], notes: list[str]) -> list[Path]:
    """Files of a folder and those below; folders that links lead to again are passed over."""
    at = folder.stat()
    if (at.st_dev, at.st_ino) in seen:
        return []
    seen.add((at.st_dev, at.st_ino))
    try:
        visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        entries = sorted(visible, key=lambda entry: (entry.is_symlink(), natural(entry.name)))  # what links lead to comes first
    except OSError as error:
        notes.append(f"folder {folder} cannot be read ({error.strerror})")
        return []
    if any(entry.name == OWN_RESULTS for entry in entries):
        notes.append(f"folder {folder} has results of wsi-mil, and is passed over")
        return []
    names = {entry.name for entry in entries}
    files: list[Path] = []
    for entry in entries:
        if not entry.is_dir():
            files.append(entry)
        elif os.path.lexists(entry / MIRAX_INDEX):
            if not any(name.lower() == f"{entry.name}{MIRAX}".lower() for name in names):
                notes.append(f"{entry} is the folder of a MIRAX slide, but {entry.name}{MIRAX} is missing beside it")
        elif entry.suffix not in STORES:
            files += _walk(entry, seen, notes)
    return files


def looked_at(files: Sequence[Path]) -> list[Seen]:
    """Return what each file is, in the same order; only headers are read."""
    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        return list(pool.map(_look, files))


def _look(path: Path) -> Seen:
    looks_like = path.suffix.lower() in LOOK_LIKE_SLIDES
    try:
        if not path.is_file():
            return Seen(path, fault="is a link to a file that does not exist" if path.is_symlink() else "")
        if path.stat().st_size == 0:
            return Seen(path, fault="is empty (0 bytes)" if looks_like else "")
        return _by_content(path, looks_like)
    except SlideFormatError as error:
        return Seen(path, fault=str(error).removeprefix(f"{path}: ").partition("; expected")[0])
    except OSError as error:
        return Seen(path, fault=f"cannot be read ({error.strerror or error})")


def _by_content(path: Path, looks_like: bool) -> Seen:
    file_format = format_of(path)
    if file_format.fault:
        return Seen(path, fault=file_format.fault if looks_like or file_format.name else "")
    if not file_format.name and not is_openslide_format(path):
        return Seen(path, fault="is damaged, or no slide: no reader knows its content" if looks_like else "")
    if file_format.name == DICOM:
        return Seen(path, file_format, series=series_of(path) or str(path).encode())
    return Seen(path, file_format, header_mpp(path, file_format))


def without_companions(seen: Iterable[Seen]) -> list[Seen]:
    """Return the files that are not parts of another one: the images that a Hamamatsu .vms lists."""
    files = list(seen)
    parts: set[Path] = set()
    for main in (file.path for file in files if file.path.suffix.lower() in HAMAMATSU_INI and file.format):
        parts.update(companions(main))
    return [file for file in files if file.path not in parts]


def pictures_beside(slides: Sequence[Seen]) -> Iterator[Seen]:
    """Yield the files that are pictures of other files: `a_label.tif` beside `a.svs`, `masks/a.tif` beside `slides/a.tif`."""
    stems: dict[str, list[Path]] = {}
    for slide in slides:
        stems.setdefault(stem_of(slide.path).casefold(), []).append(slide.path)
    for slide in slides:
        stem = stem_of(slide.path)
        if set(words(slide.path.parent.name)) & PICTURES and len(stems[stem.casefold()]) > 1:
            others = [path for path in stems[stem.casefold()] if path != slide.path]
            is_picture = any(not set(words(other.parent.name)) & PICTURES for other in others)
        else:
            is_picture = any(base in stems for base in _bases(stem))
        if is_picture:
            yield slide


def _bases(stem: str) -> Iterator[str]:
    """Names of the slide that a picture of this name would show: `a` of `a_mask`, `a-1_label`, `thumb.a`."""
    parts = [part for part in _split(stem) if part]
    if len(parts) > 1 and parts[-1].casefold() in PICTURES:
        base = stem[: -len(parts[-1])].rstrip(" _-.").casefold()
        yield base
        yield from (f"{base}{end}" for end in (".svs", ".ndpi", ".tif", ".tiff", ".mrxs"))
    if len(parts) > 1 and parts[0].casefold() in PICTURES:
        yield stem[len(parts[0]) :].lstrip(" _-.").casefold()


def _split(stem: str) -> list[str]:
    for mark in " -.":
        stem = stem.replace(mark, "_")
    return stem.split("_")


def stem_of(path: Path) -> str:
    """Return the name of a file without its ending, without both of `.ome.tif`."""
    stem = path.stem
    return stem[: -len(".ome")] if stem.lower().endswith(".ome") and path.suffix.lower() in (".tif", ".tiff", ".btf") else stem


def real(path: Path) -> str:
    """Return what is the same for all links to a file."""
    return os.path.realpath(path)
