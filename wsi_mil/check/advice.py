"""Warnings about a valid configuration and sheet."""

from pathlib import Path

from wsi_mil.check.rows import is_tiled, slides_tiled_by_annotation
from wsi_mil.cohort import Sheet
from wsi_mil.cohort.splits import patients_with_several_labels, read_splits
from wsi_mil.config import EXPLANATIONS, Config, methods_of
from wsi_mil.encoders import advice
from wsi_mil.records import NO_PATH
from wsi_mil.tasks import task_of
from wsi_mil.wording import named


def config_warnings(config: Config, sheet: Sheet) -> list[str]:
    """Return the warnings about a configuration and sheet without faults."""
    warnings = [
        f"slide {row.slide_id}: {row.path} is gone; its existing results are used"
        for row in sheet.rows
        if isinstance(row.path, Path) and row.path != NO_PATH and is_tiled(row.slide_id, config) and not row.path.is_file()
    ]
    warnings += _class_warnings(config, sheet)
    warnings += [
        f"models.{entry}: does not support {method}, which is skipped for it"
        for entry in config.models
        for method in config.explain.methods
        if method not in methods_of(config, entry)
    ]
    warnings += _scale_warnings(config)
    for entry, encoder in config.extracted.items():
        tiling = config.tilings[encoder.tiling]
        warnings += advice(entry, encoder, mpp=tiling.mpp, tile_px=tiling.tile_px)
    warnings += [
        f"{key}: {len(rows)} slides are tiled by their annotations: heatmaps compared with the same annotations look better than"
        " they are, and if only one class is annotated, the annotation reveals the label"
        for key, rows in slides_tiled_by_annotation(config, sheet).items()
    ]
    if config.protocol == "as_published" and config.trained is None:
        warnings.append("protocol as_published: epoch and threshold are chosen on the test fold, so metrics are optimistic")
    if config.splits is not None:
        known_slides = read_splits(config.splits).patients
        missing = [row.slide_id for row in sheet.rows if row.label and row.slide_id not in known_slides]
        if missing:
            warnings.append(f"splits: {len(missing)} labelled slides are not in {config.splits}: predicted, not trained on")
    return warnings


def _class_warnings(config: Config, sheet: Sheet) -> list[str]:
    """Warning about patients with slides of several classes, since folds are stratified by one class per patient."""
    draws_folds = config.trained is None and config.splits is None and not any(row.split or row.fold for row in sheet.rows)
    several = patients_with_several_labels(sheet.rows, task_of(config)) if draws_folds else {}
    if not several:
        return []
    names = named([f"{patient} ({', '.join(classes)})" for patient, classes in several.items()])
    patients = "1 patient has" if len(several) == 1 else f"{len(several)} patients have"
    return [f"label: {patients} slides of several classes; folds are stratified by the last class of each: {names}"]


def _scale_warnings(config: Config) -> list[str]:
    if config.heatmap.scale != "cohort":
        return []
    return [
        f"heatmap.scale: {method} cannot be compared across slides, so its heatmaps keep each slide's own scale"
        for method in config.explain.methods
        if not EXPLANATIONS[method].comparable_weighted
    ]
