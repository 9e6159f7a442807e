"""Stage `cohort`: collect the status of every slide from receipts and write `cohort_status.csv`."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_mil.errors import StoreError
from wsi_mil.files import read_table, write_table
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Status
from wsi_mil.wording import named

log = logging.getLogger(__name__)

SEVERITY = (Status.OK, Status.EMPTY, Status.SKIPPED, Status.FAILED)


@dataclass(frozen=True)
class SlideStatus:
    """One row of `cohort_status.csv`.

    Attributes:
        reason: why the status is not `ok`, with the encoder entry.
        n_tiles: number of usable tiles of each encoder entry.
    """

    slide_id: str
    status: Status
    reason: str
    warnings: str
    n_tiles: dict[str, int]


def write_status(path: Path, statuses: list[SlideStatus]) -> None:
    """Write `cohort_status.csv` atomically."""
    encoders = list(statuses[0].n_tiles) if statuses else []
    columns = ["slide_id", "status", "reason", "warnings", *(f"n_tiles_{name}" for name in encoders)]
    rows = [[s.slide_id, s.status, s.reason, s.warnings, *(s.n_tiles[e] for e in encoders)] for s in statuses]
    write_table(path, columns, rows)


def read_status(path: Path) -> list[SlideStatus]:
    """Read `cohort_status.csv`."""
    prefix = "n_tiles_"
    statuses = []
    for cells in read_table(path):
        counts = {name.removeprefix(prefix): int(value) for name, value in cells.items() if name.startswith(prefix)}
        statuses.append(SlideStatus(cells["slide_id"], Status(cells["status"]), cells["reason"], cells["warnings"], counts))
    return statuses


def ok_ids(statuses: list[SlideStatus]) -> set[str]:
    """Return the slides that are usable for every encoder entry."""
    return {s.slide_id for s in statuses if s.status is Status.OK}


def cohort_statuses(slide_ids: Sequence[str], features: Path, encoders: Sequence[str]) -> list[SlideStatus]:
    """Return the statuses of all slides, in input order; slides with identical content have a warning.

    They depend on receipts only, so that the same receipts give the same table.
    """
    others: dict[str, list[str]] = {}
    for identical in identical_slides(slide_ids, features, encoders):
        log.warning("slides %s have identical content: one slide under several names", named(identical))
        for slide_id in identical:
            names = others.setdefault(slide_id, [])
            names += [other for other in identical if other != slide_id and other not in names]
    statuses = []
    for slide_id in slide_ids:
        status = slide_status(slide_id, features, list(encoders))
        if slide_id in others:
            warning = f"same content as slide{'s' if len(others[slide_id]) > 1 else ''} {named(others[slide_id])}"
            status = replace(status, warnings="; ".join(filter(None, (status.warnings, warning))))
        statuses.append(status)
    return statuses


def identical_slides(slide_ids: Iterable[str], features: Path, encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """Return groups of slides whose receipts have the same hash of the slide's content, in input order."""
    by_hash: dict[str, list[str]] = {}
    for slide_id in slide_ids:
        for content in sorted({_content(features / entry / f"{slide_id}.json") for entry in encoders} - {""}):
            by_hash.setdefault(content, []).append(slide_id)
    return list(dict.fromkeys(tuple(group) for group in by_hash.values() if len(group) > 1))


def _content(receipt: Path) -> str:
    """Hash of the slide of a receipt; "" for a slide that is not ok."""
    try:
        content = read_receipt(receipt)
    except StoreError:
        return ""
    return str(content.get("slide_hash", "")) if content.get("status") == Status.OK else ""


def slide_status(slide_id: str, features: Path, encoders: list[str]) -> SlideStatus:
    """Return the status of a slide: `ok` if it is usable for every encoder entry, else the worst, with reasons by entry."""
    receipts = {entry: read_receipt(features / entry / f"{slide_id}.json") for entry in encoders}
    status = max((Status(r["status"]) for r in receipts.values()), key=SEVERITY.index)
    reasons = [f"{entry}: {r['reason']}" for entry, r in receipts.items() if r["status"] != Status.OK]
    warnings = dict.fromkeys(warning for r in receipts.values() for warning in r["warnings"])
    counts = {entry: int(r.get("n_tiles", 0)) for entry, r in receipts.items()}
    return SlideStatus(slide_id, status, "; ".join(reasons), "; ".join(warnings), counts)
