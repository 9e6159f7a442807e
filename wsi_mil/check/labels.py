"""Check whether the labels of a target are enough to learn from: constant columns, missing classes, hardly any labels."""

from collections import Counter
from collections.abc import Iterable, Sequence

from wsi_mil.cohort.labels import UNKNOWN_LABEL
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import ClassesTarget, MultilabelTarget, RegressionTarget, SurvivalTarget, Target
from wsi_mil.records import Role, SlideRow
from wsi_mil.wording import listed

MOSTLY = 0.5
"""Share of slides without a label above which there is a warning."""


def constant_faults(target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Return why nothing can be learned from the labels.

    Args:
        target: its settings.
        rows: slides with their labels for the target, or "".
    """
    labels = [row.label for row in rows if row.label]
    if not labels:
        columns = listed(target.columns_read)
        return [f"no slide has a label: {'columns' if len(target.columns_read) > 1 else 'column'} {columns} must be filled"]
    match target:
        case ClassesTarget():
            return _missing_classes(target, labels)
        case MultilabelTarget():
            return [fault for column, values in _by_column(target, labels).items() for fault in _same_labels(column, values)]
        case RegressionTarget():
            return [_always(target.column, labels)] if len(set(labels)) == 1 else []
        case SurvivalTarget():
            return _unusable_follow_up(target, labels)


def empty_warnings(target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Return warnings about columns in which most slides have no label.

    Args:
        target: its settings.
        rows: slides with their labels for the target, or "".
    """
    if isinstance(target, MultilabelTarget):
        unknown = " ".join([UNKNOWN_LABEL] * len(target.columns))
        by_column = _by_column(target, [row.label or unknown for row in rows])
        empty = {f"column {column}": values.count(UNKNOWN_LABEL) for column, values in by_column.items()}
    else:
        empty = {listed([f"column {column}" for column in target.columns_read]): sum(not row.label for row in rows)}
    return [
        f"{n} of {len(rows)} slides have no label ({column}); they are not trained on"
        for column, n in empty.items()
        if n > MOSTLY * len(rows)
    ]


def event_faults(target: Target, splits: Splits) -> list[str]:
    """Return faults of folds without an event among their test slides, on which no figure could be computed."""
    if not isinstance(target, SurvivalTarget):
        return []
    without = [fold for fold in range(splits.n_folds) if not _has_event(splits, fold)]
    return [
        f"splits: fold {fold} has no test slide with an event, on which nothing can be measured; use fewer or other folds"
        for fold in without
    ]


def _has_event(splits: Splits, fold: int) -> bool:
    return any(splits.labels[slide_id].endswith(" 1") for slide_id in splits.slides(fold, Role.TEST))


def _missing_classes(target: ClassesTarget, labels: Sequence[str]) -> list[str]:
    counts = Counter(labels)
    missing = [repr(name) for name in target.classes if name not in counts]
    held = listed([f"{name!r} ({n})" for name, n in counts.most_common()])
    return [f"no slide has class {' or '.join(missing)}: column {target.column} holds {held}"] if missing else []


def _by_column(target: MultilabelTarget, labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Values of each label: 1, 0 or ?."""
    return dict(zip(target.columns, zip(*(label.split() for label in labels), strict=True), strict=True))


def _same_labels(column: str, values: Sequence[str]) -> list[str]:
    known = [value for value in values if value != UNKNOWN_LABEL]
    if not known:
        return [f"column {column} is empty: remove it from `columns`, or fill it"]
    if len(set(known)) == 1:
        return [f"column {column}: all {len(known)} labelled slides are {'positive' if known[0] == '1' else 'negative'}"]
    return []


def _unusable_follow_up(target: SurvivalTarget, labels: Sequence[str]) -> list[str]:
    times, events = zip(*(label.split() for label in labels), strict=True)
    faults = [] if "1" in events else [f"column {target.event}: none of {len(labels)} slides has an event"]
    longest = max(map(float, times))
    beyond = [f"{horizon:g}" for horizon in target.horizons if horizon >= longest]
    if beyond:
        faults.append(f"horizons: {listed(beyond)}: no patient was followed that long; column {target.time} ends at {longest:g}")
    return faults + ([_always(target.time, times)] if len(set(times)) == 1 else [])


def _always(column: str, values: Sequence[str]) -> str:
    return f"column {column}: all {len(values)} labelled slides have {float(values[0]):g}: there is nothing to learn"
