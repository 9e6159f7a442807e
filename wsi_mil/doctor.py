"""What a run would come to: every slide, the encoders' weights, the disk. Nothing is written."""

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
from wsi_mil.slides import slide_exists
from wsi_mil.store import bytes_on_disk, feature_bytes
from wsi_mil.tile.layout import fault_status
from wsi_mil.tile.supplied import SuppliedFiles

PATIENCE_S = 600.0
"""A slide that takes longer hangs: on a disk that does not answer, or in its decoder."""

PRELOAD = ("wsi_mil.doctor", "wsi_mil.tissue.chunked")


class Verdict(StrEnum):
    """What would become of a slide; the names of `Status`, and `missing`."""

    OK = "ok"
    EMPTY = "empty"
    SKIPPED = "skipped"
    FAILED = "failed"
    MISSING = "missing"


FAULTS = (Verdict.FAILED, Verdict.MISSING)
"""What keeps a slide out of a run though it was meant to be in it."""

WORST_FIRST = (Status.FAILED, Status.SKIPPED, Status.EMPTY, Status.OK)


@dataclass(frozen=True)
class Finding:
    """What would become of a slide.

    Attributes:
        reason: why not `ok`, in one line.
        warnings: what is worth a look.
        slide: what the file is; None where it cannot be opened.
    """

    slide_id: str
    verdict: Verdict
    reason: str = ""
    warnings: tuple[str, ...] = ()
    slide: Inspection | None = None

    @property
    def tiles(self) -> dict[str, ExpectedTiles]:
        """By tiling."""
        return self.slide.tilings if self.slide else {}

    @property
    def needs_a_look(self) -> bool:
        """Whether there is anything to say."""
        return self.verdict is not Verdict.OK or bool(self.warnings)


@dataclass(frozen=True)
class DiskNeed:
    """What the feature stores still need.

    Attributes:
        folder: results.
        needed: bytes, without what is there already.
        free: bytes on its disk.
        unknown: encoder entries whose feature length is not known, so that they are not in `needed`.
    """

    folder: Path
    needed: int
    free: int
    unknown: tuple[str, ...]

    @property
    def is_enough(self) -> bool:
        """Whether there is room."""
        return self.needed <= self.free


@dataclass(frozen=True)
class Examined:
    """What a slide is examined by, in a process of its own."""

    row: SlideRow
    tilings: dict[str, TileSettings]
    truth: Truth


def examine(plan: Plan, *, threads: int, advance: Callable[[int], None]) -> list[Finding]:
    """Find what would become of every slide of a sheet, in the order of its rows.

    Args:
        plan: the configuration and its sheet.
        threads: slides examined at once, each in a process of its own: one that crashes its reader is a finding.
        advance: told of each slide that is done.
    """
    tilings = used_tilings(plan.config)
    found: dict[str, Finding] = {}
    jobs = []
    for row in plan.rows:
        if not tilings or (_is_gone(row.path) and is_tiled(row.slide_id, plan.config)):
            found[row.slide_id] = _kept(row, plan.config, tilings or plan.config.imported)
            advance(1)
        else:
            jobs.append(Examined(row, tile_settings(plan.config, row, tilings), plan.config.truth))
    for job, answer in map_isolated(examined, jobs, processes=threads, seconds=PATIENCE_S, preload=PRELOAD):
        found[job.row.slide_id] = _dead(job.row, answer) if isinstance(answer, WorkerFailure) else answer
        advance(1)
    return [found[row.slide_id] for row in plan.rows]


def _kept(row: SlideRow, config: Config, tilings: Iterable[str]) -> Finding:
    """What is known of a slide whose file is not there or not needed, by the receipts that are left of it."""
    receipts = [read_receipt(Results(config.results).tiles_receipt(name, row.slide_id)) for name in tilings]
    worst = next((about for about in receipts if about["status"] != Status.OK), None)
    verdict = Verdict(worst["status"]) if worst else Verdict.OK
    reason = worst["reason"] if worst else ""
    gone = row.path != NO_PATH and _is_gone(row.path)
    return Finding(row.slide_id, verdict, reason, warnings=("its file is gone; what was made of it is used",) if gone else ())


def _is_gone(path: Path | str) -> bool:
    """Whether there is no such file, or its server does not have it; of one that does not answer nothing is known."""
    try:
        return not slide_exists(path)
    except (MissingFileError, UnreachableError):
        return False


def used_tilings(config: Config) -> list[str]:
    """Names of the tilings that an encoder entry uses, in the order of the configuration."""
    used = {encoder.tiling for encoder in config.extracted.values()}
    return [name for name in config.tilings if name in used]


def tile_settings(config: Config, row: SlideRow, tilings: Iterable[str]) -> dict[str, TileSettings]:
    """What `tile` reads for a slide, by tiling."""
    blocks = {"slide": config.slide.model_dump(), "tissue": config.tissue.model_dump(), "origin": config.truth.origin}
    return {
        name: parse_settings(TileSettings, with_overrides({**blocks, "tiling": config.tilings[name].model_dump()}, row))
        for name in tilings
    }


def examined(job: Examined) -> Finding:
    """Examine a slide in this process."""
    row, settings = job.row, next(iter(job.tilings.values()))
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
    """By encoder entry that extracts, where its weights are."""
    return {entry: find_weights(settings) for entry, settings in config.extracted.items()}


def disk_need(config: Config, findings: Iterable[Finding]) -> DiskNeed:
    """What the feature stores of the slides that can be used need beside what is there."""
    findings, needed, unknown = list(findings), 0, []
    for entry, encoder in config.extracted.items():
        dim = feature_dim(encoder)
        if dim is None:
            unknown.append(entry)
            continue
        for finding in findings:
            expected = finding.tiles.get(encoder.tiling)
            if expected is not None and expected.status is Status.OK and expected.n_tiles:
                there = bytes_on_disk(store_path(Results(config.results).features_receipt(entry, finding.slide_id)))
                needed += max(0, feature_bytes(expected.n_tiles, dim, encoder.batch_size) - there)
    return DiskNeed(config.results, needed, shutil.disk_usage(_nearest_folder(config.results)).free, tuple(unknown))


def _reason(slide: Inspection) -> str:
    """Why a slide is not ok under every tiling, each reason once, with the tilings where they differ."""
    by_reason: dict[str, list[str]] = {}
    for name, expected in slide.tilings.items():
        by_reason.setdefault(expected.reason, []).append(name)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items() if reason)


def _truth_warnings(row: SlideRow, truth: Truth, slide: Inspection) -> list[str]:
    """What is to be said of the annotation that heatmaps are compared with."""
    if row.annotation is None:
        return []
    try:
        notes = read_annotation(row.annotation, truth, Frame(slide.dimensions, slide.bounds)).notes
        return [f"its annotation: {note}" for note in notes]
    except AnnotationError as error:
        return [f"its annotation is left out: {error}"]


def _dead(row: SlideRow, died: WorkerFailure) -> Finding:
    reason = f"{row.path}: {died.reason} while it was read; try another slide.reader, or bring another file in the `path` column"
    return Finding(row.slide_id, Verdict.FAILED, reason)


def _nearest_folder(path: Path) -> Path:
    """The folder itself, or the first above it that there is."""
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
