"""How much of the spread between slides goes with a grouping of them: scanner, label, fold. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma

import numpy as np
from numpy.typing import NDArray

DRAWS = 999
"""Permutations: p is 0.001 at least."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Explained:
    """What a grouping explains.

    Attributes:
        share: of the squared distances of units from their stratum's mean, that between groups; multivariate η² (the R² of
            PERMANOVA), partial where there are strata. NaN where groups and strata are the same.
        chance: mean of it over the permutations.
        p: share of permutations that explain as much, the grouping itself counted among them; NaN as above.
        component: number, from 0, of the component of which it explains most.
        component_share: how much of that one.
        p_component: share of permutations that explain as much of any component.
        least_p: no p can be smaller, since there are only so many ways to permute so few units.
        n_units: patients, or their parts where patients lie in several groups.
        n_patients: patients.
        n_groups: different groups.
        is_paired: whether patients were compared with themselves.
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
    """Which units may take each other's groups, if groups mean nothing.

    Attributes:
        blocks: units `(n_rows, n_slots)`; whole rows change places.
        cells: of each unit, a number; units of one change places.
    """

    blocks: tuple[NDArray[np.int64], ...]
    cells: NDArray[np.int64]

    def drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """For each unit the one whose group it takes; all ways are equally likely."""
        moved, mixed = np.arange(len(self.cells)), np.empty(len(self.cells), np.int64)
        for block in self.blocks:
            moved[block] = block[rng.permutation(len(block))]
        mixed[np.argsort(self.cells, kind="stable")] = np.lexsort((rng.random(len(self.cells)), self.cells))
        return moved[mixed]

    def log_ways(self, groups: NDArray[np.int64]) -> float:
        """Logarithm of the number of ways to lay out groups, which differ within a cell."""
        found = sum(lgamma(n + 1) for n in np.bincount(self.cells).tolist())
        for block in self.blocks:
            alike = Counter(map(tuple, groups[block].tolist())).values()
            found += lgamma(len(block) + 1) - sum(lgamma(n + 1) for n in alike)
        return found


def explained(
    points: NDArray[np.float64],
    groups: Sequence[str],
    patients: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    seed: int = 0,
) -> Explained:
    """How much groups explain of where slides lie, and whether chance would explain as much.

    Slides of one patient are alike, and count as one: a unit is the mean of a patient's slides in one group (and stratum).
    Groups are permuted among units. Where most units are of patients that lie in several groups, each patient is a stratum
    of its own, so that groups are compared within patients. With strata, what a patient has in several of them moves
    together, to a patient that lies in the same ones; and a patient's units of one stratum change places.

    Source: M. J. Anderson, "A new method for non-parametric multivariate analysis of variance", Austral Ecology 26 (2001)
        32-46, for Euclidean distances.

    Args:
        points: `(n, k)`, one a slide.
        groups: of each slide.
        patients: of each slide.
        strata: of each slide; what they explain is taken out first, and groups are permuted within them.
        seed: of the permutations.
    """
    cells = list(zip(patients, strata or [""] * len(groups), groups, strict=True))
    units = sorted(set(cells))
    number = {unit: i for i, unit in enumerate(units)}
    means = _group_means(points, np.array([number[cell] for cell in cells]))
    parts = Counter(patient for patient, *_ in units)
    is_paired = strata is None and 2 * sum(parts[patient] > 1 for patient, *_ in units) > len(units)
    stratum = _codes([patient if is_paired else s for patient, s, _ in units])
    of_group = _codes([group for *_, group in units])
    exchange = _exchange(units, is_paired=is_paired, has_strata=strata is not None)
    own, drawn = _permuted(means, of_group, stratum, exchange, np.random.default_rng(seed))
    strongest, as_much = int(np.argmax(own[1:])), ((drawn >= own - ROUNDING).sum(axis=0) + 1) / (DRAWS + 1)
    of_any = ((drawn[:, 1:].max(axis=1) >= own[1:].max() - ROUNDING).sum() + 1) / (DRAWS + 1)
    is_defined = not np.isnan(own[0])
    return Explained(
        share=float(own[0]),
        chance=float(drawn[:, 0].mean()),
        p=float(as_much[0]) if is_defined else float("nan"),
        component=strongest,
        component_share=float(own[1 + strongest]),
        p_component=float(of_any) if is_defined else float("nan"),
        least_p=_least_p(of_group, stratum, exchange),
        n_units=len(units),
        n_patients=len(parts),
        n_groups=int(of_group.max()) + 1,
        is_paired=is_paired,
    )


def _exchange(units: Sequence[tuple[str, str, str]], *, is_paired: bool, has_strata: bool) -> _Exchange:
    """Of units (patient, stratum, group), sorted."""
    if is_paired:
        return _Exchange((), _codes([patient for patient, *_ in units]))
    if not has_strata:
        return _Exchange((np.arange(len(units))[:, None],), np.arange(len(units)))
    of_patient: dict[str, list[int]] = defaultdict(list)
    for number, (patient, *_) in enumerate(units):
        of_patient[patient].append(number)
    alike: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for numbers in of_patient.values():
        alike[tuple(units[number][1] for number in numbers)].append(numbers)
    pairs = sorted({unit[:2] for unit in units})
    code = {pair: number for number, pair in enumerate(pairs)}
    return _Exchange(tuple(np.array(rows) for rows in alike.values()), np.array([code[unit[:2]] for unit in units]))


def _permuted(
    points: NDArray[np.float64],
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    exchange: _Exchange,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares explained of all components together and of each, `(1 + k,)`, and of permuted groups `(DRAWS, 1 + k)`.

    Permuting groups permutes the rows of their basis, which is made once.
    """
    centred = points - _group_means(points, strata)[strata]
    indicator = np.eye(groups.max() + 1)[groups]
    indicator -= _group_means(indicator, strata)[strata]
    left, singular, _ = np.linalg.svd(indicator, full_matrices=False)
    basis = left[:, singular > ROUNDING * len(groups)]
    squares, n_free = (centred**2).sum(axis=0), len(groups) - (strata.max() + 1)
    if not basis.shape[1] or not squares.any() or basis.shape[1] >= n_free:
        return np.full(1 + len(squares), np.nan), np.full((DRAWS, 1 + len(squares)), np.nan)
    totals = np.append(squares.sum(), np.where(squares > 0, squares, np.inf))

    def shares(order: NDArray[np.int64]) -> NDArray[np.float64]:
        between = ((basis[order].T @ centred) ** 2).sum(axis=0)
        return np.asarray(np.append(between.sum(), between) / totals)

    drawn = np.array([shares(exchange.drawn(rng)) for _ in range(DRAWS)])
    return shares(np.arange(len(groups))), drawn


def _least_p(groups: NDArray[np.int64], strata: NDArray[np.int64], exchange: _Exchange) -> float:
    """One over the number of ways to permute groups that differ: groups that are as large in every stratum can change names."""
    sizes = np.zeros((groups.max() + 1, strata.max() + 1), np.int64)
    np.add.at(sizes, (groups, strata), 1)
    names = sum(lgamma(n + 1) for n in Counter(map(tuple, sizes.tolist())).values())
    return min(1.0, max(1 / (DRAWS + 1), exp(names - exchange.log_ways(groups))))


def _group_means(points: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each group's rows `(n_groups, k)`."""
    sums = np.zeros((groups.max() + 1, points.shape[1]))
    np.add.at(sums, groups, points)
    return np.asarray(sums / np.bincount(groups)[:, None])


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
