"""Check a configuration and its sheet, and plan the run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsi_mil.bundled import requirement
from wsi_mil.check.advice import config_warnings
from wsi_mil.check.duplicates import Duplicates, duplicates
from wsi_mil.check.fine import fine_faults, needs_slide
from wsi_mil.check.imported_features import import_faults, misplaced_import_faults
from wsi_mil.check.older import older_faults
from wsi_mil.check.recalibration import recalibration_faults
from wsi_mil.check.references import reference_faults
from wsi_mil.check.remote import Versions, remote_versions
from wsi_mil.check.rows import annotation_faults, is_tiled
from wsi_mil.check.targets import target_faults
from wsi_mil.cohort import Sheet, SheetColumns, read_sheet, row_json
from wsi_mil.cohort.splits import n_folds, read_splits
from wsi_mil.config import EXPLANATIONS, Config, compared_methods, covariates_of, methods_of, parse_settings, valid_part
from wsi_mil.encoders import network_identity
from wsi_mil.errors import ConfigError
from wsi_mil.jobs import Division, divide, incomplete_records, read_division
from wsi_mil.receipts import fingerprint
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.tasks import own_choice, task_of


@dataclass(frozen=True)
class Plan:
    """A configuration without faults.

    Attributes:
        config: the configuration with all defaults.
        rows: rows of the sheet.
        n_folds: number of folds of each encoder × model, for each target.
        warnings: warnings for the user.
        versions: version of each slide on a server, which changes with its content, by slide_id.
        unread: columns of the sheet that are not used.
        parallel: number of jobs that can run at the same time.
    """

    config: Config
    rows: tuple[SlideRow, ...]
    n_folds: Mapping[str, int]
    warnings: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    parallel: int = 1

    def as_json(self) -> dict[str, object]:
        """Return the plan in the form read by the rules: paths as text, without empty cells."""
        return {
            "config": self.config.model_dump(mode="json"),
            "slides": [{**row_json(row), **_file_hashes(row), **self._version(row)} for row in self.rows],
            "n_folds": dict(self.n_folds),
            "reading": {name: target.reading for name, target in self.config.targets.items()},
            "learning": {name: target.learning for name, target in self.config.targets.items()},
            "predicting": {name: target.predicting for name, target in self.config.targets.items()},
            "covariates": {name: self._covariates(name) for name in self.config.targets},
            "jobs": self.jobs(),
            "incomplete_records": list(map(str, [*self.incomplete_records(), *self._incomplete_status()])),
            "combinations": {name: self._combinations(name) for name in self.config.targets},
            "methods": {name: self._methods(name) for name in self.config.targets},
            "compared": {
                name: {entry: list(compared_methods(own)) for entry, own in self._methods(name).items()}
                for name in self.config.targets
            },
            "explanations": list(EXPLANATIONS),
            "outputs": {name: own_choice(task_of(t), self.config.explain.outputs) for name, t in self.config.targets.items()},
            "requirement": requirement(),
            "networks": {name: fingerprint(network_identity(e)) for name, e in self.config.extracted.items()},
        }

    def jobs(self) -> Division:
        """Return the slides of each job; those of the previous run of these results keep theirs."""
        setting = self.config.slides_per_job
        previous = read_division(Results(self.config.results).division)
        slide_ids = [row.slide_id for row in self.rows]
        return divide(slide_ids, previous, None if setting == "auto" else setting, parallel=self.parallel)

    def notes(self) -> list[str]:
        """Return what Snakemake's list of jobs does not show as long as new slides are not encoded."""
        previous = read_division(Results(self.config.results).division)
        known = {slide_id for slide_ids in previous.values() for slide_id in slide_ids}
        n_new = sum(row.slide_id not in known for row in self.rows)
        if not n_new:
            return []
        if not Results(self.config.results).cohort_status.exists():
            n_jobs = len(self.jobs())
            n_models = sum(bool(methods) for name in self.config.targets for methods in self._methods(name).values())
            n_later = 2 * n_jobs * n_models * len(self.config.of_tiles)
            return [f"{n_later} jobs of explain and heatmap are added to the steps when `cohort` has found the usable slides"]
        new = f"{n_new} slides are new" if n_new > 1 else "1 slide is new"
        return [
            f"{new}: a dry run lists all jobs that may follow `cohort`; split and train run only if a labelled slide is new, gone"
            " or changed"
        ]

    def incomplete_records(self) -> dict[Path, list[Path]]:
        """Return the records of jobs whose results were deleted, with the deleted files; only of entries that still exist."""
        folder = Results(self.config.results).jobs
        entries = {*self.config.tilings, *self.config.targets, *self.config.encoders, *self.config.models}
        found = incomplete_records(folder)
        return {record: lost for record, lost in found.items() if entries.issuperset(record.relative_to(folder).parts[1:-1])}

    def _incomplete_status(self) -> list[Path]:
        """The table of statuses, if a file that `cohort` writes beside it is missing, as for a new target: Snakemake looks for
        it among the outputs of the checkpoint, but makes only outputs again that a rule asks for.
        """
        results = Results(self.config.results)
        beside = [results.usable_features(entry) for entry in self.config.encoders]
        beside += [
            results.target(name).labelled_features(entry) for entry in self.config.encoders for name in self.config.targets
        ]
        is_incomplete = results.cohort_status.is_file() and not all(file.is_file() for file in beside)
        return [results.cohort_status] if is_incomplete else []

    def _combinations(self, target: str) -> dict[str, list[str]]:
        """Models that are trained for a target, by entry of `encoders`."""
        return {encoder: list(self.config.models_with(target, encoder)) for encoder in self.config.encoders}

    def _methods(self, target: str) -> dict[str, list[str]]:
        """Explanation methods of each model that learns a target."""
        return {entry: list(methods_of(self.config, target, entry)) for entry in self.config.models_of(target)}

    def _covariates(self, target: str) -> dict[str, object]:
        """Covariates of each model that uses those of a target."""
        of_target = self.config.targets[target]
        used = {entry: covariates_of(self.config.models, entry, of_target) for entry in self.config.models_of(target)}
        return {entry: own.model_dump(mode="json") for entry, own in used.items() if own is not None}

    def _version(self, row: SlideRow) -> dict[str, str]:
        return {"remote_version": self.versions[row.slide_id]} if row.slide_id in self.versions else {}


