"""Divide slides among jobs, and record what each job has done.

A job of `tile`, `extract`, `explain` or `heatmap` works on several slides in one process, which imports its libraries once.
The receipts of the slides stay the unit of truth: a job skips slides whose receipts are current. The record of a job is what
Snakemake looks at; it is written last, and its content changes with the receipts only.
"""

import errno
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from wsi_mil.errors import (
    ClusterError,
    ConfigError,
    DeviceMemoryError,
    SilentServerError,
    StoreError,
    UnreachableError,
    WsiMilError,
)
from wsi_mil.receipts import file_hash, read_receipt, write_receipt
from wsi_mil.wording import named

log = logging.getLogger(__name__)

MAX_SLIDES = 16
"""Upper limit on the slides of a job with `slides_per_job: auto`; start-up is then a small part of its time."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
OF_THE_MACHINE = (ClusterError, DeviceMemoryError, SilentServerError)
"""Errors that the next slide would meet too."""

Division = Mapping[str, Sequence[str]]
"""Slide ids of each job, by its name."""


def divide(slide_ids: Sequence[str], previous: Division, setting: int | None, *, parallel: int) -> Division:
    """Divide slides among jobs. Slides that have a job keep it: new slides change no existing job.

    Args:
        slide_ids: slides in the order of the sheet.
        previous: division of the previous run, or {}.
        setting: `slides_per_job`; None: as many as give each of `parallel` jobs work, at most `MAX_SLIDES`. Existing jobs
            with more slides than a number are divided again.
        parallel: number of jobs that can run at the same time.
    """
    jobs = _kept(previous, set(slide_ids), setting)
    have_job = {slide_id for members in jobs.values() for slide_id in members}
    new = [slide_id for slide_id in slide_ids if slide_id not in have_job]
    size = setting or min(MAX_SLIDES, max(1, math.ceil(len(new) / parallel)))
    for members in _even_parts(new, size):
        jobs[_free_name(members[0], jobs)] = members
    return jobs


def _kept(previous: Division, ids: set[str], most: int | None) -> dict[str, list[str]]:
    """Previous jobs without slides that are gone; none that are empty or have too many slides."""
    kept = {name: [slide_id for slide_id in members if slide_id in ids] for name, members in previous.items()}
    return {name: members for name, members in kept.items() if 0 < len(members) <= (most or math.inf)}


def _even_parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    n_parts = math.ceil(len(ids) / size)
    for part in range(n_parts):
        yield list(ids[part * len(ids) // n_parts : (part + 1) * len(ids) // n_parts])


def _free_name(first: str, jobs: Division) -> str:
    """Name of a job: its first slide, with a number if another job has that name."""
    names = (first, *(f"{first}~{number}" for number in range(2, len(jobs) + 3)))
    return next(name for name in names if name not in jobs)


def read_division(path: Path) -> Division:
    """Read the division of the previous run; {} if there is none or it cannot be read: it changes no result."""
    try:
        return {str(name): list(map(str, ids)) for name, ids in read_receipt(path).items()}
    except (WsiMilError, TypeError):
        return {}


def process_slides(slide_ids: Sequence[str], items: Iterable[int], work: Callable[[int], object]) -> None:
    """Work on the slides of a job one after the other. A fault of one slide is reported at the end and stops no other slide.

    Faults of the machine (no memory on the device, a full disk, a server that answers nobody) end the job at once.

    Args:
        slide_ids: slides of the job.
        items: positions of the slides to work on.
        work: does the work on the slide at a position.

    Raises:
        ConfigError: lists the faults of several slides; the fault of a single one, and one that a second attempt may mend, is
            raised as it is.
    """
    faults: list[Exception] = []
    for item in items:
        if len(slide_ids) > 1:
            log.info("slide %d of %d: %s", item + 1, len(slide_ids), slide_ids[item])
        try:
            work(item)
        except OF_THE_MACHINE:
            raise
        except Exception as error:  # anything that is wrong with one slide, also what nobody has thought of
            if len(slide_ids) == 1 or (isinstance(error, OSError) and error.errno in FULL):
                raise
            if isinstance(error, WsiMilError):
                log.error("%s: %s", slide_ids[item], error)
            else:
                log.exception("%s: unexpected error", slide_ids[item])
            faults.append(error)
    of_machine = [fault for fault in faults if isinstance(fault, UnreachableError) or not isinstance(fault, WsiMilError)]
    if of_machine or len(faults) == 1:
        raise (of_machine or faults)[0]
    if faults:
        raise ConfigError([str(fault) for fault in faults])


def write_record(path: Path, receipts: Iterable[Path], files: Iterable[Path]) -> None:
    """Write the record of a job that has finished.

    Args:
        path: the record.
        receipts: receipts of its slides, whose content must not change as long as the record is valid.
        files: files that must exist as long as the record is valid.
    """
    folder = path.parent.resolve()

    def relative(file: Path) -> str:
        return os.path.relpath(file.resolve(), folder)

    write_receipt(path, {"receipts": {relative(r): file_hash(r) for r in receipts}, "files": sorted(map(relative, files))})


def lost_files(record: Path) -> list[Path]:
    """Return what makes a record invalid: receipts that changed, files that no longer exist; itself if it cannot be read."""
    try:
        content = read_receipt(record)
        receipts = {record.parent / name: text for name, text in content["receipts"].items()}
        files = [record.parent / name for name in content["files"]]
    except (StoreError, AttributeError, KeyError, TypeError):
        return [record]
    return [r for r, text in receipts.items() if file_hash(r) != text] + [file for file in files if not file.exists()]


def incomplete_records(folder: Path) -> dict[Path, list[Path]]:
    """Return the records below a folder that are no longer valid, with the files that were deleted or changed."""
    found = {record: lost_files(record) for record in sorted(folder.glob("*/**/*.json"))}
    return {record: lost for record, lost in found.items() if lost}


def lost_text(lost: Mapping[Path, Sequence[Path]]) -> str:
    """Return a note on files that were deleted or changed."""
    names = [os.path.normpath(file) for files in lost.values() for file in files]
    are = "s are" if len(names) > 1 else " is"
    return f"{len(names)} result{are} missing or not of the last run, and made again if need be: {named(names, most=5)}"
