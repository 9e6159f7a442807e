"""Every model against every other on the slides that both predicted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Difference, holm, paired_difference, patient_draws
from wsi_mil.records import Role
from wsi_mil.report.kinds import Kind, Row


@dataclass(frozen=True)
class Comparison:
    """The main figure of one model less that of another.

    Attributes:
        first: name of the model that is subtracted from.
        second: name of the model that is subtracted.
        n: slides that both predicted; those that lie in one bag for both count once.
        difference: first less second.
        p_holm: its p-value, adjusted for the number of pairs.
    """

    first: str
    second: str
    n: int
    difference: Difference
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether it is unlikely to be chance at 5 %, all pairs considered."""
        return self.p_holm < 0.05


def counted(predictions: Iterable[Row]) -> list[Row]:
    """The lines that stand in the figures: labelled, never seen by their models, and the first of each bag."""
    first_of_bag: dict[str, Row] = {}
    for row in predictions:
        if _counts(row):
            first_of_bag.setdefault(row["bag"], row)
    return list(first_of_bag.values())


def compared(predictions: Mapping[str, Iterable[Row]], kind: Kind, *, draws: int) -> list[Comparison]:
    """Every pair of models, in the order in which they stand.

    Args:
        predictions: lines of every model's table, by the model's name.
        kind: of the task.
        draws: of the bootstrap over patients; both models of a pair get the same ones.
    """
    by_slide = {name: {row["slide_id"]: row for row in rows} for name, rows in predictions.items()}

    @cache
    def figures(name: str, slides: tuple[str, ...]) -> tuple[float, NDArray[np.float64]]:
        return _figures([by_slide[name][slide] for slide in slides], kind, draws)

    found = []
    for first, second in combinations(by_slide, 2):
        slides = _shared_slides(by_slide[first], by_slide[second])
        (of_first, first_drawn), (of_second, second_drawn) = figures(first, slides), figures(second, slides)
        difference = paired_difference((of_first, of_second), first_drawn, second_drawn)
        found.append((first, second, len(slides), difference))
    adjusted = holm(np.array([difference.p for *_, difference in found]))
    return [Comparison(*pair, float(p)) for pair, p in zip(found, adjusted, strict=True)]


def least_p_holm(n_pairs: int, draws: int) -> float:
    """The least adjusted p-value that so many draws can give the clearest of so many pairs."""
    return min(1.0, 2 * n_pairs / (draws + 1))


def _counts(row: Row) -> bool:
    return bool(row["label"]) and row["role"] in (Role.TEST, "")


def _shared_slides(first: Mapping[str, Row], second: Mapping[str, Row]) -> tuple[str, ...]:
    """Slides that count in both, one of those that lie in one bag in both."""
    of_bags: dict[tuple[str, str], str] = {}
    for slide in sorted(first.keys() & second.keys()):
        if _counts(first[slide]) and _counts(second[slide]):
            of_bags.setdefault((first[slide]["bag"], second[slide]["bag"]), slide)
    return tuple(of_bags.values())


def _figures(rows: list[Row], kind: Kind, draws: int) -> tuple[float, NDArray[np.float64]]:
    """The main figure of all lines, and in each draw `(draws,)`."""
    if not rows:
        return float("nan"), np.full(draws, np.nan)
    return kind.compared_figures(rows, patient_draws([row["patient_id"] for row in rows], draws=draws))
