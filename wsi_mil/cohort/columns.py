"""Check the names of the sheet's columns: find missing ones, and misspelt or similar names."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from wsi_mil.config import Config, Recalibrate, Settings, SlideFile, Split, Tissue, nearest
from wsi_mil.wording import named

REQUIRED = ("slide_id", "path")
"""Required columns, `path` only if slides are read; those of targets are required too."""

OPTIONAL = ("patient_id", "mpp", "split", "fold", "annotation", "mask", "scanner")
OVERRIDES: dict[str, type[Settings]] = {"slide": SlideFile, "tissue": Tissue}
"""Settings blocks of which a column `block.key` may override a setting for one slide."""

SETTINGS = tuple(f"{block}.{key}" for block, model in OVERRIDES.items() for key in model.model_fields)
READ = (*REQUIRED, *OPTIONAL, *SETTINGS)

LONG = 9
"""Length of a name from which on two letters may be misspelt."""
SHORT = 3
"""Length of a name up to which no letter may be misspelt."""

SYNONYMS = {
    "slide_id": "slide slides slidename image imageid wsi wsiid id name",
    "path": "file files filename filepath slidepath slidefile imagepath wsipath image location uri url",
    "label": "class classes target diagnosis outcome category groundtruth y",
    "patient_id": "patients patientno patientnr patientnum patientnumber patientcode patientkey patientuid patientname",
}
"""Names in lower case that certainly mean a column: a fault if the column is missing."""

POSSIBLE_SYNONYMS = {
    "patient_id": "case cases caseid caseno casenr casenumber casesubmitterid submitterid subject subjects subjectid subjectno"
    " participant participantid donor donorid individual individualid person personid bcrpatientbarcode bcrpatientuuid"
    " patientbarcode patientuuid mrn pid ptid patid animal animalid mouse mouseid",
    "mpp": "resolution pixelsize pixelsizeum micronsperpixel micronperpixel umperpixel umpx",
    "split": "set subset partition traintest trainvaltest",
    "fold": "kfold cvfold",
    "annotation": "geojson xml annotationxml annotationgeojson",
}
"""Names in lower case that may mean a column: a warning if the column is missing."""

NEUTRAL_WORDS = (
    "id ids no nr num number idx index name path paths file files filename x y um px value cv k train test val data dataset"
    " level slide tissue model type vendor make serial geojson xml"
)
"""Words that do not change the meaning of a column's name."""

OWN_PATIENT = "every slide then counts as a patient of its own, and slides of one patient may be in several folds"


@dataclass(frozen=True)
class SheetColumns:
    """Columns of a sheet that the configuration names, besides those of targets.

    Attributes:
        group: column of `split.group`, or "".
        part: column of `recalibrate`, or "".
    """

    group: str = ""
    part: str = ""

    @classmethod
    def of(cls, split: Split, recalibrate: Recalibrate | None) -> "SheetColumns":
        """Return the columns that two blocks of the configuration name."""
        return cls(split.group or "", recalibrate.column if recalibrate else "")

    @property
    def keys(self) -> dict[str, str]:
        """The columns, with the key of the configuration that names each."""
        return {name: key for name, key in ((self.group, "split.group"), (self.part, "recalibrate")) if name}


@dataclass(frozen=True)
class Columns:
    """Result of the check of the column names.

    Attributes:
        faults: errors in the names.
        warnings: names that may mean a missing column.
        unread: names that are not used.
        are_enough: whether the rows can be checked in spite of faults.
    """

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    unread: tuple[str, ...]
    are_enough: bool


