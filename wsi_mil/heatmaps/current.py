"""Draw the heatmaps of a slide that are not current; a receipt tells from what each was made."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wsi_mil.config import Heatmap, Truth
from wsi_mil.errors import StoreError
from wsi_mil.heatmaps.stage import SUFFIXES, draw_heatmaps
from wsi_mil.receipts import MADE_FROM, file_hash, made_from, read_receipt, write_receipt
from wsi_mil.records import SlideRow

log = logging.getLogger(__name__)

STAGE_VERSION = 1


def receipt_of(folder: Path) -> Path:
    """Return the receipt in a slide's folder of heatmaps."""
    return folder / "receipt.json"


def outputs(receipts: Iterable[Path], methods: Sequence[str], settings: Heatmap) -> list[Path]:
    """Return the files of some methods that the receipts of slides stand for."""
    return [file for receipt in receipts for method in methods for file in _files(receipt.parent, method, settings)]


def draw_stale(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    methods: Sequence[str],
    settings: Heatmap,
    folder: Path,
    *,
    cohort_scale: Path | None = None,
    truth: Truth = Truth(),
) -> None:
    """Draw the heatmaps of a slide by some methods, except those that are there and were made from the same.

    Args:
        row: the slide; its file may be missing.
        scores_receipt: receipt of `explain`.
        tiles_receipt: receipt of `tile`.
        methods: methods whose scores are drawn.
        settings: settings of `heatmap`.
        folder: folder of the slide's heatmaps; its receipt is written last.
        cohort_scale: file written by `heatmap-scale`; needed only for scale "cohort".
        truth: settings of `truth`.

    Raises:
        Those of `draw_heatmaps`.
    """
    receipt = receipt_of(folder)
    stamp = _stamp(row, scores_receipt, tiles_receipt, settings, cohort_scale, truth)
    drawn = _drawn(receipt)
    stale = [
        method
        for method in methods
        if drawn.get(method) != stamp or not all(f.exists() for f in _files(folder, method, settings))
    ]
    if not stale:
        log.info("%s: unchanged", row.slide_id)
        return
    kept = {method: made for method, made in drawn.items() if method not in stale}
    write_receipt(receipt, {"slide_id": row.slide_id, "methods": kept})
    draw_heatmaps(row, scores_receipt, tiles_receipt, stale, settings, folder, cohort_scale=cohort_scale, truth=truth)
    write_receipt(receipt, {"slide_id": row.slide_id, "methods": {**kept, **dict.fromkeys(stale, stamp)}})


def _files(folder: Path, method: str, settings: Heatmap) -> list[Path]:
    """Return the files of one method."""
    suffixes = SUFFIXES if settings.gallery else SUFFIXES[:-1]
    return [folder / f"{method}{suffix}" for suffix in suffixes]


def _stamp(
    row: SlideRow, scores_receipt: Path, tiles_receipt: Path, settings: Heatmap, cohort_scale: Path | None, truth: Truth
) -> str:
    content: Mapping[str, object] = {
        "stage_version": STAGE_VERSION,
        "settings": settings.model_dump(mode="json"),
        "scores": file_hash(scores_receipt),
        "tiles": file_hash(tiles_receipt),
        "label": row.label,
        "annotation": file_hash(row.annotation),
        "truth": truth.model_dump(mode="json") if row.annotation else None,
        "cohort_scale": file_hash(cohort_scale),
    }
    return made_from(content)[MADE_FROM]


def _drawn(receipt: Path) -> dict[str, str]:
    """What each heatmap was made from, by method; {} without a receipt that can be read."""
    try:
        return dict(read_receipt(receipt)["methods"])
    except (StoreError, KeyError, TypeError, ValueError):
        return {}
