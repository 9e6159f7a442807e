"""Find the slides in folders, each once, and name them."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.errors import ConfigError
from wsi_mil.geometry import Mpp
from wsi_mil.init.candidates import DICOM, Seen, listed_files, looked_at, pictures_beside, real, stem_of, without_companions
from wsi_mil.init.words import natural, without_accents
from wsi_mil.slides import slide_hash
from wsi_mil.slides.headers import dicom_names, header_mpp
from wsi_mil.wording import named

SAMPLE = 1 << 16
"""Bytes at either end of files of one size that are compared before their whole content is sampled."""
MOST_PICTURES = 4
MOST_PAIRS = 3


@dataclass(frozen=True)
class FoundSlide:
    """A slide.

    Attributes:
        slide_id: unique name.
        path: file that is opened.
        mpp: µm per pixel of level 0; None if the file does not have it.
        names: other names under which a table may list it: of copies and links, of the glass slide in DICOM.
        patient: patient that a DICOM file names, or "".
        folders: names of the folders that it is in, the nearest first.
        files: a file of it, its copies or links in each folder, with the number of folders below the one that was given.
    """

    slide_id: str
    path: Path
    mpp: Mpp | None
    names: tuple[str, ...] = ()
    patient: str = ""
    folders: tuple[str, ...] = ()
    files: tuple[tuple[Path, int], ...] = ()


@dataclass(frozen=True)
class Found:
    """The slides of some folders.

    Attributes:
        slides: in natural order of their ids.
        notes: what was merged, renamed or passed over, one line each.
        refused: files that look like slides but cannot be used, with the reason.
    """

    slides: tuple[FoundSlide, ...]
    notes: tuple[str, ...]
    refused: tuple[tuple[Path, str], ...]


@dataclass
class _Groups:
    """Files that are the same slide, the one that is opened first."""

    files: list[list[Seen]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_slides(sources: Sequence[Path], *, images: bool | None = None) -> Found:
    """Find the slides in files and folders by the content of the files.

    Args:
        sources: files and folders, which are searched to any depth.
        images: whether PNG, JPEG and BMP images are slides; None: only where there are no others.

    Raises:
        ConfigError: a source does not exist, or there is no slide.
    """
    files, notes = listed_files(sources)
    seen = without_companions(looked_at(files))
    refused = [(file.path, file.fault) for file in seen if file.fault]
    unwritable = {file.path: fault for file in seen if file.format and not file.fault and (fault := _name_fault(file.path))}
    refused += unwritable.items()
    slides = [file for file in seen if file.format and not file.fault and file.path not in unwritable]
    slides, picture_notes = _without_pictures(slides, images)
    groups = _same_content(_series(_same_file(slides, sources)), sources)
    notes += picture_notes + groups.notes
    if not groups.files:
        raise ConfigError([_nothing(sources, files, refused)])
    in_folder = Counter(group[0].path.parent for group in groups.files)
    found, name_notes = _named([_slide(group, sources, in_folder[group[0].path.parent]) for group in groups.files])
    return Found(tuple(found), (*notes, *name_notes), tuple(refused))


def _name_fault(path: Path) -> str:
    """Why a path cannot stand in a sheet, or ""."""
    text = str(path)
    if set("{}") & set(text):
        return "has '{' or '}' in its path, which Snakemake reads as a wildcard: rename it"
    if not text.isprintable() or text.strip() != text or "\\" in text:
        return "has a space at the end, a backslash or a control character in its path, which a sheet cannot hold: rename it"
    return ""


def _nothing(sources: Sequence[Path], files: Sequence[Path], refused: Sequence[tuple[Path, str]]) -> str:
    where = named([str(source) for source in sources])
    endings = sorted({file.suffix.lower() or file.name for file in files})
    content = f"there is {_counted(len(files), 'file')} ({named(endings)})" if len(files) == 1 else "there are no files"
    content = f"there are {len(files)} files ({named(endings)})" if len(files) > 1 else content
    first = f"; {refused[0][0].name} {refused[0][1]}" if refused else ""
    return f"{where}: no slide found: {content}{first}; give a folder with slides that OpenSlide reads, TIFFs, DICOM or images"


def _without_pictures(slides: list[Seen], images: bool | None) -> tuple[list[Seen], list[str]]:
    """Slides without the pictures beside them."""
    others = [file for file in slides if not file.is_plain_image]
    takes_images = not others if images is None else images
    plain = [] if takes_images else [file for file in slides if file.is_plain_image]
    kept = slides if takes_images else others
    beside = {file.path for file in pictures_beside(kept)}
    dropped = [file.path for file in [*plain, *(file for file in kept if file.path in beside)]]
    kept = [file for file in kept if file.path not in beside]
    names = named([path.name for path in dropped], most=MOST_PICTURES)
    hint = "; --images takes PNG, JPEG and BMP, too" if plain else ""
    return kept, [f"{_counted(len(dropped), 'picture')} beside slides not taken: {names}{hint}"] if dropped else []


def _same_file(slides: Iterable[Seen], sources: Sequence[Path]) -> _Groups:
    """Group links with what they lead to."""
    by_file: dict[str, list[Seen]] = {}
    for slide in slides:
        by_file.setdefault(real(slide.path), []).append(slide)
    groups = [sorted(same, key=lambda file: file.path.is_symlink()) for same in by_file.values()]
    several = [" = ".join(_short(file.path, sources) for file in same) for same in groups if len(same) > 1]
    names = named(several, most=MOST_PAIRS)
    notes = [f"{_counted(len(several), 'file')} found under several names, taken once: {names}"] if several else []
    return _Groups(groups, notes)


def _series(groups: _Groups) -> _Groups:
    """Join the DICOM files of a series in a folder."""
    joined: dict[object, list[Seen]] = {}
    n_files = 0
    for group in groups.files:
        first = group[0]
        is_dicom = first.format is not None and first.format.name == DICOM
        n_files += is_dicom
        key = (Path(real(first.path)).parent, first.series) if is_dicom else first.path
        joined.setdefault(key, []).extend(group)
    n_slides = sum(bool(group[0].series) for group in joined.values())
    notes = [f"{_counted(n_files, 'DICOM file')} are {_counted(n_slides, 'slide')}, one per series"] if n_files else []
    return _Groups(list(joined.values()), groups.notes + notes)


def _same_content(groups: _Groups, sources: Sequence[Path]) -> _Groups:
    """Join files that are copies of each other."""
    by_size: dict[int, list[list[Seen]]] = {}
    for group in groups.files:
        by_size.setdefault(group[0].path.stat().st_size, []).append(group)
    copies: dict[Path, list[Seen]] = {}
    for same in (same for same in by_size.values() if len(same) > 1):
        for alike in _alike(same, _ends):
            for identical in _alike(alike, slide_hash):
                files = [file for group in identical for file in group]
                copies[identical[0][0].path] = sorted(files, key=lambda file: len(file.path.name))  # a copy has the longer name
    merged = {file.path for first, files in copies.items() for file in files if file.path != first}
    kept = [copies.get(group[0].path, group) for group in groups.files if group[0].path not in merged]
    texts = [" = ".join(_short(file.path, sources) for file in files) for files in copies.values()]
    names = named(texts, most=MOST_PAIRS)
    notes = [f"{_counted(len(texts), 'slide')} found as copies with the same content, taken once: {names}"] if texts else []
    return _Groups(kept, groups.notes + notes)


def _alike(groups: list[list[Seen]], key: Callable[[Path], str]) -> list[list[list[Seen]]]:
    """Groups of several whose first files have the same key."""
    by_key: dict[object, list[list[Seen]]] = {}
    for group in groups:
        by_key.setdefault(key(group[0].path), []).append(group)
    return [same for same in by_key.values() if len(same) > 1]


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(-min(SAMPLE, path.stat().st_size), 2)
        return hashlib.sha256(head + file.read(SAMPLE)).hexdigest()


def _slide(group: list[Seen], sources: Sequence[Path], n_beside: int) -> FoundSlide:
    """A slide with the name that its files suggest, which `_named` makes unique; of `n_beside` slides in its folder."""
    first, *others = group
    folders = _folders(first.path, sources)
    names = [name for file in group for name in (file.path.name, file.path.stem, stem_of(file.path))]
    files = tuple({file.path.parent: (file.path, len(_folders(file.path, sources))) for file in group}.values())
    if not first.series:
        return FoundSlide(stem_of(first.path), first.path, first.mpp, tuple(dict.fromkeys(names)), "", folders, files)
    patient, container = dicom_names(first.path)
    folder = first.path.parent.name
    title = container or (folder if others and folders and n_beside == 1 else stem_of(first.path))
    names += [container] if container else []
    mpp = header_mpp(first.path, first.format) if first.format else None
    return FoundSlide(title, first.path, mpp, tuple(dict.fromkeys((title, *names))), patient, folders, files)


def _folders(path: Path, sources: Sequence[Path]) -> tuple[str, ...]:
    """Names of the folders between a file and the source that it was found in."""
    for source in sources:
        if path != source and path.is_relative_to(source):
            return tuple(reversed(path.relative_to(source).parts[:-1]))
    return ()


def _named(slides: list[FoundSlide]) -> tuple[list[FoundSlide], list[str]]:
    """Slides with ids that are valid and differ, also where case does not count; and which ids are not the files' names."""
    clean = [replace(slide, slide_id=clean_id(slide.slide_id)) for slide in slides]
    changed = [f"{s.slide_id!r} → {c.slide_id}" for s, c in zip(slides, clean, strict=True) if s.slide_id != c.slide_id]
    pairs = named(changed, most=MOST_PAIRS)
    notes = [f"{_counted(len(changed), 'name')} changed to letters, digits, '_', '-', '.': {pairs}"] if changed else []
    taken: dict[str, list[int]] = {}
    for number, slide in enumerate(clean):
        taken.setdefault(slide.slide_id.casefold(), []).append(number)
    ids = [slide.slide_id for slide in clean]
    for numbers in (numbers for numbers in taken.values() if len(numbers) > 1):
        for number, own in zip(numbers, _distinct([clean[n] for n in numbers], set(taken)), strict=True):
            ids[number] = own
    twins = [ids[number] for numbers in taken.values() if len(numbers) > 1 for number in numbers]
    if twins:
        notes.append(f"{_counted(len(twins), 'slide')} of the same name were given distinct ids: {named(twins)}")
    found = [
        replace(slide, slide_id=own, names=tuple(dict.fromkeys((own, *slide.names))))
        for slide, own in zip(clean, ids, strict=True)
    ]
    return sorted(found, key=lambda slide: natural(slide.slide_id)), notes


