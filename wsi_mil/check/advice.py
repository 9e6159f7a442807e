"""Warnings of `check`: what a user should know before a run that has no faults."""

from pathlib import Path

from wsi_mil.check.rows import following, is_tiled
from wsi_mil.cohort import Sheet
from wsi_mil.cohort.splits import patients_with_several_labels, read_splits
from wsi_mil.config import EXPLANATIONS, Config, methods_of
from wsi_mil.encoders import advice
from wsi_mil.records import NO_PATH
from wsi_mil.tasks import task_of
from wsi_mil.wording import named


def warnings_of(config: Config, sheet: Sheet) -> list[str]:
    """Warnings about a configuration and a sheet without faults, one sentence each."""
    warnings = [
        f"slide {row.slide_id}: {row.path} is gone; what was made from it is used"
        for row in sheet.rows
        if isinstance(row.path, Path) and row.path != NO_PATH and is_tiled(row.slide_id, config) and not row.path.is_file()
    ]
    warnings += _class_warnings(config, sheet)
    warnings += [
        f"models.{entry}: does not support {method}, which is left out for it"
        for entry in config.models
        for method in config.explain.methods
        if method not in methods_of(config, entry)
    ]
    warnings += _scale_warnings(config)
    for entry, encoder in config.extracted.items():
        tiling = config.tilings[encoder.tiling]
        warnings += advice(entry, encoder, mpp=tiling.mpp, tile_px=tiling.tile_px)
    warnings += [
        f"{key}: {len(rows)} slides are tiled by their annotations: explanations evaluated against the same annotations look"
        " better than they are, and where only one class is annotated, the annotation gives the label away"
        for key, rows in following(config, sheet).items()
    ]
    if config.protocol == "as_published" and config.trained is None:
        warnings.append("protocol as_published: epoch and threshold are chosen on the test fold, so figures are optimistic")
    if config.splits is not None:
        known = read_splits(config.splits).patients
        missing = [row.slide_id for row in sheet.rows if row.label and row.slide_id not in known]
        if missing:
            warnings.append(f"splits: {len(missing)} labelled slides are not in {config.splits}: predicted, not trained on")
    return warnings


def _class_warnings(config: Config, sheet: Sheet) -> list[str]:
    """Warn of patients whose slides have several classes: folds are stratified by one of them."""
    is_drawn = config.trained is None and config.splits is None and not any(row.split or row.fold for row in sheet.rows)
    several = patients_with_several_labels(sheet.rows, task_of(config)) if is_drawn else {}
    if not several:
        return []
    names = named([f"{patient} ({', '.join(have)})" for patient, have in several.items()])
    have = "1 patient has" if len(several) == 1 else f"{len(several)} patients have"
    return [f"label: {have} slides of several classes, of which the last counts when folds are drawn: {names}"]


def _scale_warnings(config: Config) -> list[str]:
    if config.heatmap.scale != "cohort":
        return []
    return [
        f"heatmap.scale: {method} cannot be compared across slides, so its pictures keep each slide's own scale"
        for method in config.explain.methods
        if not EXPLANATIONS[method].comparable_weighted
    ]
