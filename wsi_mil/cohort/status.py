"""Stage `cohort`: the receipts of the slides → `cohort_status.csv`, which has the status of every slide."""

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
        reason: why not `ok`, naming the encoder entry.
        n_tiles: number of usable tiles of each encoder entry.
    """

    slide_id: str
    status: Status
    reason: str
    warnings: str
    n_tiles: dict[str, int]


def write_status(path: Path, statuses: list[SlideStatus]) -> None:
    """Write `cohort_status.csv`, aside and renamed."""
    encoders = list(statuses[0].n_tiles) if statuses else []
    columns = ["slide_id", "status", "reason", "warnings", *(f"n_tiles_{name}" for name in encoders)]
    rows = [[s.slide_id, s.status, s.reason, s.warnings, *(s.n_tiles[e] for e in encoders)] for s in statuses]
    write_table(path, columns, rows)


def read_status(path: Path) -> list[SlideStatus]:
    """Read `cohort_status.csv`."""
    prefix = "n_tiles_"
    found = []
    for cells in read_table(path):
        counts = {name.removeprefix(prefix): int(value) for name, value in cells.items() if name.startswith(prefix)}
        found.append(SlideStatus(cells["slide_id"], Status(cells["status"]), cells["reason"], cells["warnings"], counts))
    return found


def ok_ids(statuses: list[SlideStatus]) -> set[str]:
    """The slides that every encoder entry could use."""
    return {s.slide_id for s in statuses if s.status is Status.OK}


def cohort_statuses(slide_ids: Sequence[str], features: Path, encoders: Sequence[str]) -> list[SlideStatus]:
    """The lines of all slides, in the order given; of slides with the same bytes each has a warning that names the others.

    Nothing but receipts decides over them, so that the same receipts give the same table.
    """
    others: dict[str, list[str]] = {}
    for same in same_slides(slide_ids, features, encoders):
        log.warning("slides %s have the same bytes: one slide under several names", named(same))
        for slide_id in same:
            known = others.setdefault(slide_id, [])
            known += [other for other in same if other != slide_id and other not in known]
    found = []
    for slide_id in slide_ids:
        status = slide_status(slide_id, features, list(encoders))
        if slide_id in others:
            said = f"the same bytes as slide{'s' if len(others[slide_id]) > 1 else ''} {named(others[slide_id])}"
            status = replace(status, warnings="; ".join(filter(None, (status.warnings, said))))
        found.append(status)
    return found


def same_slides(slide_ids: Iterable[str], features: Path, encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """Slides whose receipts say the same hash of the slide's content, in the order given."""
    by_hash: dict[str, list[str]] = {}
    for slide_id in slide_ids:
        for content in sorted({_content(features / entry / f"{slide_id}.json") for entry in encoders} - {""}):
            by_hash.setdefault(content, []).append(slide_id)
    return list(dict.fromkeys(tuple(same) for same in by_hash.values() if len(same) > 1))


def _content(receipt: Path) -> str:
    """The hash of the slide that a receipt is about; "" of a slide that is not used."""
    try:
        said = read_receipt(receipt)
    except StoreError:
        return ""
    return str(said.get("slide_hash", "")) if said.get("status") == Status.OK else ""


def slide_status(slide_id: str, features: Path, encoders: list[str]) -> SlideStatus:
    """`ok` only where every encoder entry could use the slide; otherwise the reasons name the entries."""
    receipts = {entry: read_receipt(features / entry / f"{slide_id}.json") for entry in encoders}
    status = max((Status(r["status"]) for r in receipts.values()), key=SEVERITY.index)
    reasons = [f"{entry}: {r['reason']}" for entry, r in receipts.items() if r["status"] != Status.OK]
    warnings = dict.fromkeys(warning for r in receipts.values() for warning in r["warnings"])
    counts = {entry: int(r.get("n_tiles", 0)) for entry, r in receipts.items()}
    return SlideStatus(slide_id, status, "; ".join(reasons), "; ".join(warnings), counts)
