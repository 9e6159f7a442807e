"""Warnings about a valid configuration and sheet."""

from pathlib import Path

from wsi_mil.check.covariates import covariate_config_warnings, covariate_sheet_warnings
from wsi_mil.check.fine import fine_warnings
from wsi_mil.check.labels import empty_warnings
from wsi_mil.check.rows import is_tiled, slides_tiled_by_annotation
from wsi_mil.check.slide_vectors import slide_vector_warnings
from wsi_mil.cohort import Sheet
from wsi_mil.cohort.groups import group_warnings
from wsi_mil.cohort.splits import patients_with_several_labels, read_splits
from wsi_mil.config import BEST, EXPLANATIONS, MHIM, ClassesTarget, Config, explains, methods_of, provided_by, supports
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
    warnings += [warning for name in config.targets for warning in _target_warnings(config, sheet, name)]
    warnings += slide_vector_warnings(config) + _unused_model_warnings(config)
    warnings += covariate_config_warnings(config) + _method_warnings(config)
    warnings += _scale_warnings(config) + fine_warnings(config)
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
    return warnings


def _target_warnings(config: Config, sheet: Sheet, name: str) -> list[str]:
    """Warnings about labels and covariates: slides that a given split lacks, patients with slides of several classes."""
    rows, target = [row.for_target(name) for row in sheet.rows], config.targets[name]
    of_covariates = [f"targets.{name}: {warning}" for warning in covariate_sheet_warnings(config, target, rows)]
    if config.trained is not None:
        return of_covariates
    warnings = of_covariates + [f"targets.{name}: {warning}" for warning in empty_warnings(target, rows)]
    if config.split.group is not None:
        labelled = [row for row in rows if row.label]
        warnings += [f"targets.{name}: {text}" for text in group_warnings(labelled, task_of(target), config.split)]
    given = config.splits_of(name)
    if given is not None:
        known_slides = read_splits(given).patients
        labelled = [row for row in rows if row.label and row.group not in config.split.external]
        n_missing = sum(row.slide_id not in known_slides for row in labelled)
        missing = f"splits.{name}: {n_missing} labelled slides are not in {given}: predicted, not trained on"
        return [*warnings, *([missing] if n_missing else [])]
    draws_folds = isinstance(target, ClassesTarget) and not any(row.split or row.fold for row in rows)
    several = patients_with_several_labels(rows, task_of(target)) if draws_folds else {}
    if not several:
        return warnings
    names = named([f"{patient} ({', '.join(classes)})" for patient, classes in several.items()])
    patients = "1 patient has" if len(several) == 1 else f"{len(several)} patients have"
    folds = "folds are stratified by the last class of each"
    return [*warnings, f"targets.{name}: {patients} slides of several classes; {folds}: {names}"]


def _unused_model_warnings(config: Config) -> list[str]:
    """Models that no target names, and that are no bases either."""
    used = {entry for name in config.targets for entry in config.models_of(name)}
    used |= {settings.base for settings in config.models.values() if isinstance(settings, MHIM)}
    unused = [entry for entry in config.models if entry not in used]
    return [f"models.{entry}: no target names it in its models, so it is not trained" for entry in unused]


def _method_warnings(config: Config) -> list[str]:
    """Explanation methods that are left out, for a model or for a target."""
    of_models = [
        f"models.{entry}: does not support {method}, which is skipped for it"
        for entry, settings in config.models.items()
        for method in config.explain.methods
        if config.of_tiles and settings.has_instances and method != BEST
        if not supports(provided_by(config.models, entry), method)
    ]
    of_targets = [
        f"targets.{name}: {method} cannot explain targets of kind {target.kind}, and is skipped for it"
        for name, target in config.targets.items()
        for method in config.explain.methods
        if method != BEST and not explains(method, target.kind)
    ]
    return of_models + of_targets


def _scale_warnings(config: Config) -> list[str]:
    if config.heatmap.scale != "cohort":
        return []
    learned = [(name, entry) for name in config.targets for entry in config.models_of(name)]
    methods = dict.fromkeys(method for name, entry in learned for method in methods_of(config, name, entry))
    return [
        f"heatmap.scale: {method} cannot be compared across slides, so its heatmaps keep each slide's own scale"
        for method in methods
        if not EXPLANATIONS[method].comparable_weighted
    ]
