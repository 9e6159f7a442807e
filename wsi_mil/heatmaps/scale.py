"""Convert scores to the numbers that a heatmap shows, and choose the range of its colour bar. No I/O."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Scale
from wsi_mil.metrics import are_equal, mid_ranks
from wsi_mil.score_scaling import ScoreContext, probability_weighted

TOP_PERCENTILE = 99.5
EVEN_SHARE = 1.0

LEAST_TOP = {
    "share": 10.0,
    "logit": math.log(10.0),
    "log_odds": 1.0,
    "deviation": 4.0,
    "probability": 1.0,
    "contribution": 1.0,
    "part": 1.0,
    "sensitivity": 1.0,
}
"""By unit, lower limit of the top of a colour bar of weighted scores, so that a slide on which nothing stands out stays cold."""

STORED_LABELS = {
    "share": "attention (sums to 1 over the bag)",
    "logit": "logit of attention",
    "log_odds": "{quantity}",
    "deviation": "standard deviations above the slide's mean",
    "probability": "tile's probability of {output}",
    "contribution": "contribution to {quantity}",
    "part": "contribution to {quantity} (sums to it over the bag)",
    "sensitivity": "sensitivity of {output} to the tile, in slide means × probability",
}
"""By unit, label of stored scores."""

RELATIVE_LABELS = {
    **STORED_LABELS,
    "share": "attention / even share",
    "logit": "log(attention / even share)",
    "part": "contribution to {quantity} × number of tiles",
}
"""By unit, label of scores relative to their neutral value, where there is no probability."""

WEIGHTED_LABELS = {
    **{unit: f"{text} × P({{output}})" for unit, text in RELATIVE_LABELS.items()},
    "logit": "log(attention / even share × P({output}))",
}
"""By unit, label of scores multiplied by the predicted probability."""

NOT_PREDICTED = 0.4
"""Highest position on the colour bar of weighted scores for tiles of a slide that is not predicted as the class shown."""

SOME_TILE_IS_HOT = "some tile is hot on every slide, including negative ones"


@dataclass(frozen=True)
class ScoreDisplay:
    """Scores as a heatmap shows them.

    Attributes:
        values: float32 `(n,)`, NaN where there is nothing to show.
        low: lower end of the colour bar.
        high: upper end, above `low`.
        is_log: whether the colour bar is logarithmic; `low` is then positive.
        label: what the values are, and on the next line the scale.
        ceiling: highest position on the colour bar that a tile can have.
    """

    values: NDArray[np.float32]
    low: float
    high: float
    is_log: bool
    label: str
    ceiling: float = 1.0

    def positions(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the positions of values on the colour bar, from 0 (cold) to 1 (hot) or the ceiling; NaN for NaN."""
        low, high = self.low, self.high
        numbers = np.asarray(values, np.float64)
        if self.is_log:
            low, high = math.log(low), math.log(high)
            numbers = np.log(np.maximum(numbers, self.low))
        return np.clip((numbers - low) / (high - low), 0.0, self.ceiling)


def score_display(
    values: NDArray[np.float32], context: ScoreContext, scale: Scale, *, cohort_range: tuple[float, float] | None = None
) -> ScoreDisplay:
    """Return how the scores of one slide are shown.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        context: what the scores are.
        scale: setting `heatmap.scale`. "cohort" falls back to "auto" if scores cannot be compared across slides.
        cohort_range: lower and upper end for scale "cohort"; None: the range of a cohort in which nothing stands out.
    """
    if not context.unit or not np.isfinite(values).any():
        return ScoreDisplay(values, 0.0, 1.0, False, "")
    is_constant = _is_constant(values)
    if scale == "cohort" and context.comparable:
        return _cap_if_not_predicted(_cohort_display(values, context, cohort_range, is_constant=is_constant), context)
    if is_constant:
        return _constant_display(values, context, scale)
    if scale in ("auto", "cohort"):
        return _cap_if_not_predicted(_weighted_display(values, context, scale), context)
    if scale == "raw":
        low, high = _min_and_max(values)
        label = f"{_label(STORED_LABELS, context)}\nscale raw: stored scores, range of this slide"
        return ScoreDisplay(values, low, high, False, label)
    if scale == "minmax":
        label = f"{_label(STORED_LABELS, context)}, from minimum to maximum\nscale min–max: {SOME_TILE_IS_HOT}"
        return ScoreDisplay(_min_max_scaled(values), 0.0, 1.0, False, label)
    label = f"{_label(STORED_LABELS, context)}, share of tiles with a lower score\nscale percentile: {SOME_TILE_IS_HOT}"
    return ScoreDisplay(_mid_ranks(values), 0.0, 1.0, False, label)


