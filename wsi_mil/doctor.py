"""Dry run: check every slide, encoder weights and disk space. Nothing is written."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from wsi_mil.annotations import Frame, read_annotation
from wsi_mil.check import Plan, is_tiled
from wsi_mil.cohort import with_overrides
from wsi_mil.config import Config, TileSettings, Truth, parse_settings
from wsi_mil.encoders import Weights, feature_dim, find_weights
from wsi_mil.errors import AnnotationError, DataError, MissingFileError, SlideAccessError, UnreachableError
from wsi_mil.inspection import ExpectedTiles, Inspection, inspect_slide
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import NO_PATH, SlideRow, Status
from wsi_mil.results import Results
from wsi_mil.runtime.process_pool import WorkerFailure, map_isolated
from wsi_mil.shifts import shifts
from wsi_mil.slides import slide_exists
from wsi_mil.store import bytes_on_disk, feature_bytes
from wsi_mil.tile.layout import fault_status
from wsi_mil.tile.supplied import SuppliedFiles

SLIDE_TIMEOUT_S = 600.0
"""A slide that takes longer is assumed to hang, on a disk that does not answer or in its decoder."""

PRELOAD = ("wsi_mil.doctor", "wsi_mil.tissue.chunked")


class Verdict(StrEnum):
    """Expected status of a slide: those of `Status`, and `missing`."""

    OK = "ok"
    EMPTY = "empty"
    SKIPPED = "skipped"
    FAILED = "failed"
    MISSING = "missing"


FAULTS = (Verdict.FAILED, Verdict.MISSING)
"""Verdicts of slides that should be in the run but cannot be used."""

WORST_FIRST = (Status.FAILED, Status.SKIPPED, Status.EMPTY, Status.OK)


@dataclass(frozen=True)
class Finding:
    """Result of the check of a slide.

    Attributes:
        reason: why the verdict is not `ok`, in one line.
        warnings: problems that do not prevent its use.
        slide: properties of the file; None if it cannot be opened.
    """

    slide_id: str
    verdict: Verdict
    reason: str = ""
    warnings: tuple[str, ...] = ()
    slide: Inspection | None = None

    @property
    def tiles(self) -> dict[str, ExpectedTiles]:
        """Expected tiles by tiling."""
        return self.slide.tilings if self.slide else {}

    @property
    def has_problems(self) -> bool:
        """Whether there is a reason or a warning to report."""
        return self.verdict is not Verdict.OK or bool(self.warnings)


@dataclass(frozen=True)
class DiskNeed:
    """Disk space needed by the feature stores.

    Attributes:
        folder: the results folder.
        needed: bytes still needed, without existing stores.
        free: bytes free on the disk of the folder.
        unknown: encoder entries of unknown feature length, which are not included in `needed`.
    """

    folder: Path
    needed: int
    free: int
    unknown: tuple[str, ...]

    @property
    def is_enough(self) -> bool:
        """Whether the free space is sufficient."""
        return self.needed <= self.free


@dataclass(frozen=True)
class SlideJob:
    """Arguments of the check of a slide, which runs in a process of its own."""

    row: SlideRow
    tilings: dict[str, TileSettings]
    truth: Truth


def examine(plan: Plan, *, threads: int, advance: Callable[[int], None]) -> list[Finding]:
    """Check every slide of a sheet, in the order of its rows.

    Args:
        plan: the configuration and its sheet.
        threads: slides checked in parallel, each in a process of its own, so that a crash of its reader is a finding.
        advance: called with 1 for each finished slide.
    """
    tilings = used_tilings(plan.config)
    findings: dict[str, Finding] = {}
    jobs = []
    for row in plan.rows:
        if not tilings or (_is_gone(row.path) and is_tiled(row.slide_id, plan.config)):
            findings[row.slide_id] = _finding_from_receipts(row, plan.config, tilings or _imported_tilings(plan.config))
            advance(1)
        else:
            jobs.append(SlideJob(row, tile_settings(plan.config, row, tilings), plan.config.truth))
    for job, result in map_isolated(examine_slide, jobs, processes=threads, seconds=SLIDE_TIMEOUT_S, preload=PRELOAD):
        findings[job.row.slide_id] = _crash_finding(job.row, result) if isinstance(result, WorkerFailure) else result
        advance(1)
    return [findings[row.slide_id] for row in plan.rows]


def _imported_tilings(config: Config) -> list[str]:
    """Names of the tilings of imported tiles; vectors of slides have none."""
    return [entry.tiling for entry in config.of_tiles.values() if entry.is_imported]


def _finding_from_receipts(row: SlideRow, config: Config, tilings: Iterable[str]) -> Finding:
    """Finding about a slide whose file is gone or not needed, from the receipts of its tiles."""
    receipts = [read_receipt(Results(config.results).tiles_receipt(name, row.slide_id)) for name in tilings]
    worst = next((receipt for receipt in receipts if receipt["status"] != Status.OK), None)
    verdict = Verdict(worst["status"]) if worst else Verdict.OK
    reason = worst["reason"] if worst else ""
    is_gone = row.path != NO_PATH and _is_gone(row.path)
    return Finding(
        row.slide_id, verdict, reason, warnings=("its file is gone; its existing results are used",) if is_gone else ()
    )


def _is_gone(path: Path | str) -> bool:
    """Whether the file does not exist or its server does not have it; False if the server does not answer."""
    try:
        return not slide_exists(path)
    except (MissingFileError, UnreachableError):
        return False


def used_tilings(config: Config) -> list[str]:
    """Return the names of the tilings in use, in the order of the configuration."""
    used = {encoder.tiling for encoder in config.extracted.values()}
    return [name for name in config.tilings if name in used]


def tile_settings(config: Config, row: SlideRow, tilings: Iterable[str]) -> dict[str, TileSettings]:
    """Return the settings of `tile` for a slide, by tiling."""
    blocks = {"slide": config.slide.model_dump(), "tissue": config.tissue.model_dump(), "origin": config.truth.origin}
    return {
        name: parse_settings(TileSettings, with_overrides({**blocks, "tiling": config.tilings[name].model_dump()}, row))
        for name in tilings
    }


def examine_slide(job: SlideJob) -> Finding:
    """Check a slide in this process."""
    row = job.row
    settings = next(iter(job.tilings.values()))
    finding = partial(Finding, row.slide_id)
    try:
        slide = inspect_slide(row.path, job.tilings, mpp=row.mpp, supplied=SuppliedFiles(row.annotation, row.mask))
    except (MissingFileError, SlideAccessError, UnreachableError) as error:
        return finding(Verdict.MISSING, str(error))
    except DataError as error:
        return finding(Verdict(fault_status(error, settings.slide)), str(error))
    except OSError as error:
        return finding(Verdict.FAILED, f"{row.path}: cannot be opened ({error.strerror or error}); see the sheet's `path` column")
    expected = slide.tilings.values()
    status = min((e.status for e in expected), key=WORST_FIRST.index)
    warnings = [text for e in expected for text in e.warnings] + _truth_warnings(row, job.truth, slide)
    return finding(Verdict(status), _reason(slide), tuple(dict.fromkeys(warnings)), slide)


def find_encoders(config: Config) -> dict[str, Weights]:
    """Locate the weights of every encoder entry that extracts."""
    return {entry: find_weights(settings) for entry, settings in config.extracted.items()}


def disk_need(config: Config, findings: Iterable[Finding]) -> DiskNeed:
    """Compute the disk space that the feature stores of usable slides need in addition to existing stores."""
    findings = list(findings)
    needed = 0
    unknown = []
    for entry, encoder in config.extracted.items():
        dim = feature_dim(encoder)
        if dim is None:
            unknown.append(entry)
            continue
        for finding in findings:
            expected = finding.tiles.get(encoder.tiling)
            if expected is not None and expected.status is Status.OK and expected.n_tiles:
                for folder in _feature_folders(config, finding.slide_id):
                    existing = bytes_on_disk(store_path(folder.features_receipt(entry, finding.slide_id)))
                    needed += max(0, feature_bytes(expected.n_tiles, dim, encoder.batch_size) - existing)
    return DiskNeed(config.results, needed, shutil.disk_usage(_nearest_folder(config.results)).free, tuple(unknown))


def _feature_folders(config: Config, slide_id: str) -> list[Results]:
    """Results that will hold features of a slide: the usual ones, and those of shifted tilings if it gets finer heatmaps."""
    usual, fine = Results(config.results), config.heatmap.fine
    return [usual, *(usual.shifted(shift.name) for shift in shifts(fine.steps) if slide_id in fine.slides)]


def _reason(slide: Inspection) -> str:
    """Why a slide is not ok under every tiling; reasons that differ are listed with their tilings."""
    by_reason: dict[str, list[str]] = {}
    for name, expected in slide.tilings.items():
        by_reason.setdefault(expected.reason, []).append(name)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items() if reason)


def _truth_warnings(row: SlideRow, truth: Truth, slide: Inspection) -> list[str]:
    """Warnings about the annotation that heatmaps are compared with."""
    if row.annotation is None:
        return []
    try:
        notes = read_annotation(row.annotation, truth, Frame(slide.dimensions, slide.bounds)).notes
        return [f"its annotation: {note}" for note in notes]
    except AnnotationError as error:
        return [f"its annotation is ignored: {error}"]


def _crash_finding(row: SlideRow, failure: WorkerFailure) -> Finding:
    reason = f"{row.path}: {failure.reason} while reading it; try another slide.reader, or give another file in the `path` column"
    return Finding(row.slide_id, Verdict.FAILED, reason)


def _nearest_folder(path: Path) -> Path:
    """The folder itself, or its nearest existing parent."""
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
