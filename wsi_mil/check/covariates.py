"""Check the covariates of targets: in the configuration, and in the rows of the sheet."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np

from wsi_mil.config import (
    NO_GROUPS,
    Clinical,
    Config,
    MultilabelTarget,
    RegressionTarget,
    SurvivalTarget,
    Target,
    architecture_of,
)
from wsi_mil.covariates import category_of, number_of
from wsi_mil.metrics import spearman
from wsi_mil.records import SlideRow
from wsi_mil.wording import listed, named

MOST_CATEGORIES = 50
"""Largest number of values of a column of categories."""
SAME_ORDER = 0.999
"""Rank correlation from which on a number has the order of another one."""

Column = dict[str, str]
"""Filled cells of a column by slide_id."""


def covariate_config_faults(config: Config) -> list[str]:
    """Return the faults of covariates, and of models that need them, that can be found without the sheet."""
    faults = []
    for name, target in config.targets.items():
        key = f"targets.{name}.covariates"
        for column in target.covariates.columns if target.covariates else ():
            if column in target.columns_read:
                faults.append(f"{key}: the target itself is read from column {column}, which would tell the answer: remove it")
            elif column in NO_GROUPS:
                faults.append(f"{key}: column {column} says which slide it is, not what is known of the patient: remove it")
            elif column == config.split.group and config.split.holds_out_groups and config.trained is None:
                faults.append(
                    f"{key}: whole groups of column {column} are held out (split.group), and a model cannot learn from a"
                    f" {column} that it never saw: remove it"
                )
        faults += _model_faults(config, name)
    with_covariates = [name for name, target in config.targets.items() if target.covariates]
    clinical = [entry for entry, settings in config.models.items() if isinstance(settings, Clinical)]
    if clinical and not with_covariates:
        faults.append(
            f"models.{clinical[0]}: clinical learns from covariates, but no target has any: add covariates, such as"
            " {numbers: [age], categories: [sex]}, to a target, or remove the entry"
        )
    return faults


def covariate_config_warnings(config: Config) -> list[str]:
    """Return what to know about models that are left out, and covariates that are not used."""
    warnings = []
    clinical = [entry for entry, settings in config.models.items() if isinstance(settings, Clinical)]
    for name, target in config.targets.items():
        if target.covariates and config.split.group in target.covariates.columns:
            warnings.append(
                f"targets.{name}.covariates: column {config.split.group} is split.group too: models with covariates predict from"
                f" the {config.split.group} itself, so that their figures say little of another one"
            )
        if clinical and not target.covariates and not target.models:
            warnings.append(f"targets.{name}: has no covariates, so {listed(clinical)} is left out for it")
        if target.covariates and not any(_uses(config, entry) for entry in config.models_of(name)):
            warnings.append(
                f"targets.{name}.covariates: no model uses them: set covariates: true in an entry of models, or add one with"
                " model: clinical"
            )
    return warnings


def covariate_sheet_faults(config: Config, target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Return why columns cannot be covariates, from the slides that are labelled for the target.

    Args:
        config: the configuration.
        target: settings of the target.
        rows: all slides with their labels for the target, or "".
    """
    if target.covariates is None:
        return []
    labelled = [row for row in rows if row.label]
    faults = [] if config.trained is not None else _useless_columns(target, labelled)
    if config.bag == "patient":
        faults += [
            f"covariates: {difference}; with bag: patient all slides of a patient must have the same value"
            for difference in _differences(target, rows)
        ]
    return faults


