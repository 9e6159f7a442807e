"""What is wrong with the rows of the sheet under a configuration: annotations that tiles follow, and splits."""

from collections.abc import Sequence
from pathlib import Path

from wsi_mil.check.trained import trained_faults
from wsi_mil.cohort import Sheet
from wsi_mil.cohort.splits import Splits, draw_splits, fold_names, missing_strata, read_splits, split_faults
from wsi_mil.config import Config
from wsi_mil.errors import StoreError
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.tasks import task_of
from wsi_mil.wording import named


def following(config: Config, sheet: Sheet) -> dict[str, list[SlideRow]]:
    """Slides whose annotation decides over their tissue or tiles, by the key that says so."""
    used = {encoder.tiling for encoder in config.extracted.values()} & set(config.tilings)
    by_tiling = {
        f"tilings.{name}.min_annotation": list(sheet.rows) for name in sorted(used) if config.tilings[name].min_annotation
    }
    method = "tissue.method"
    is_tiled_here = bool(config.extracted)
    outlined = [r for r in sheet.rows if is_tiled_here and r.overrides.get(method, config.tissue.method) == "annotation"]
    return {**by_tiling, **({f"{method}: annotation": outlined} if outlined else {})}


def annotation_faults(config: Config, sheet: Sheet) -> list[str]:
    """Slides without the annotation that they are tiled by."""
    faults = []
    for key, rows in following(config, sheet).items():
        without = [row.slide_id for row in rows if row.annotation is None]
        if without:
            faults.append(f"{key} needs an annotation, and the sheet's `annotation` column has none for {named(without)}")
    return faults


def is_tiled(slide_id: str, config: Config) -> bool:
    """Whether a slide has a receipt of every tiling in use already, so that later stages can go on without its file."""
    return all(Results(config.results).tiles_receipt(name, slide_id).is_file() for name in tilings_of_encoders(config))


def tilings_of_encoders(config: Config) -> set[str]:
    """Names of the tilings that encoder entries use which extract."""
    return {encoder.tiling for encoder in config.extracted.values()}


def split_faults_of(config: Config, sheet: Sheet) -> list[str]:
    """Why the labelled slides cannot be parted, or not as trained models or frozen splits part them."""
    if config.trained is not None:
        return trained_faults(config, config.trained, sheet)
    if config.splits is not None:
        return _frozen_faults(config, sheet, config.splits)
    labelled = [row for row in sheet.rows if row.label]
    faults = split_faults(labelled, task_of(config), config.split)
    if not faults:
        try:
            splits = draw_splits(labelled, task_of(config), config.split)
        except ValueError as error:
            return [f"split: these slides cannot be split ({error})"]
        faults = _stratum_faults(splits, config, fold_names(labelled))
    return faults


def _stratum_faults(splits: Splits, config: Config, folds: Sequence[str] = ()) -> list[str]:
    return [
        fault
        for fold in range(splits.n_folds)
        for fault in missing_strata(splits, fold, task_of(config), config.protocol, folds=folds)
    ]


def _frozen_faults(config: Config, sheet: Sheet, frozen: Path) -> list[str]:
    """Why a splits file does not fit the sheet."""
    try:
        splits = read_splits(frozen)
    except StoreError as error:
        return [f"splits: {error}"]
    faults = [
        f"splits: {frozen} has {name} {have[row.slide_id]!r} for slide {row.slide_id}, the sheet {getattr(row, name)!r}"
        for row in sheet.rows
        for name, have in (("label", splits.labels), ("patient_id", splits.patients))
        if row.slide_id in have and have[row.slide_id] != getattr(row, name)
    ]
    return faults + _stratum_faults(splits, config)
