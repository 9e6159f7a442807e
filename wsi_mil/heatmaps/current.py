"""Draw the heatmaps of a slide that are not current; a receipt of each tells what it was made from."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_mil.config import Heatmap, Truth, is_fine
from wsi_mil.heatmaps.cohort_scale import CohortFiles
from wsi_mil.heatmaps.slide_scores import names_of
from wsi_mil.heatmaps.stage import RASTER, SUFFIXES, draw_heatmaps, is_first
from wsi_mil.receipts import USUAL, file_hash, is_current, made_from, read_receipt, store_marker, write_receipt
from wsi_mil.records import NO_PATH, SlideRow

log = logging.getLogger(__name__)

STAGE_VERSION = 3


def receipt_of(folder: Path, method: str) -> Path:
    """Return the receipt of one heatmap in a slide's folder."""
    return folder / f"{method}.json"


def outputs(receipt: Path, settings: Heatmap) -> list[Path]:
    """Return the files that a receipt of a heatmap stands for."""
    suffixes = SUFFIXES if settings.gallery else SUFFIXES[:-1]
    return [receipt.with_suffix(suffix) for suffix in suffixes if suffix != RASTER or is_first(receipt.stem)]


def draw_stale(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    methods: Sequence[str],
    settings: Heatmap,
    folder: Path,
    *,
    cohort: CohortFiles = CohortFiles(),
    truth: Truth = Truth(),
) -> bool:
    """Draw the heatmaps of a slide by some methods, except those that are there and were made from the same.

    A heatmap that was drawn without the slide file or without its thumbnail is drawn again once these are there.

    Args:
        row: the slide; its file may be missing.
        scores_receipt: receipt of `explain`.
        tiles_receipt: receipt of `tile`.
        methods: methods whose scores are drawn, those of further outputs too.
        settings: settings of `heatmap`.
        folder: folder of the slide's heatmaps; receipts are written last.
        cohort: files about the whole cohort; `scale` is needed only for scale "cohort".
        truth: settings of `truth`.

    Returns:
        Whether any was drawn.

    Raises:
        Those of `draw_heatmaps`.
    """
    stamp = _stamp(row, scores_receipt, tiles_receipt, settings, cohort, truth)
    is_whole = _is_there(row) and store_marker(tiles_receipt).exists()
    receipts = {receipt.stem: receipt for receipt in drawn(scores_receipt, methods, folder)}
    stale = [m for m, receipt in receipts.items() if not _is_drawn(receipt, stamp, settings, could_be_whole=is_whole)]
    if not stale:
        log.info("%s: unchanged", row.slide_id)
        return False
    for method in stale:
        receipts[method].unlink(missing_ok=True)  # it describes an earlier picture
    draw_heatmaps(row, scores_receipt, tiles_receipt, stale, settings, folder, cohort=cohort, truth=truth)
    usual = {USUAL: text} if (text := read_receipt(scores_receipt).get(USUAL)) else {}
    for method in stale:
        write_receipt(receipts[method], {"slide_id": row.slide_id, "method": method, "is_whole": is_whole, **usual, **stamp})
    return True


def drawn(scores_receipt: Path, methods: Sequence[str], folder: Path) -> list[Path]:
    """Return the receipts of a slide's heatmaps by some methods, those of further outputs included."""
    return [receipt_of(folder, name) for name in names_of(read_receipt(scores_receipt), methods)]


def remove_others(folder: Path, kept: Sequence[Path], scores_receipt: Path) -> None:
    """Remove the heatmaps of a slide whose receipts are not `kept`: beside new ones, those of earlier models would mislead.

    Finer ones stay as long as they were made with the scores of `scores_receipt`.
    """
    usual = file_hash(scores_receipt)
    others = [path for path in folder.glob("*.json") if path not in kept]
    for receipt in [path for path in others if not (is_fine(path.stem) and read_receipt(path).get(USUAL) == usual)]:
        for suffix in (*SUFFIXES, receipt.suffix):
            receipt.with_suffix(suffix).unlink(missing_ok=True)


def _is_drawn(receipt: Path, stamp: Mapping[str, str], settings: Heatmap, *, could_be_whole: bool) -> bool:
    if not is_current(receipt, stamp, outputs(receipt, settings)):
        return False
    return bool(read_receipt(receipt)["is_whole"]) or not could_be_whole


def _is_there(row: SlideRow) -> bool:
    """Whether the slide's pixels can be expected to be readable."""
    return isinstance(row.path, str) or (row.path != NO_PATH and row.path.is_file())


def _stamp(
    row: SlideRow, scores_receipt: Path, tiles_receipt: Path, settings: Heatmap, cohort: CohortFiles, truth: Truth
) -> dict[str, str]:
    content: Mapping[str, object] = {
        "stage_version": STAGE_VERSION,
        "settings": settings.model_dump(mode="json"),
        "scores": file_hash(scores_receipt),
        "tiles": file_hash(tiles_receipt),
        "label": row.label,
        "annotation": file_hash(row.annotation),
        "truth": truth.model_dump(mode="json") if row.annotation else None,
        "cohort_scale": file_hash(cohort.scale),
        "trust": file_hash(cohort.trust),
    }
    return made_from(content)
