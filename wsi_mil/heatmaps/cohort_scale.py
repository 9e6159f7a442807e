"""One range of the colour bar for all slides, from the scores of the labelled ones."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.heatmaps.scale import TOP_PERCENTILE, weighed_range
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.score_scaling import meaning_of, weighed_scores
from wsi_mil.store import read_scores


def write_cohort_scale(rows: Iterable[SlideRow], scores: Path, path: Path) -> None:
    """Write the range of each method whose weighed scores may be compared across slides.

    Unlabelled slides do not count, so that a new one changes no other slide's picture; nor do slides that are not shown.

    Args:
        rows: usable slides.
        scores: folder with the receipts of `explain`.
        path: JSON to write.
    """
    receipts = [scores / f"{row.slide_id}.json" for row in rows if row.label]
    methods = sorted({method for receipt in receipts for method in read_receipt(receipt)["methods"]})
    found = {method: range_of(method, receipts) for method in methods}
    about = {"percentile": TOP_PERCENTILE, "n_labelled": len(receipts)}
    write_receipt(path, {**about, "methods": {method: scale for method, scale in found.items() if scale}})


def read_cohort_scale(path: Path) -> dict[str, tuple[float, float]]:
    """By method, lower and upper end of the colour bar."""
    return {method: (scale["low"], scale["high"]) for method, scale in read_receipt(path)["methods"].items()}


def range_of(method: str, receipts: list[Path]) -> dict[str, object]:
    """Range of one method over many slides, or nothing where it may not be compared or shows nothing on any."""
    pooled: list[NDArray[np.float32]] = []
    unit = ""
    for path in receipts:
        receipt = read_receipt(path)
        meaning = meaning_of(receipt, method)
        if "probs" in receipt and meaning.unit and meaning.comparable:
            unit = meaning.unit
            pooled.append(weighed_scores(read_scores(store_path(path), method)[1], meaning))
    if not pooled:
        return {}
    values = np.concatenate(pooled)
    low, high = weighed_range(values, unit)
    return {"low": low, "high": high, "unit": unit, "n_slides": len(pooled), "n_tiles": int(np.isfinite(values).sum())}
