"""Which slides a cell of a table fits: by their names, or by the patients that names and folders begin with."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from wsi_mil.init.slides import FoundSlide, clean_id
from wsi_mil.init.words import TCGA, folded

SHORT_NUMBER = 3
"""Length up to which a number is too common to be an id in a column whose name does not say so."""
COMPLETE = 0.8
"""Share of slides, rows or cells that short numbers must match to be ids if nothing else says so."""
TCGA_SAMPLE = 15
"""Length of a barcode of TCGA up to the type of the sample."""
BARCODE = re.compile(r"TCGA[-._ ][A-Z0-9]{2}[-._ ][A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)
SAMPLE_TYPE = re.compile(r"TCGA-..-....-(\d\d)", re.IGNORECASE)
BARE = -1
"""Strength of a name without folders."""

Fits = Mapping[str, int]
"""Slides that a cell fits, by slide_id, and how specific it is: letters of a patient, or folders that agree."""


@dataclass
class Names:
    """Slides by the spellings of their names, patients and folders.

    Those in which leading zeros and marks do not count are in `loose…`. Those of patients have what slides' names begin with.
    """

    slides: Sequence[FoundSlide]
    exact: dict[str, set[str]] = field(default_factory=dict)
    loose: dict[str, set[str]] = field(default_factory=dict)
    prefixes: dict[str, set[str]] = field(default_factory=dict)
    loose_prefixes: dict[str, dict[str, str]] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=dict)
    loose_folders: dict[str, set[str]] = field(default_factory=dict)
    by_id: dict[str, FoundSlide] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slide in self.slides:
            self.by_id[slide.slide_id] = slide
            for name in slide.names:
                self.exact.setdefault(plain(name), set()).add(slide.slide_id)
                self.loose.setdefault(without_zeros(name), set()).add(slide.slide_id)
            for prefix in _prefixes(slide):
                self.prefixes.setdefault(prefix, set()).add(slide.slide_id)
                self.loose_prefixes.setdefault(without_zeros(prefix), {})[slide.slide_id] = prefix
            for folder in slide.folders:
                self.folders.setdefault(plain(folder), set()).add(slide.slide_id)
                self.loose_folders.setdefault(without_zeros(folder), set()).add(slide.slide_id)


def dashed(name: str) -> str:
    """Return a name with the dashes of a TCGA barcode: R writes TCGA.A1.A0SB.01A."""
    return re.sub(r"[._ ]", "-", name) if BARCODE.match(name) else name


def tcga_patient(name: str) -> str:
    """Return the patient of a TCGA barcode at the beginning of a name, or ""."""
    barcode = TCGA.match(dashed(name))
    return barcode[0].upper() if barcode else ""


def sample_type(name: str) -> str:
    """Return the two digits of a TCGA barcode's sample, 01 to 09 of tumours, 10 to 19 of normal tissue; or ""."""
    barcode = SAMPLE_TYPE.match(dashed(name))
    return barcode[1] if barcode else ""


def is_normal(slide: FoundSlide) -> bool:
    """Return whether a slide is of normal tissue by its TCGA barcode."""
    return any(sample_type(name).startswith("1") for name in slide.names)


def plain(text: str) -> str:
    """Return text in which case, accents and repeated spaces do not count."""
    return " ".join(folded(text).split())


def whole(cell: str) -> str:
    """Return a cell without the decimals that pandas gives whole numbers in columns with empty cells: 12.0."""
    return cell[:-2] if re.fullmatch(r"\d+\.0", cell) else cell


def without_zeros(text: str) -> str:
    """Return text without marks between its parts and leading zeros of its numbers: P-0012_3 is p/12/3."""
    parts = [part.lstrip("0") or "0" for part in re.findall(r"\d+|[^\W\d_]+", plain(text))]
    return "/".join(parts)


def spellings(cell: str) -> list[str]:
    """Return a slide's name as it is, as the name of a file, and without its ending."""
    path = PurePosixPath(whole(cell).replace("\\", "/"))
    stem = path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,7}", path.suffix) else path.name
    return list(dict.fromkeys((cell, path.name, stem, stem.removesuffix(".ome"))))


def by_name(cell: str, names: Names, *, loose: bool) -> Fits:
    """Return the slides of a cell with a slide's name, with or without ending and folders, which must agree."""
    above, name = _above(cell), PurePosixPath(whole(cell).replace("\\", "/")).name
    texts = [cell] if above else spellings(cell)
    bare = dict.fromkeys(_named(texts, names, loose=loose), BARE)
    if bare or not above:
        return bare
    for text in spellings(name):
        depths = {s: _agreeing(above, names.by_id[s], loose=loose) for s in _named([text], names, loose=loose)}
        is_common = re.fullmatch(rf"\d{{1,{SHORT_NUMBER}}}", text) and text == name
        kept = {slide_id: depth for slide_id, depth in depths.items() if depth > 0 or (depth == 0 and not is_common)}
        if kept:
            best = max(kept.values())
            return {slide_id: depth for slide_id, depth in kept.items() if depth == best}
    return {}


