"""Stage `cohort`: the receipts of one slide → its line in `cohort_status.csv`."""

from pathlib import Path

from wsi_mil.cohort import SlideStatus
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Status

SEVERITY = (Status.OK, Status.EMPTY, Status.SKIPPED, Status.FAILED)


def slide_status(slide_id: str, features: Path, encoders: list[str]) -> SlideStatus:
    """`ok` only where every encoder entry could use the slide; otherwise the reasons name the entries."""
    receipts = {entry: read_receipt(features / entry / f"{slide_id}.json") for entry in encoders}
    status = max((Status(r["status"]) for r in receipts.values()), key=SEVERITY.index)
    reasons = [f"{entry}: {r['reason']}" for entry, r in receipts.items() if r["status"] != Status.OK]
    warnings = dict.fromkeys(warning for r in receipts.values() for warning in r["warnings"])
    counts = {entry: int(r.get("n_tiles", 0)) for entry, r in receipts.items()}
    return SlideStatus(slide_id, status, "; ".join(reasons), "; ".join(warnings), counts)
