"""How figures of the models of an earlier run move in this cohort, and what recalibrated probabilities change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsi_mil.config import Config
from wsi_mil.metrics import wilson_interval
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Role
from wsi_mil.report.curves import Dot, reliability_dots
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.summary import Limitation
from wsi_mil.report.task_report import TaskReport, decimals
from wsi_mil.results import Results
from wsi_mil.wording import listed

SECTION = "transfer"
"""Id of the section."""
AT_THRESHOLD = ("sensitivity", "specificity")
"""Figures that depend on the threshold alone, of two classes."""

Ends = tuple[float, float]
Figure = tuple[float, Ends]
"""Value and the ends of its interval."""


@dataclass(frozen=True)
class Move:
    """A figure in the cohort that the models were trained on, on held-out slides, and in this one.

    Attributes:
        name: key of the figure.
        title: its title.
        before: value there, with its interval; None if undefined.
        now: value here, with its interval; None if undefined.
        difference: here minus there, with its interval; None if one of them is undefined.
        again: value here with recalibrated probabilities and their threshold; None if there is none.
    """

    name: str
    title: str
    before: Figure | None
    now: Figure | None
    difference: Figure | None
    again: Figure | None

    @property
    def has_moved(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference is not None and not self.difference[1][0] <= 0 <= self.difference[1][1]


@dataclass(frozen=True)
class Transfer:
    """A model of an earlier run in this cohort.

    Attributes:
        model: its name.
        moves: figures there and here.
        sentence: on the old threshold, or why there is nothing to compare.
        known: on labelled slides that are left out, as their patients count in the earlier run's figures already, or "".
        reliability: dots of the reliability curve here; of classes only.
        recalibrated: metrics of recalibrated probabilities, or {}.
        recalibrated_reliability: dots of their reliability curve.
    """

    model: str
    moves: Sequence[Move]
    sentence: str
    known: str
    reliability: Sequence[Dot]
    recalibrated: dict[str, Any]
    recalibrated_reliability: Sequence[Dot]

    @property
    def has_recalibrated(self) -> bool:
        """Whether there are figures of recalibrated probabilities."""
        return "n_bags" in self.recalibrated


def transfers(models: Sequence[ModelPage], report: TaskReport, config: Config) -> list[Transfer]:
    """Return how the figures of models of an earlier run move here; [] if the models were trained in this run.

    Args:
        models: of the target; those without an evaluated slide are left out.
        report: of the target.
        config: the whole configuration.
    """
    if config.trained is None:
        return []
    return [_transfer(model, report, config) for model in models if model.metrics.get("n_slides")]


def transfer_limitations(found: Sequence[Transfer]) -> list[Limitation]:
    """Return figures at the old threshold that have moved, and recalibrations that turn the order of slides around."""
    moved = [f"{t.model}: {_move_text(m)}" for t in found for m in t.moves if m.name in AT_THRESHOLD and m.has_moved]
    turned = [t.model for t in found if any(c["slope"] <= 0 for c in t.recalibrated.get("platt", []))]
    texts = [f"At the threshold of the earlier run, {text}." for text in moved]
    texts += [
        f"{name}: its probabilities rank the calibration slides no better than chance (a slope of Platt scaling is not above"
        " 0), so recalibrated ones turn them around or make them all alike."
        for name in turned
    ]
    return [Limitation(text, SECTION) for text in texts]


def difference(before: Figure, now: Figure) -> Figure:
    """Return `now - before` of independent samples with its interval, from the intervals of both.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10; G. Y. Zou and A. Donner, Statistics in Medicine
        27 (2008) 1693-1702, for any intervals.

    Args:
        before: value and the ends of its interval.
        now: value and the ends of its interval.
    """
    (first, (low1, high1)), (second, (low2, high2)) = before, now
    value = second - first
    return value, (value - math.hypot(second - low2, high1 - first), value + math.hypot(high2 - second, first - low1))


def _transfer(model: ModelPage, report: TaskReport, config: Config) -> Transfer:
    path = Results(config.trained or config.results).target(model.target).metrics(model.encoder, model.model)
    earlier = read_receipt(path) if path.is_file() else {}
    again = model.metrics.get("recalibrated", {})
    n_known = sum(bool(row["label"]) and row["role"] == Role.TEST for row in model.predictions.values())
    here = _of_new(model.metrics, n_known)
    moves = [_move(name, title, earlier, here, again) for name, title in report.figures.items() if name in here]
    return Transfer(
        model.name,
        moves,
        _sentence(model, moves, has_earlier=bool(earlier.get("n_slides"))),
        _known_text(n_known, has_new=bool(here)),
        reliability_dots(here.get("reliability", [])),
        again,
        reliability_dots(again.get("reliability", [])),
    )


def _of_new(metrics: dict[str, Any], n_known: int) -> dict[str, Any]:
    """Figures of patients that the earlier run did not have: those of the others are part of its own figures."""
    of_new: dict[str, Any] = metrics.get("of_new", {})
    return of_new if n_known else metrics


def _known_text(n_known: int, *, has_new: bool) -> str:
    if not n_known:
        return ""
    slides = "1 labelled slide is of a patient" if n_known == 1 else f"{n_known} labelled slides are of patients"
    rest = "left out of this comparison" if has_new else "no others are labelled, so there is nothing to compare"
    return f"{slides} whom the earlier run held out, and who count in its figures already: {rest}."


def _move(name: str, title: str, earlier: dict[str, Any], here: dict[str, Any], again: dict[str, Any]) -> Move:
    before, now = _figure(earlier, name), _figure(here, name)
    there, own = _informative(before, earlier, name), _informative(now, here, name)
    moved = difference(there, own) if there and own else None
    return Move(name, title, before, now, moved, _figure(again, name))


def _informative(figure: Figure | None, metrics: dict[str, Any], name: str) -> Figure | None:
    """A figure with an interval that is more than a point, as the bootstrap's is of a perfect figure; None if there is none."""
    if figure is None or figure[1][0] < figure[1][1]:
        return figure
    if name not in AT_THRESHOLD or "confusion_matrix" not in metrics:
        return None
    n = sum(metrics["confusion_matrix"][1 if name == "sensitivity" else 0])  # a row for each true class, the positive one last
    return figure[0], wilson_interval(figure[0] * n, n)


def _figure(metrics: dict[str, Any], name: str) -> Figure | None:
    value, ends = metrics.get(name), metrics.get(f"{name}_ci95", [None, None])
    return None if value is None or ends[0] is None else (value, (ends[0], ends[1]))


def _sentence(model: ModelPage, moves: Sequence[Move], *, has_earlier: bool) -> str:
    if not has_earlier:
        return "The earlier run has no figures of held-out slides, so there is nothing to compare with."
    thresholds = {row["threshold"] for row in model.predictions.values() if row.get("threshold") and row["role"] == ""}
    at = [move for move in moves if move.name in AT_THRESHOLD and move.difference]
    if not at or len(thresholds) != 1:
        return ""
    return f"At the threshold {float(thresholds.pop()):.3f} of the earlier run, {listed([_move_text(move) for move in at])}."


def _move_text(move: Move) -> str:
    if move.before is None or move.now is None or move.difference is None:
        return f"{move.title.lower()} cannot be compared"
    value, (low, high) = move.difference
    change = f"{value:+.3f}, {low:+.3f} to {high:+.3f}".replace("-", "−")
    return f"{move.title.lower()} went from {decimals(move.before[0])} to {decimals(move.now[0])} ({change})"