def covariate_sheet_warnings(config: Config, target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Return warnings about the values of covariates; arguments as for `covariate_sheet_faults`."""
    if target.covariates is None:
        return []
    labelled = [row for row in rows if row.label]
    warnings = []
    for column in target.covariates.columns:
        n_empty = sum(column not in row.covariates for row in rows)
        if n_empty:
            what = "no category" if column in target.covariates.categories else "the mean of the training part"
            indicator = _indicator(column, labelled, is_trained=config.trained is not None)
            warnings.append(f"column {column} is empty for {n_empty} of {len(rows)} slides: coded as {what}, {indicator}")
    if config.trained is None:
        for column in target.covariates.categories:
            warnings += _rare_values(column, labelled, rows)
        warnings += _telling_columns(target, labelled)
    if config.bag == "slide":
        differences = _differences(target, rows)
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        warnings += [f"{first}{more}: each slide has its own value" for first in differences[:1]]
    return [f"covariates: {warning}" for warning in warnings]


def _indicator(column: str, labelled: Iterable[SlideRow], *, is_trained: bool) -> str:
    """Whether an indicator tells that a value is missing: only if the training part of a fold lacks some as well."""
    if is_trained:
        return "with an indicator if the training part of the models lacked values too"
    if all(column in row.covariates for row in labelled):
        return "without an indicator, since all labelled slides have a value"
    return "with an indicator in folds whose training part lacks values too"


def _uses(config: Config, entry: str) -> bool:
    return entry in config.models and architecture_of(config.models, entry).uses_covariates


def _model_faults(config: Config, name: str) -> list[str]:
    """Models that need covariates, of a target without any."""
    target = config.targets[name]
    if target.covariates is not None or not set(config.models_of(name)) <= set(config.models):
        return []
    using = [entry for entry in config.models_of(name) if _base_is_known(config, entry) and _uses(config, entry)]
    others = [entry for entry in config.models_of(name) if entry not in using]
    if not using:
        return []
    need = f"{listed(using)} {'need' if len(using) > 1 else 'needs'} covariates"
    remedy = f"add covariates to the target, or write targets.{name}.models: [{', '.join(others)}]"
    return [f"targets.{name}: {need}, but the target has none; {remedy}"]


def _base_is_known(config: Config, entry: str) -> bool:
    """Whether the network of an entry is known; a base that does not exist is reported elsewhere."""
    base = getattr(config.models[entry], "base", None)
    return base is None or (base in config.models and not hasattr(config.models[base], "base"))


def _useless_columns(target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Columns without a value, with one only, or with about as many categories as patients."""
    assert target.covariates is not None
    faults = []
    for column in target.covariates.columns:
        cells = _filled(column, rows)
        values = set(_values(target, column, cells))
        if not cells:
            faults.append(f"covariates: column {column} is empty for all {len(rows)} labelled slides: fill it, or remove it")
        elif len(values) == 1:
            only = next(iter(cells.values()))
            faults.append(f"covariates: column {column}: all labelled slides with a value have {only!r}: remove it")
        elif column in target.covariates.categories and (reason := _too_many(column, rows)):
            faults.append(f"covariates: column {column} has {reason}; a number goes under numbers, and a name is no covariate")
    return faults


def _too_many(column: str, rows: Iterable[SlideRow]) -> str:
    patients = _patients_by_value(column, rows)
    if len(patients) > MOST_CATEGORIES:
        return f"{len(patients)} values, more than the {MOST_CATEGORIES} that a category may have"
    if len(patients) > 2 and all(len(of_value) == 1 for of_value in patients.values()):
        return f"{len(patients)} values, each of one patient only"
    return ""


def _rare_values(column: str, labelled: Sequence[SlideRow], rows: Sequence[SlideRow]) -> list[str]:
    """Values of one labelled patient, or of none: in a fold that holds the patient out, no training slide has them."""
    patients = _patients_by_value(column, labelled)
    once = [repr(value) for value, of_value in patients.items() if len(of_value) == 1]
    none = [repr(value) for value in _patients_by_value(column, rows) if value not in patients]
    warnings = []
    if once:
        has = "is of one patient only, for whom it is" if len(once) == 1 else "are of one patient each, for whom they are"
        warnings.append(f"column {column}: {named(once)} {has} coded as no category when held out")
    if none:
        have = "has" if len(none) == 1 else "have"
        warnings.append(f"column {column}: no labelled slide {have} {named(none)}, which is coded as no category")
    return warnings


def _patients_by_value(column: str, rows: Iterable[SlideRow]) -> dict[str, set[str]]:
    patients: dict[str, set[str]] = {}
    for row in rows:
        if column in row.covariates:
            patients.setdefault(category_of(row.covariates[column]), set()).add(row.patient_id)
    return patients


def _differences(target: Target, rows: Iterable[SlideRow]) -> list[str]:
    """Patients whose slides have different values."""
    assert target.covariates is not None
    found, first = dict[tuple[str, str], str](), dict[tuple[str, str], SlideRow]()
    for row in rows:
        for column in target.covariates.columns:
            other = first.setdefault((row.patient_id, column), row)
            ours, theirs = (r.covariates.get(column, "") for r in (row, other))
            if category_of(ours) != category_of(theirs):
                values = f"{theirs!r} (slide {other.slide_id}) and {ours!r} (slide {row.slide_id})"
                found.setdefault((row.patient_id, column), f"patient {row.patient_id!r} has {column} {values}")
    return list(found.values())


def _telling_columns(target: Target, rows: Sequence[SlideRow]) -> list[str]:
    """Columns that tell the label by themselves: they are written down after it, or the cohort was put together so."""
    assert target.covariates is not None
    found = []
    for column in target.covariates.columns:
        cells = _filled(column, rows)
        is_filled = {row.slide_id: str(row.slide_id in cells) for row in rows}
        for what, answers in _answers(target, rows).items():
            values = dict(zip(cells, _values(target, column, cells), strict=True))
            if _tells(values, answers):
                found.append(f"column {column} alone tells {what} of every labelled slide: is it known before the answer is?")
            elif _tells(is_filled, answers):
                found.append(f"whether column {column} is empty tells {what} of every labelled slide")
    return found


def _answers(target: Target, rows: Sequence[SlideRow]) -> dict[str, dict[str, str | float]]:
    """What is to be learned of each slide, by its name in a sentence: categories, or numbers."""
    labels = {row.slide_id: row.label.split() for row in rows}
    match target:
        case MultilabelTarget():
            return {
                f"label {column}": {slide: parts[i] for slide, parts in labels.items() if parts[i] != "?"}
                for i, column in enumerate(target.columns)
            }
        case RegressionTarget():
            return {"the order of the values": {slide: float(parts[0]) for slide, parts in labels.items()}}
        case SurvivalTarget():
            events: dict[str, str | float] = {slide: event for slide, (_, event) in labels.items()}
            return {"the event": events, "the order of the times": {slide: float(time) for slide, (time, _) in labels.items()}}
    return {"the class": {row.slide_id: row.label for row in rows}}


def _tells(values: Mapping[str, str | float], answers: Mapping[str, str | float]) -> bool:
    """Whether the answers of slides follow from their values."""
    slides = [slide for slide in values if slide in answers]
    ours, answer = [values[slide] for slide in slides], [answers[slide] for slide in slides]
    if len(set(answer)) < 2 or len(set(ours)) < 2:
        return False
    are_numbers = isinstance(ours[0], float)
    if isinstance(answer[0], float):
        return are_numbers and abs(spearman(np.array(ours, float), np.array(answer))) > SAME_ORDER
    pairs = set(zip(ours, answer, strict=True))
    if len(pairs) > len(set(ours)):
        return False  # a value with several answers
    if not are_numbers:
        return len(pairs) <= len(slides) / 2
    runs = [key for key, _ in groupby(label for _, label in sorted(pairs))]
    return len(runs) == len(set(answer))


def _filled(column: str, rows: Iterable[SlideRow]) -> Column:
    return {row.slide_id: row.covariates[column] for row in rows if column in row.covariates}


def _values(target: Target, column: str, cells: Column) -> list[str | float]:
    """Numbers or categories; text where a number is expected stays text, and is reported with its row."""
    assert target.covariates is not None
    if column in target.covariates.categories:
        return [category_of(cell) for cell in cells.values()]
    try:
        return [number_of(cell) for cell in cells.values()]
    except ValueError:
        return list(cells.values())
