"""What became of every slide: `cohort_status.csv`."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort.tables import read_table, write_table
from wsi_mil.records import Status


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
