"""Names of the sheet's columns: which are read, and which look as though they were meant to be."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from wsi_mil.config import Config, Settings, SlideFile, Tissue, nearest
from wsi_mil.wording import named

REQUIRED = ("slide_id", "path", "label")
"""Columns; `path` only where slides are read."""

OPTIONAL = ("patient_id", "mpp", "split", "fold", "annotation", "mask", "scanner")
OVERRIDES: dict[str, type[Settings]] = {"slide": SlideFile, "tissue": Tissue}
"""Settings blocks that a column `block.key` may override for one slide."""

SETTINGS = tuple(f"{block}.{key}" for block, model in OVERRIDES.items() for key in model.model_fields)
READ = (*REQUIRED, *OPTIONAL, *SETTINGS)

LONG = 9
"""Letters of a name in which two may be wrong."""
SHORT = 3
"""Letters of a name that is too short for wrong ones to be told from another name."""

MEANT = {
    "slide_id": "slide slides slidename image imageid wsi wsiid id name",
    "path": "file files filename filepath slidepath slidefile imagepath wsipath image location uri url",
    "label": "class classes target diagnosis outcome category groundtruth y",
    "patient_id": "patients patientno patientnr patientnum patientnumber patientcode patientkey patientuid patientname",
}
"""Names, small letters only, that stand for a column so surely that it is a fault where the column is missing."""

OTHERS = {
    "patient_id": "case cases caseid caseno casenr casenumber casesubmitterid submitterid subject subjects subjectid subjectno"
    " participant participantid donor donorid individual individualid person personid bcrpatientbarcode bcrpatientuuid"
    " patientbarcode patientuuid mrn pid ptid patid animal animalid mouse mouseid",
    "mpp": "resolution pixelsize pixelsizeum micronsperpixel micronperpixel umperpixel umpx",
    "split": "set subset partition traintest trainvaltest",
    "fold": "kfold cvfold",
    "annotation": "geojson xml annotationxml annotationgeojson",
}
"""Names, small letters only, that may stand for a column: a warning where it is missing."""

ADDED = (
    "id ids no nr num number idx index name path paths file files filename x y um px value cv k train test val data dataset"
    " level slide tissue model type vendor make serial geojson xml"
)
"""Words which, beside the name of a column, leave its meaning alone."""

OWN_PATIENT = "every slide then counts as its own patient, and a patient's slides may land in several folds"


@dataclass(frozen=True)
class Columns:
    """What there is to say of the names of columns.

    Attributes:
        faults: the sheet cannot be meant so.
        warnings: of names that may stand for a column that is missing.
        unread: the names that nothing reads.
        are_enough: whether rows can be looked at all the same.
    """

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    unread: tuple[str, ...]
    are_enough: bool


def about_columns(names: Sequence[str], *, needs_path: bool) -> Columns:
    """Hold the names of a sheet's columns against those that are read.

    Args:
        names: as they stand there.
        needs_path: whether `path` is required.
    """
    missing = [name for name in REQUIRED if name not in names and (needs_path or name != "path")]
    twice = sorted({name for name in names if name in READ and names.count(name) > 1})
    faults = [f"column {name} is missing{_hint(name, names)}" for name in missing]
    faults += [f"column {name} stands there twice" for name in twice]
    warnings, unread = [], []
    for name in dict.fromkeys(names):
        if name in READ:
            continue
        fault = _fault(name, names, missing)
        warning = "" if fault else _warning(name, names)
        faults += [fault] if fault else []
        warnings += [warning] if warning else []
        unread += [name] if not fault else []
    return Columns(tuple(faults), tuple(warnings), tuple(unread), not missing and not twice)


def _hint(missing: str, names: Sequence[str]) -> str:
    """The name that stands for a required column, or the names there are."""
    free = [name for name in names if name not in READ]
    near = [name for name in free if _same(name, missing)] or [name for name in free if _is_meant(name, missing)]
    if near:
        return f"; did you mean {near[0]!r}?"
    close = get_close_matches(missing, free, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; its columns are {named(list(names), most=12)}" if names else ""


def _fault(name: str, names: Sequence[str], missing: Sequence[str]) -> str:
    """What is wrong with a name that is not read, or "", also where the column that is missing points at it."""
    same = next((known for known in READ if _same(name, known)), "")
    if same:
        if same in names:
            return f"column {name} stands beside {same}: take one of them away"
        return "" if same in missing else f"column {name}: did you mean {same}?"
    block, dot, key = name.partition(".")
    if dot and block.casefold() in OVERRIDES:
        known_keys = list(OVERRIDES[block.casefold()].model_fields)
        return f"column {name}: unknown setting{nearest(key, known_keys)}"
    if dot and get_close_matches(block, Config.model_fields, cutoff=0.75):
        return f"column {name}: settings of {' and '.join(OVERRIDES)} can stand in the sheet, not of {block}"
    meant = next((k for k in OPTIONAL if k not in names and not _extends(name, k) and _is_meant(name, k)), "")
    return f"column {name}: did you mean {meant}?" if meant else ""


def _warning(name: str, names: Sequence[str]) -> str:
    """What a name may stand for that is missing, or ""."""
    for known in OPTIONAL:
        if known not in names and (_squeezed(name) in OTHERS.get(known, "").split() or _extends(name, known)):
            why = f": {OWN_PATIENT}" if known == "patient_id" else ""
            return f"column {name} is not read, and there is no column {known}{why}; rename it if that is what it holds"
    return ""


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _same(name: str, known: str) -> bool:
    """Whether two names differ in case, spaces, hyphens, underscores and points only."""
    return _squeezed(name) == _squeezed(known)


def _is_meant(name: str, known: str) -> bool:
    """Whether a name is a known one with a slip of the pen, or another word for it."""
    one, other = _squeezed(name), _squeezed(known)
    if one in MEANT.get(known, "").split():
        return True
    if len(other) <= SHORT or one[:1] != other[0]:  # a slip of the pen is seldom in the first letter: "gold" is no fold
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    wrong = len(one) + len(other) - 2 * sum(block.size for block in matcher.get_matching_blocks())
    return wrong <= 1 or (wrong == 2 and (len(other) >= LONG or sorted(one) == sorted(other)))


def _extends(name: str, known: str) -> bool:
    """Whether a name is a known one with a number or a word that changes nothing: fold_1, mpp_x, annotation_path."""
    words = [word.casefold() for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+", name)]
    others = [word for word in words if word != known]
    return len(others) < len(words) and bool(others) and all(word in ADDED.split() or word.isdigit() for word in others)
