"""Stage `cohort`: collect the status of every slide from its receipts into `cohort_status.csv`."""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_mil.errors import StoreError
from wsi_mil.files import read_table, write_table
from wsi_mil.receipts import file_hash, read_receipt, write_receipt
from wsi_mil.records import Status
from wsi_mil.wording import named

log = logging.getLogger(__name__)

SEVERITY = (Status.OK, Status.EMPTY, Status.SKIPPED, Status.FAILED)


@dataclass(frozen=True)
class SlideStatus:
    """One row of `cohort_status.csv`.

    Attributes:
        slide_id: id of the slide.
        status: status of the slide, the worst over all entries of `encoders`.
        reason: why the status is not `ok`, with the entry of `encoders`; or "".
        warnings: warnings of all entries, separated by "; ".
        n_tiles: number of usable tiles for each entry of `encoders`.
    """

    slide_id: str
    status: Status
    reason: str
    warnings: str
    n_tiles: dict[str, int]


def write_status(path: Path, statuses: list[SlideStatus]) -> None:
    """Write `cohort_status.csv`."""
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
    """Return the slides that are usable with every entry of `encoders`."""
    return {s.slide_id for s in statuses if s.status is Status.OK}


def cohort_statuses(slide_ids: Sequence[str], features: Path, encoders: Sequence[str]) -> list[SlideStatus]:
    """Return the status of each slide, in the order of `slide_ids`; duplicate slides get a warning that names the others.

    Only receipts are read, so that the same receipts give the same table.

    Args:
        slide_ids: of the cohort sheet.
        features: folder with the receipts of `extract`, by entry of `encoders`.
        encoders: entries of `encoders`.
    """
    duplicates_of: dict[str, list[str]] = {}
    for duplicates in duplicate_slides(slide_ids, features, encoders):
        log.warning("slides %s have the same content: one slide under several names", named(duplicates))
        for slide_id in duplicates:
            others = duplicates_of.setdefault(slide_id, [])
            others += [other for other in duplicates if other != slide_id and other not in others]
    statuses = []
    for slide_id in slide_ids:
        status = slide_status(slide_id, features, list(encoders))
        if slide_id in duplicates_of:
            others = duplicates_of[slide_id]
            warning = f"same content as slide{'s' if len(others) > 1 else ''} {named(others)}"
            status = replace(status, warnings="; ".join(filter(None, (status.warnings, warning))))
        statuses.append(status)
    return statuses


def duplicate_slides(slide_ids: Iterable[str], features: Path, encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """Return groups of slides whose receipts have the same hash of the slide's content, in the order of `slide_ids`."""
    by_hash: dict[str, list[str]] = {}
    for slide_id in slide_ids:
        for slide_hash in sorted({_slide_hash(features / entry / f"{slide_id}.json") for entry in encoders} - {""}):
            by_hash.setdefault(slide_hash, []).append(slide_id)
    return list(dict.fromkeys(tuple(group) for group in by_hash.values() if len(group) > 1))


def _slide_hash(path: Path) -> str:
    """Return the hash of a slide's content from its receipt; "" if the slide is not usable."""
    try:
        receipt = read_receipt(path)
    except StoreError:
        return ""
    return str(receipt.get("slide_hash", "")) if receipt.get("status") == Status.OK else ""


def slide_status(slide_id: str, features: Path, encoders: list[str]) -> SlideStatus:
    """Return the status of a slide: the worst over all entries of `encoders`, with their reasons."""
    receipts = {entry: read_receipt(features / entry / f"{slide_id}.json") for entry in encoders}
    status = max((Status(r["status"]) for r in receipts.values()), key=SEVERITY.index)
    reasons = [f"{entry}: {r['reason']}" for entry, r in receipts.items() if r["status"] != Status.OK]
    warnings = dict.fromkeys(warning for r in receipts.values() for warning in r["warnings"])
    counts = {entry: int(r.get("n_tiles", 0)) for entry, r in receipts.items()}
    return SlideStatus(slide_id, status, "; ".join(reasons), "; ".join(warnings), counts)


def write_feature_versions(folder: Path, features: Path, usable: Set[str], labelled: Mapping[str, Set[str]]) -> None:
    """Write the hashes of the receipts of `extract` of all usable slides, and of the labelled ones among them.

    Args:
        folder: `usable.json` and `labelled/{target}.json` are written here; each changes only with the features of its slides.
        features: folder with the receipts.
        usable: ids of the slides that later stages work on.
        labelled: ids of the slides that have a label, for each target.
    """
    hashes = {slide_id: file_hash(features / f"{slide_id}.json") for slide_id in sorted(usable)}
    write_receipt(folder / "usable.json", hashes)
    for target, slide_ids in labelled.items():
        own = {slide_id: text for slide_id, text in hashes.items() if slide_id in slide_ids}
        write_receipt(folder / "labelled" / f"{target}.json", own)