def _file_hashes(row: SlideRow) -> dict[str, str]:
    """Hashes of annotation and mask, so that edited files rerun the jobs that depend on them."""
    files = {"annotation_hash": row.annotation, "mask_hash": row.mask}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items() if file is not None}


def check(values: Mapping[str, object], *, needs_slides: bool = True, parallel: int = 1) -> Plan:
    """Validate a configuration and its sheet.

    Args:
        values: the configuration as read.
        needs_slides: whether a missing slide file is a fault (unless the slide is tiled already), and whether servers are
            asked for their slides.
        parallel: number of jobs that can run at the same time.

    Raises:
        ConfigError: lists every fault.
    """
    try:
        config = parse_settings(Config, values)
    except ConfigError as error:
        sheet = _sheet_of_invalid(values, needs_slides=needs_slides)
        raise ConfigError([*error.faults, *sheet.faults]) from error
    sheet = _sheet(config, needs_slides=needs_slides)
    faults = older_faults(config) + reference_faults(config) + list(sheet.faults)
    duplicate_files = Duplicates((), ())
    if not sheet.faults:
        duplicate_files = duplicates(sheet.rows, config)
        faults += duplicate_files.faults
        faults += import_faults(config, sheet.rows)
        faults += misplaced_import_faults(config, sheet.rows)
        faults += annotation_faults(config, sheet)
        faults += fine_faults(config, sheet.rows)
    faults += target_faults(config, sheet)
    faults += recalibration_faults(config, sheet)
    versions = remote_versions(sheet.rows, config) if needs_slides else Versions()
    faults += versions.faults
    if faults:
        raise ConfigError(faults)
    warnings = (*sheet.warnings, *duplicate_files.warnings, *config_warnings(config, sheet), *versions.warnings)
    folds = {name: _n_folds(config, sheet, name) for name in config.targets}
    return Plan(config, sheet.rows, folds, warnings, versions.by_slide, sheet.unread, parallel)


def _sheet(config: Config, *, needs_slides: bool) -> Sheet:
    return read_sheet(
        config.cohort,
        config.targets,
        needs_path=bool(config.extracted),
        needs_file=lambda slide_id: needs_slides and (not is_tiled(slide_id, config) or needs_slide(slide_id, config)),
        columns=SheetColumns.of(config.split, config.recalibrate),
    )


def _sheet_of_invalid(values: Mapping[str, object], *, needs_slides: bool) -> Sheet:
    """The sheet of an invalid configuration, checked with its valid blocks."""
    config, valid_keys = valid_part(values)
    if "cohort" not in valid_keys:
        return Sheet((), ())
    if {"results", "encoders", "targets"} <= valid_keys:
        return _sheet(config, needs_slides=needs_slides)
    targets = config.targets if "targets" in valid_keys else {}
    return read_sheet(config.cohort, targets, needs_path=False, columns=SheetColumns.of(config.split, config.recalibrate))


def _n_folds(config: Config, sheet: Sheet, target: str) -> int:
    given = config.splits_of(target) if config.trained is None else Results(config.trained).target(target).splits
    if given is not None:
        return read_splits(given).n_folds
    return n_folds([row.for_target(target) for row in sheet.rows], config.split)