def weighted_range(weighted: NDArray[np.float32], unit: str) -> tuple[float, float]:
    """Return both ends of the colour bar of weighted scores: the neutral value, and the top score or at least `LEAST_TOP`.

    Args:
        weighted: `(n,)` of one slide or of many; none of them finite if there is nothing to show.
        unit: unit as in InstanceScores.
    """
    finite = weighted[np.isfinite(weighted)]
    top = float(np.percentile(finite, TOP_PERCENTILE)) if len(finite) else -math.inf
    return (EVEN_SHARE if unit == "share" else 0.0), max(LEAST_TOP[unit], top)


def _weighted_display(values: NDArray[np.float32], context: ScoreContext, scale: Scale) -> ScoreDisplay:
    weighted = probability_weighted(values, context)
    low, high = weighted_range(weighted, context.unit)
    names = {"auto": "scale auto: range of this slide", "cohort": "not comparable across slides: range of this slide"}
    label = f"{_weighted_label(context)}\n{names[scale]}"
    return ScoreDisplay(weighted, low, high, context.unit == "share", label)


def _cap_if_not_predicted(display: ScoreDisplay, context: ScoreContext) -> ScoreDisplay:
    """Keep a slide that is not predicted as the class from being hot: on a large slide n·a·P and log odds have no bound."""
    if context.predicted:
        return display
    label = f"{display.label}\nnot predicted as {context.output}: never drawn hot"
    return replace(display, ceiling=NOT_PREDICTED, label=label)


def _cohort_display(
    values: NDArray[np.float32], context: ScoreContext, cohort_range: tuple[float, float] | None, *, is_constant: bool
) -> ScoreDisplay:
    low, high = cohort_range or weighted_range(np.empty(0, np.float32), context.unit)
    label = f"{_weighted_label(context)}\nscale cohort: same range for all slides"
    label += "; all tiles have the same score" if is_constant else ""
    return ScoreDisplay(probability_weighted(values, context), low, high, context.unit == "share", label)


def _constant_display(values: NDArray[np.float32], context: ScoreContext, scale: Scale) -> ScoreDisplay:
    """Cold picture for tiles that all have the same score, whatever the score is."""
    names = {"minmax": "scale min–max", "cohort": "not comparable across slides, range of this slide"}
    label = f"\n{names.get(scale, f'scale {scale}')}: all tiles have the same score"
    if scale in ("minmax", "percentile"):
        zeros = np.where(np.isfinite(values), 0.0, np.nan).astype(np.float32)
        return ScoreDisplay(zeros, 0.0, 1.0, False, _label(STORED_LABELS, context) + label)
    displayed = values if scale == "raw" else probability_weighted(values, context)
    low = _min_and_max(displayed)[1]
    what = _label(STORED_LABELS, context) if scale == "raw" else _weighted_label(context)
    return ScoreDisplay(displayed, low, low + (abs(low) or 1.0), False, what + label)


def _weighted_label(context: ScoreContext) -> str:
    return _label(RELATIVE_LABELS if context.prob is None else WEIGHTED_LABELS, context)


def _label(labels: dict[str, str], context: ScoreContext) -> str:
    return labels[context.unit].format(output=context.output, quantity=context.explained).removeprefix("the ")


def _is_constant(values: NDArray[np.float32]) -> bool:
    return are_equal(values[np.isfinite(values)])


def _min_and_max(values: NDArray[np.float32]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return float(finite.min()), float(finite.max())


def _min_max_scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = _min_and_max(values)
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)


def _mid_ranks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the finite values that are lower; ties count half."""
    ranks = np.full(len(values), np.nan, np.float32)
    finite = np.isfinite(values)
    ranks[finite] = mid_ranks(values[finite])
    return ranks
