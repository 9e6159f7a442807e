"""Check the rows of the sheet against a configuration: required annotations, and splits."""

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


def slides_tiled_by_annotation(config: Config, sheet: Sheet) -> dict[str, list[SlideRow]]:
    """Return the slides whose annotation determines their tissue or tiles, by the configuration key that requests it."""
    used = {encoder.tiling for encoder in config.extracted.values()} & set(config.tilings)
    by_tiling = {
        f"tilings.{name}.min_annotation": list(sheet.rows) for name in sorted(used) if config.tilings[name].min_annotation
    }
    method = "tissue.method"
    needs_tiles = bool(config.extracted)
    by_tissue = [r for r in sheet.rows if needs_tiles and r.overrides.get(method, config.tissue.method) == "annotation"]
    return {**by_tiling, **({f"{method}: annotation": by_tissue} if by_tissue else {})}


def annotation_faults(config: Config, sheet: Sheet) -> list[str]:
    """Report slides that lack the annotation that determines their tiles."""
    faults = []
    for key, rows in slides_tiled_by_annotation(config, sheet).items():
        without = [row.slide_id for row in rows if row.annotation is None]
        if without:
            faults.append(f"{key} needs an annotation, and the sheet's `annotation` column has none for {named(without)}")
    return faults


def is_tiled(slide_id: str, config: Config) -> bool:
    """Whether a slide has a receipt for every tiling in use, so that its file is no longer needed."""
    return all(Results(config.results).tiles_receipt(name, slide_id).is_file() for name in tilings_of_encoders(config))


def tilings_of_encoders(config: Config) -> set[str]:
    """Return the names of the tilings used by encoder entries that extract."""
    return {encoder.tiling for encoder in config.extracted.values()}


def sheet_split_faults(config: Config, sheet: Sheet) -> list[str]:
    """Return why the labelled slides cannot be split, or do not fit the trained models or the given splits."""
    if config.trained is not None:
        return trained_faults(config, config.trained, sheet)
    if config.splits is not None:
        return _given_split_faults(config, sheet, config.splits)
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


def _given_split_faults(config: Config, sheet: Sheet, path: Path) -> list[str]:
    """Why a splits file does not fit the sheet."""
    try:
        splits = read_splits(path)
    except StoreError as error:
        return [f"splits: {error}"]
    faults = [
        f"splits: {path} has {name} {values[row.slide_id]!r} for slide {row.slide_id}, but the sheet has {getattr(row, name)!r}"
        for row in sheet.rows
        for name, values in (("label", splits.labels), ("patient_id", splits.patients))
        if row.slide_id in values and values[row.slide_id] != getattr(row, name)
    ]
    return faults + _stratum_faults(splits, config)