def check_columns(names: Sequence[str], of_targets: Mapping[str, str], *, needs_path: bool) -> Columns:
    """Compare the names of a sheet's columns with the known ones.

    Args:
        names: names in the order of the sheet.
        of_targets: columns that targets are read from, with the key of a target that names them.
        needs_path: whether `path` is required.
    """
    required = dict.fromkeys(name for name in (*REQUIRED, *of_targets) if needs_path or name != "path")
    read = (*READ, *of_targets)
    missing = [name for name in required if name not in names]
    twice = sorted({name for name in names if name in read and names.count(name) > 1})
    keys = {name: f" (for {key})" for name, key in of_targets.items()}
    faults = [f"column {name} is missing{_hint(name, names, read)}{keys.get(name, '')}" for name in missing]
    faults += [f"column {name} occurs twice" for name in twice]
    warnings = []
    unread = []
    for name in dict.fromkeys(names):
        if name in read:
            continue
        fault = _fault(name, names, missing, read)
        warning = "" if fault else _warning(name, names)
        faults += [fault] if fault else []
        warnings += [warning] if warning else []
        unread += [name] if not fault else []
    return Columns(tuple(faults), tuple(warnings), tuple(unread), not missing and not twice)


def _hint(missing: str, names: Sequence[str], read: Collection[str]) -> str:
    """Suggestion for a missing column: a similar name, else the names in the sheet."""
    unknown = [name for name in names if name not in read]
    near = [name for name in unknown if _same(name, missing)] or [name for name in unknown if _means(name, missing)]
    if near:
        return f"; did you mean {near[0]!r}?"
    close = get_close_matches(missing, unknown, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; its columns are {named(list(names), most=12)}" if names else ""


def _fault(name: str, names: Sequence[str], missing: Sequence[str], read: Collection[str]) -> str:
    """Fault of an unknown name, or ""; also "" if the message about a missing column suggests it."""
    same = next((known for known in read if _same(name, known)), "")
    if same:
        if same in names:
            return f"columns {name} and {same} have the same meaning: remove one of them"
        return "" if same in missing else f"column {name}: did you mean {same}?"
    block, dot, key = name.partition(".")
    if dot and block.casefold() in OVERRIDES:
        known_keys = list(OVERRIDES[block.casefold()].model_fields)
        return f"column {name}: unknown setting{nearest(key, known_keys)}"
    if dot and get_close_matches(block, Config.model_fields, cutoff=0.75):
        return f"column {name}: only settings of {' and '.join(OVERRIDES)} can be columns of the sheet, not those of {block}"
    meant = next((k for k in OPTIONAL if k not in names and not _extends(name, k) and _means(name, k)), "")
    return f"column {name}: did you mean {meant}?" if meant else ""


def _warning(name: str, names: Sequence[str]) -> str:
    """Warning about a name that may mean a missing column, or ""."""
    for known in OPTIONAL:
        if known not in names and (_squeezed(name) in POSSIBLE_SYNONYMS.get(known, "").split() or _extends(name, known)):
            why = f": {OWN_PATIENT}" if known == "patient_id" else ""
            return f"column {name} is not used, and there is no column {known}{why}; rename it if it contains the {known}"
    return ""


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _same(name: str, known: str) -> bool:
    """Whether two names differ only in case, spaces, hyphens, underscores and dots."""
    return _squeezed(name) == _squeezed(known)


def _means(name: str, known: str) -> bool:
    """Whether a name is a synonym or a misspelling of a known one."""
    one, other = _squeezed(name), _squeezed(known)
    if one in SYNONYMS.get(known, "").split():
        return True
    if len(other) <= SHORT or one[:1] != other[0]:  # the first letter is seldom misspelt: "gold" does not mean fold
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    wrong = len(one) + len(other) - 2 * sum(block.size for block in matcher.get_matching_blocks())
    return wrong <= 1 or (wrong == 2 and (len(other) >= LONG or sorted(one) == sorted(other)))


def _extends(name: str, known: str) -> bool:
    """Whether a name is a known one with a number or a neutral word: fold_1, mpp_x, annotation_path."""
    words = [word.casefold() for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+", name)]
    others = [word for word in words if word != known]
    return len(others) < len(words) and bool(others) and all(word in NEUTRAL_WORDS.split() or word.isdigit() for word in others)
