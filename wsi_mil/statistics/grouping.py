"""Effect of a grouping (scanner, label, fold) on the variance between slides, with a permutation test. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 999
"""Number of permutations: p is at least 0.001."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class GroupEffect:
    """Variance explained by a grouping.

    Attributes:
        share: share of the squared distances of units from the mean of their stratum that is between groups: multivariate η²
            (the R² of PERMANOVA), partial η² with strata. NaN if groups and strata coincide.
        chance: mean of `share` over the permutations.
        p: share of permutations with at least this `share`, including the grouping itself; NaN as above.
        component: number, from 0, of the component of which the grouping explains most.
        component_share: share of that component that it explains.
        p_component: share of permutations that explain at least as much of any component.
        least_p: smallest possible p, given the number of different permutations.
        n_units: number of patients, or of their parts if patients are in several groups.
        n_patients: number of patients.
        n_groups: number of different groups.
        is_paired: whether groups were compared within patients.
    """

    share: float
    chance: float
    p: float
    component: int
    component_share: float
    p_component: float
    least_p: float
    n_units: int
    n_patients: int
    n_groups: int
    is_paired: bool = False


@dataclass(frozen=True)
class _Exchange:
    """Permutations of groups among units that are possible under the null hypothesis.

    Attributes:
        blocks: units `(n_rows, n_slots)`; whole rows are exchanged.
        cells: number of each unit's cell; units of one cell are exchanged.
    """

    blocks: tuple[NDArray[np.int64], ...]
    cells: NDArray[np.int64]

    def permutation(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw for each unit the unit whose group it takes; all permutations are equally likely."""
        between = np.arange(len(self.cells))
        within = np.empty(len(self.cells), np.int64)
        for block in self.blocks:
            between[block] = block[rng.permutation(len(block))]
        within[np.argsort(self.cells, kind="stable")] = np.lexsort((rng.random(len(self.cells)), self.cells))
        return between[within]

    def log_ways(self, groups: NDArray[np.int64]) -> float:
        """Logarithm of the number of different assignments of groups, which differ within a cell."""
        log_ways = sum(lgamma(n + 1) for n in np.bincount(self.cells).tolist())
        for block in self.blocks:
            identical_rows = Counter(map(tuple, groups[block].tolist())).values()
            log_ways += lgamma(len(block) + 1) - sum(lgamma(n + 1) for n in identical_rows)
        return log_ways


def group_effect(
    points: NDArray[np.float64],
    groups: Sequence[str],
    patients: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    seed: int = 0,
) -> GroupEffect:
    """Measure how much of the variance between slides groups explain, and whether this is more than chance.

    Slides of one patient are similar and count as one: a unit is the mean of a patient's slides in one group (and stratum).
    Groups are permuted among units. If most units belong to patients that are in several groups, each patient is a stratum
    of its own, so that groups are compared within patients. With strata, the units of a patient in several strata move
    together, to a patient with the same strata; and units of a patient within one stratum are exchanged.

    Source: M. J. Anderson, "A new method for non-parametric multivariate analysis of variance", Austral Ecology 26 (2001)
        32-46, for Euclidean distances.

    Args:
        points: `(n, k)`, one row per slide.
        groups: group of each slide.
        patients: patient of each slide.
        strata: stratum of each slide; their effect is removed first, and groups are permuted within them.
        seed: random seed of the permutations.
    """
    cells = list(zip(patients, strata or [""] * len(groups), groups, strict=True))
    units = sorted(set(cells))
    number = {unit: i for i, unit in enumerate(units)}
    means = _group_means(points, np.array([number[cell] for cell in cells]))
    parts = Counter(patient for patient, *_ in units)
    is_paired = strata is None and 2 * sum(parts[patient] > 1 for patient, *_ in units) > len(units)
    stratum = _codes([patient if is_paired else s for patient, s, _ in units])
    group = _codes([name for *_, name in units])
    exchange = _exchange(units, is_paired=is_paired, has_strata=strata is not None)
    observed, permuted = _explained_shares(means, group, stratum, exchange, np.random.default_rng(seed))
    strongest = int(np.argmax(observed[1:]))
    p_values = ((permuted >= observed - ROUNDING).sum(axis=0) + 1) / (PERMUTATIONS + 1)
    p_any_component = ((permuted[:, 1:].max(axis=1) >= observed[1:].max() - ROUNDING).sum() + 1) / (PERMUTATIONS + 1)
    is_defined = not np.isnan(observed[0])
    return GroupEffect(
        share=float(observed[0]),
        chance=float(permuted[:, 0].mean()),
        p=float(p_values[0]) if is_defined else float("nan"),
        component=strongest,
        component_share=float(observed[1 + strongest]),
        p_component=float(p_any_component) if is_defined else float("nan"),
        least_p=_least_p(group, stratum, exchange),
        n_units=len(units),
        n_patients=len(parts),
        n_groups=int(group.max()) + 1,
        is_paired=is_paired,
    )


def _exchange(units: Sequence[tuple[str, str, str]], *, is_paired: bool, has_strata: bool) -> _Exchange:
    """Possible exchanges of sorted units (patient, stratum, group)."""
    if is_paired:
        return _Exchange((), _codes([patient for patient, *_ in units]))
    if not has_strata:
        return _Exchange((np.arange(len(units))[:, None],), np.arange(len(units)))
    of_patient: dict[str, list[int]] = defaultdict(list)
    for number, (patient, *_) in enumerate(units):
        of_patient[patient].append(number)
    by_strata: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for numbers in of_patient.values():
        by_strata[tuple(units[number][1] for number in numbers)].append(numbers)
    pairs = sorted({unit[:2] for unit in units})
    code = {pair: number for number, pair in enumerate(pairs)}
    return _Exchange(tuple(np.array(rows) for rows in by_strata.values()), np.array([code[unit[:2]] for unit in units]))


def _explained_shares(
    points: NDArray[np.float64],
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    exchange: _Exchange,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Explained shares of all components together and of each: observed `(1 + k,)`, and permuted `(PERMUTATIONS, 1 + k)`.

    Permuting groups permutes the rows of their basis, which is computed once.
    """
    centred = points - _group_means(points, strata)[strata]
    indicator = np.eye(groups.max() + 1)[groups]
    indicator -= _group_means(indicator, strata)[strata]
    left, singular, _ = np.linalg.svd(indicator, full_matrices=False)
    basis = left[:, singular > ROUNDING * len(groups)]
    squares = (centred**2).sum(axis=0)
    n_free = len(groups) - (strata.max() + 1)
    if not basis.shape[1] or not squares.any() or basis.shape[1] >= n_free:
        return np.full(1 + len(squares), np.nan), np.full((PERMUTATIONS, 1 + len(squares)), np.nan)
    totals = np.append(squares.sum(), np.where(squares > 0, squares, np.inf))

    def shares(order: NDArray[np.int64]) -> NDArray[np.float64]:
        between = ((basis[order].T @ centred) ** 2).sum(axis=0)
        return np.asarray(np.append(between.sum(), between) / totals)

    permuted = np.array([shares(exchange.permutation(rng)) for _ in range(PERMUTATIONS)])
    return shares(np.arange(len(groups))), permuted


def _least_p(groups: NDArray[np.int64], strata: NDArray[np.int64], exchange: _Exchange) -> float:
    """Inverse of the number of different permutations, where groups of equal sizes in every stratum are interchangeable."""
    sizes = np.zeros((groups.max() + 1, strata.max() + 1), np.int64)
    np.add.at(sizes, (groups, strata), 1)
    names = sum(lgamma(n + 1) for n in Counter(map(tuple, sizes.tolist())).values())
    return min(1.0, max(1 / (PERMUTATIONS + 1), exp(names - exchange.log_ways(groups))))


def _group_means(points: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each group's rows `(n_groups, k)`."""
    sums = np.zeros((groups.max() + 1, points.shape[1]))
    np.add.at(sums, groups, points)
    return np.asarray(sums / np.bincount(groups)[:, None])


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