def by_patient(cell: str, names: Names, *, loose: bool) -> Fits:
    """Return the slides whose names begin with a cell; of barcodes of samples those of the same sample or type."""
    text = dashed(whole(cell))
    if loose:
        return dict.fromkeys(names.loose_prefixes.get(without_zeros(text), {}), 0)
    fits = dict.fromkeys(names.prefixes.get(plain(text), set()), len(plain(text)))
    if tcga_patient(text):
        less = text[:TCGA_SAMPLE] if sample_type(text) else tcga_patient(text)
        fits = dict.fromkeys(names.prefixes.get(plain(less), set()), len(less)) | fits
    return fits


def spelt_alike(cell: str, names: Names) -> bool:
    """Return whether the slides that a cell fits but for leading zeros and marks all begin with one spelling of it."""
    return len(set(names.loose_prefixes.get(without_zeros(whole(cell)), {}).values())) < 2


def folders_alike(cell: str, slides: Iterable[str], names: Names) -> bool:
    """Return whether slides are in folders that are called like a cell but for leading zeros and marks, in one spelling."""
    folders = {plain(folder) for slide_id in slides for folder in names.by_id[slide_id].folders}
    return sum(without_zeros(folder) == without_zeros(whole(cell)) for folder in folders) < 2


def by_folder(fits: Mapping[str, Fits], names: Names, *, loose: bool) -> dict[str, Fits]:
    """Return slides that no cell fits by name, by the cells that their folders are called like.

    A folder is no patient if slides in it belong to another cell, nor if it is a number and slides fit by name: it is a batch
    then. Short numbers must be those of most cells.

    Args:
        fits: slides that each cell fits by name.
        names: of the slides.
        loose: whether leading zeros and marks do not count.
    """
    index, key = (names.loose_folders, without_zeros) if loose else (names.folders, plain)
    found = {cell: index.get(key(whole(cell)), set()) for cell in fits}
    owners: dict[str, set[str]] = {}
    for cell, fit in fits.items():
        for slide_id in fit:
            owners.setdefault(slide_id, set()).add(cell)
    is_complete = sum(map(bool, found.values())) >= COMPLETE * len(fits)
    has_names = any(by_patient(cell, names, loose=True) for cell in fits)
    result: dict[str, Fits] = {}
    for cell, slides in found.items():
        text = whole(cell)
        is_batch = text.isdigit() and (has_names or (len(text) <= SHORT_NUMBER and not is_complete))
        if not is_batch and all(owners.get(slide_id, {cell}) == {cell} for slide_id in slides):
            result[cell] = {slide_id: 0 for slide_id in slides if slide_id not in owners}
    return result


def is_elsewhere(cell: str, slide: FoundSlide) -> bool:
    """Return whether a cell has folders, none of which is that of the slide."""
    return "/" in cell.replace("\\", "/") and _agreeing(_above(cell), slide, loose=True) == 0


def _above(cell: str) -> list[str]:
    """Folders of a cell, the nearest first, without the root of the machine."""
    parts = PurePosixPath(whole(cell).replace("\\", "/")).parts[:-1]
    return [part for part in reversed(parts) if part not in ("/", "//", "..") and not re.fullmatch(r"[A-Za-z]:/?", part)]


def _named(texts: Sequence[str], names: Names, *, loose: bool) -> set[str]:
    """Slides of the first spelling that there is; without zeros those of all."""
    if loose:
        return set().union(*(names.loose.get(without_zeros(text), set()) for text in texts))
    return next((found for text in texts if (found := names.exact.get(plain(text), set()))), set())


def _agreeing(above: Sequence[str], slide: FoundSlide, *, loose: bool) -> int:
    """How many folders of a cell, from the nearest on, are those of a slide's file; BARE if they contradict it.

    Folders above the one that the user gave need not agree: their names differ from machine to machine. A slide that is named
    like its folder, as DICOM slides are, may be listed as the folder.
    """
    key = without_zeros if loose else plain
    wanted, best = [key(part) for part in above], BARE
    for file, depth in slide.files or ((slide.path, len(slide.folders)),):
        own = [key(part) for part in reversed((Path.cwd() / file).parts[1:-1])]
        for skipped in (0, 1) if slide.patient or slide.path.parent.name in slide.names else (0,):
            pairs = list(zip(wanted, own[skipped:], strict=False))
            n = next((at for at, (one, other) in enumerate(pairs) if one != other), len(pairs))
            if n >= min(len(wanted), max(depth - skipped, 0)):
                best = max(best, n)
    return best


def _prefixes(slide: FoundSlide) -> set[str]:
    """What slides' names begin with, up to a mark or the end, and the names of their patients."""
    texts = {slide.patient} if slide.patient else set()
    for name in (name for name in slide.names if name != slide.path.name and not (name == slide.slide_id and _has_folder(slide))):
        name = dashed(name)
        ends = [match.start() for match in re.finditer(r"(?<=[^\W_])(?=[\W_]|$)", name)]
        texts |= {name[:end] for end in ends}
        texts |= {name[:TCGA_SAMPLE]} if tcga_patient(name) else set()
    return {plain(text) for text in texts}


def _has_folder(slide: FoundSlide) -> bool:
    """Whether the id of a slide begins with its folder since other slides have its name."""
    is_own = clean_id(slide.path.name).startswith(slide.slide_id)
    return not is_own and any(slide.slide_id.startswith(f"{clean_id(folder)}_") for folder in slide.folders)