def _short(path: Path, sources: Sequence[Path]) -> str:
    """A path from the source that it was found in."""
    return next(
        (str(path.relative_to(source)) for source in sources if path != source and path.is_relative_to(source)), str(path)
    )


def clean_id(name: str) -> str:
    """Return a name as a valid slide_id: other characters become underscores."""
    text = re.sub(r"[^A-Za-z0-9_.\-]+", "_", without_accents(name)).strip("_").lstrip(".-")
    return text if SLIDE_ID.fullmatch(text) else "slide"


def _distinct(slides: list[FoundSlide], taken: set[str]) -> list[str]:
    """Ids of slides of one name: with the names of their folders, the nearest first, then with the ending, then numbered."""
    depth = max(len(slide.folders) for slide in slides)
    for n in range(1, depth + 1):
        ids = [clean_id("_".join([*reversed(slide.folders[:n]), slide.slide_id])) for slide in slides]
        if _are_free(ids, slides, taken):
            return ids
    ids = [clean_id(f"{slide.slide_id}_{slide.path.suffix[1:]}") for slide in slides]
    if _are_free(ids, slides, taken):
        return ids
    return [clean_id(f"{slide.slide_id}_{number}") for number, slide in enumerate(slides, start=1)]


def _are_free(ids: list[str], slides: list[FoundSlide], taken: set[str]) -> bool:
    own = {slide.slide_id.casefold() for slide in slides}
    lower = [text.casefold() for text in ids]
    return len(set(lower)) == len(lower) and not (set(lower) & (taken - own))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
