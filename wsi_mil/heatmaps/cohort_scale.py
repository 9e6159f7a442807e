"""One range of the colour bar for all slides, from the scores of the labelled ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import method_of
from wsi_mil.heatmaps.scale import TOP_PERCENTILE, weighted_range
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.score_scaling import probability_weighted, score_context
from wsi_mil.store import read_scores


@dataclass(frozen=True)
class CohortFiles:
    """What pictures need of the whole cohort.

    Attributes:
        scale: file written by `heatmap-scale`, for scale "cohort".
        trust: file written by `trust`; without it pictures say that model and method were not tested.
    """

    scale: Path | None = None
    trust: Path | None = None


def write_cohort_scale(rows: Iterable[SlideRow], scores: Path, path: Path) -> None:
    """Write the range of each method whose weighted scores can be compared across slides.

    Unlabelled slides are left out, so that a new slide does not change the pictures of others; so are slides on which
    nothing is shown.

    Args:
        rows: usable slides.
        scores: folder with the receipts of `explain`.
        path: JSON file to write.
    """
    receipts = [scores / f"{row.slide_id}.json" for row in rows if row.label]
    methods = sorted({method_of(name) for receipt in receipts for name in read_receipt(receipt)["methods"]})
    ranges = {method: method_range(method, receipts) for method in methods}
    models = {read_receipt(receipt).get("models", "") for receipt in receipts} - {""}
    metadata = {"percentile": TOP_PERCENTILE, "n_labelled": len(receipts), "models": sorted(models)}
    write_receipt(path, {**metadata, "methods": {method: ends for method, ends in ranges.items() if ends}})


def read_cohort_scale(path: Path) -> dict[str, tuple[float, float]]:
    """Return the lower and upper end of the colour bar by method."""
    return {method: (ends["low"], ends["high"]) for method, ends in read_receipt(path)["methods"].items()}


def is_scale_of(path: Path, models: str) -> bool:
    """Return whether a file of ranges exists and is of the scores of these models, by their fingerprint in receipts."""
    return path.is_file() and read_receipt(path).get("models") == [models]


def method_range(method: str, receipts: list[Path]) -> dict[str, object]:
    """Return the range of a method over many slides; empty if it cannot be compared, or shows nothing on any of them.

    The outputs of a slide have one range: their scores are of one unit.
    """
    pooled: dict[Path, list[NDArray[np.float32]]] = {}
    unit = ""
    for path in receipts:
        receipt = read_receipt(path)
        for name in (name for name in receipt["methods"] if method_of(name) == method_of(method)):
            context = score_context(receipt, name)
            if context.output and context.unit and context.comparable:
                unit = context.unit
                pooled.setdefault(path, []).append(probability_weighted(read_scores(store_path(path), name)[1], context))
    if not pooled:
        return {}
    values = np.concatenate([part for parts in pooled.values() for part in parts])
    low, high = weighted_range(values, unit)
    return {"low": low, "high": high, "unit": unit, "n_slides": len(pooled), "n_tiles": int(np.isfinite(values).sum())}
