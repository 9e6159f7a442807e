"""Scores → the numbers that a heatmap shows, and the range of its colour bar. Pure."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Scale
from wsi_mil.metrics import mid_ranks
from wsi_mil.score_scaling import Meaning, weighed_scores

TOP_PERCENTILE = 99.5
EVEN_SHARE = 1.0
SAME = 1e-6
"""Scores that differ by less than this share of the largest are equal: float32 knows seven digits."""

LEAST_TOP = {
    "share": 10.0,
    "logit": math.log(10.0),
    "log_odds": 1.0,
    "deviation": 4.0,
    "probability": 1.0,
    "contribution": 1.0,
    "sensitivity": 1.0,
}
"""By unit, the least top of a colour bar of weighed scores, so that a slide on which nothing stands out stays cold."""

STORED = {
    "share": "attention (sums to 1 over the bag)",
    "logit": "logit of attention",
    "log_odds": "log odds of {target}",
    "deviation": "standard deviations above the slide's mean",
    "probability": "tile's probability of {target}",
    "contribution": "contribution to the log odds of {target}",
    "sensitivity": "sensitivity of {target} to the tile, in slide means × probability",
}
"""By unit, what stored scores are."""

WEIGHED = {
    **{unit: f"{text} × P({{target}})" for unit, text in STORED.items()},
    "share": "attention / even share × P({target})",
    "logit": "log(attention / even share × P({target}))",
}
"""By unit, what weighed scores are."""

NOT_PREDICTED = 0.4
"""No tile of a slide that is not predicted as the class shown stands higher on the colour bar of weighed scores."""

SOME_TILE_IS_HOT = "some tile is hot on every slide, negative ones too"


@dataclass(frozen=True)
class Shown:
    """What is painted.

    Attributes:
        values: float32 `(n,)`, NaN where there is nothing to show.
        low: lower end of the colour bar.
        high: upper end, above `low`.
        is_log: whether the bar is logarithmic; `low` is then positive.
        label: what the values are, and below which scale this is.
        ceiling: highest place on the bar that a tile may have.
    """

    values: NDArray[np.float32]
    low: float
    high: float
    is_log: bool
    label: str
    ceiling: float = 1.0

    def place(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where values stand on the colour bar: 0 (cold) to 1 (hot) or the ceiling, NaN where they are NaN."""
        low, high, at = self.low, self.high, np.asarray(values, np.float64)
        if self.is_log:
            low, high = math.log(low), math.log(high)
            at = np.log(np.maximum(at, self.low))
        return np.clip((at - low) / (high - low), 0.0, self.ceiling)


def shown_scores(
    values: NDArray[np.float32], meaning: Meaning, scale: Scale, *, cohort_range: tuple[float, float] | None = None
) -> Shown:
    """The numbers to paint for one slide's scores.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        meaning: what they are.
        scale: which numbers are shown. "cohort" falls back to "auto" where weighed scores may not be compared.
        cohort_range: lower and upper end for scale "cohort"; None: the range of a cohort in which nothing stands out.
    """
    if not meaning.unit or not np.isfinite(values).any():
        return Shown(values, 0.0, 1.0, False, "")
    is_flat = _is_flat(values)
    if scale == "cohort" and meaning.comparable:
        return _quietened(_on_the_cohorts(values, meaning, cohort_range, is_flat=is_flat), meaning)
    if is_flat:
        return _flat(values, meaning, scale)
    if scale in ("auto", "cohort"):
        return _quietened(_weighed(values, meaning, scale), meaning)
    if scale == "raw":
        low, high = _ends(values)
        return Shown(values, low, high, False, f"{_says(STORED, meaning)}\nscale raw: as stored, this slide's range")
    what = f"{_says(STORED, meaning)}, "
    if scale == "minmax":
        label = f"{what}from least to greatest\nscale min–max: {SOME_TILE_IS_HOT}"
        return Shown(_between_ends(values), 0.0, 1.0, False, label)
    label = f"{what}share of tiles below\nscale percentile: {SOME_TILE_IS_HOT}"
    return Shown(_mid_ranks(values), 0.0, 1.0, False, label)


def weighed_range(weighed: NDArray[np.float32], unit: str) -> tuple[float, float]:
    """Colour bar of weighed scores: from what says nothing to their top, but at least to `LEAST_TOP`.

    Args:
        weighed: `(n,)` of one slide or of many; none finite where there is nothing to show.
        unit: as in InstanceScores.
    """
    known = weighed[np.isfinite(weighed)]
    top = float(np.percentile(known, TOP_PERCENTILE)) if len(known) else -math.inf
    return (EVEN_SHARE if unit == "share" else 0.0), max(LEAST_TOP[unit], top)


def _weighed(values: NDArray[np.float32], meaning: Meaning, scale: Scale) -> Shown:
    weighed = weighed_scores(values, meaning)
    low, high = weighed_range(weighed, meaning.unit)
    names = {"auto": "scale auto: this slide's own", "cohort": "not comparable across slides: this slide's own scale"}
    return Shown(weighed, low, high, meaning.unit == "share", f"{_says(WEIGHED, meaning)}\n{names[scale]}")


def _quietened(shown: Shown, meaning: Meaning) -> Shown:
    """Never hot where the slide is not predicted as the class: n·a·P and log odds have no bound that a large slide keeps."""
    if meaning.predicted:
        return shown
    return replace(shown, ceiling=NOT_PREDICTED, label=f"{shown.label}\nnot predicted {meaning.target}: never drawn hot")


def _on_the_cohorts(
    values: NDArray[np.float32], meaning: Meaning, cohort_range: tuple[float, float] | None, *, is_flat: bool
) -> Shown:
    low, high = cohort_range or weighed_range(np.empty(0, np.float32), meaning.unit)
    label = f"{_says(WEIGHED, meaning)}\nscale cohort: the same for all slides"
    weighed = weighed_scores(values, meaning)
    return Shown(weighed, low, high, meaning.unit == "share", label + ("; all tiles have the same score" if is_flat else ""))


def _flat(values: NDArray[np.float32], meaning: Meaning, scale: Scale) -> Shown:
    """All tiles have the same score: a cold picture, whatever the score is."""
    names = {"minmax": "scale min–max", "cohort": "not comparable across slides, this slide's own scale"}
    label = f"\n{names.get(scale, f'scale {scale}')}: all tiles have the same score"
    if scale in ("minmax", "percentile"):
        nought = np.where(np.isfinite(values), 0.0, np.nan).astype(np.float32)
        return Shown(nought, 0.0, 1.0, False, _says(STORED, meaning) + label)
    shown = values if scale == "raw" else weighed_scores(values, meaning)
    low = _ends(shown)[1]
    says = STORED if scale == "raw" else WEIGHED
    return Shown(shown, low, low + (abs(low) or 1.0), False, _says(says, meaning) + label)


def _says(texts: dict[str, str], meaning: Meaning) -> str:
    return texts[meaning.unit].format(target=meaning.target)


def _is_flat(values: NDArray[np.float32]) -> bool:
    low, high = _ends(values)
    return high - low <= SAME * max(abs(low), abs(high))


def _ends(values: NDArray[np.float32]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return float(known.min()), float(known.max())


def _between_ends(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = _ends(values)
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)


def _mid_ranks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the known values that are lower, equal ones counting half."""
    ranks = np.full(len(values), np.nan, np.float32)
    known = np.isfinite(values)
    ranks[known] = mid_ranks(values[known])
    return ranks
