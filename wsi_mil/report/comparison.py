"""Comparison of every pair of models on the slides that both predicted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Difference, holm, paired_difference
from wsi_mil.records import Role
from wsi_mil.report.task_report import TaskReport
from wsi_mil.tasks.shown import Row


@dataclass(frozen=True)
class Groups:
    """Groups of slides within which models are compared, such as sites.

    Attributes:
        column: column of the sheet.
        of: group of each slide, by slide_id.
    """

    column: str
    of: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Difference between the main figures of two models.

    Attributes:
        first: name of the first model.
        second: name of the second model.
        figure: title of the figure that is compared.
        n: number of slides that both predicted; slides of one bag in both models count once.
        difference: first minus second.
        p_holm: p-value, adjusted for the number of pairs.
    """

    first: str
    second: str
    figure: str
    n: int
    difference: Difference
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at 5 %, corrected for all pairs."""
        return self.p_holm < 0.05


def evaluated_rows(predictions: Iterable[Row]) -> list[Row]:
    """Return the rows that figures are computed from: labelled, held out, and the first of each bag."""
    first_of_bag: dict[str, Row] = {}
    for row in predictions:
        if _is_evaluated(row):
            first_of_bag.setdefault(row["bag"], row)
    return list(first_of_bag.values())


def compare_models(
    predictions: Mapping[str, Iterable[Row]], report: TaskReport, *, draws: int, groups: Groups | None = None
) -> list[Comparison]:
    """Compare every pair of models, in their order.

    With groups, the mean of the main figure over groups is compared, as in `wsi_mil.figures.group_figures`: among slides of other
    groups, a slide can rank better for its group alone.

    Args:
        predictions: rows of every model's table, by the model's name.
        report: report of the task.
        draws: number of bootstrap draws of patients, within their group, the same for both models of a pair.
        groups: groups of the slides, or None to compare the figure over all slides.
    """
    by_slide = {name: {row["slide_id"]: row for row in rows} for name, rows in predictions.items()}

    @cache
    def figures(name: str, slides: tuple[str, ...]) -> tuple[float, NDArray[np.float64]]:
        rows = [by_slide[name][slide] for slide in slides]
        return report.compared_figures(rows, draws=draws, groups=[groups.of[slide] for slide in slides] if groups else ())

    figure, pairs = report.mean_title(groups.column if groups else ""), []
    for first, second in combinations(by_slide, 2):
        slides = _shared_slides(by_slide[first], by_slide[second])
        first_value, first_draws = figures(first, slides)
        second_value, second_draws = figures(second, slides)
        difference = paired_difference((first_value, second_value), first_draws, second_draws)
        pairs.append((first, second, figure, len(slides), difference))
    adjusted = holm(np.array([difference.p for *_, difference in pairs]))
    return [Comparison(*pair, float(p)) for pair, p in zip(pairs, adjusted, strict=True)]


def least_p_holm(n_pairs: int, draws: int) -> float:
    """Return the smallest possible adjusted p-value of the clearest of `n_pairs` pairs with so many draws."""
    return min(1.0, 2 * n_pairs / (draws + 1))


def _is_evaluated(row: Row) -> bool:
    return bool(row["label"]) and row["role"] in (Role.TEST, "")


def _shared_slides(first: Mapping[str, Row], second: Mapping[str, Row]) -> tuple[str, ...]:
    """Slides evaluated in both models; one slide per pair of bags."""
    of_bags: dict[tuple[str, str], str] = {}
    for slide in sorted(first.keys() & second.keys()):
        if _is_evaluated(first[slide]) and _is_evaluated(second[slide]):
            of_bags.setdefault((first[slide]["bag"], second[slide]["bag"]), slide)
    return tuple(of_bags.values())
