"""How much groups such as sites say about labels: Cramér's V, and how well the group alone predicts the label. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Interval, auroc, interval95, patient_draws

FOLDS, REPEATS, DRAWS = 5, 10, 500
"""Folds of patients, repetitions with other folds that are averaged, and bootstrap draws of the interval."""


@dataclass(frozen=True)
class Association:
    """Association of groups and labels over patients.

    Attributes:
        cramers_v: Cramér's V of groups and labels, from 0 (independent) to 1 (one follows from the other).
        auroc: AUROC of the label predicted from the group alone, cross-validated by patient.
        ci95: its 95 % interval over bootstrap draws of patients.
        n_patients: number of patients.
        n_groups: number of groups.
    """

    cramers_v: float
    auroc: float
    ci95: Interval
    n_patients: int
    n_groups: int

    @property
    def is_above_chance(self) -> bool:
        """Whether the group alone predicts the label better than chance, by the interval."""
        return self.ci95[0] > 0.5

    def reaches(self, figure: float) -> bool:
        """Return whether the group alone predicts the label as well as a model with this AUROC, as far as can be told."""
        return self.is_above_chance and self.ci95[1] >= figure


def association(group_of: Mapping[str, str], stratum_of: Mapping[str, int]) -> Association | None:
    """Return the association of groups with labels.

    The group alone predicts by the shares of labels among the other folds' patients of the group, so a group of one patient
    tells nothing of that patient, and independent groups do not reach more than 0.5.

    Args:
        group_of: group of each patient.
        stratum_of: label of each patient, as the stratum of `Task.strata`: for classes the class.

    Returns:
        None if there are not two groups, or not two labels that two patients have.
    """
    patients = sorted(patient for patient in stratum_of if group_of.get(patient))
    groups = np.unique([group_of[patient] for patient in patients], return_inverse=True)[1]
    labels = np.unique([stratum_of[patient] for patient in patients], return_inverse=True)[1]
    if len(set(groups.tolist())) < 2 or len(set(labels.tolist())) < 2 or np.bincount(labels).min() < 2:
        return None
    probs = _by_group_alone(groups, labels)
    drawn = np.array([auroc(labels[rows], probs[rows]) for rows in patient_draws(patients, draws=DRAWS)])
    n_groups = int(groups.max()) + 1
    return Association(cramers_v(groups, labels), auroc(labels, probs), interval95(drawn), len(patients), n_groups)


def cramers_v(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return Cramér's V of two codings `(n,)` of at least two values: 0 if independent, 1 if one follows from the other."""
    counts = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(counts, (first, second), 1)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(first)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_squared / (len(first) * (min(counts.shape) - 1))))


def _by_group_alone(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each label `(n, n_labels)` by the other folds' patients of the group, and one patient like their mean."""
    from sklearn.model_selection import StratifiedKFold  # imported here: it takes half a second

    n_folds = min(FOLDS, int(np.bincount(labels).min()))
    total = np.zeros((len(labels), labels.max() + 1))
    for repeat in range(REPEATS):
        for rest, held_out in StratifiedKFold(n_folds, shuffle=True, random_state=repeat).split(labels, labels):
            counts = np.zeros((groups.max() + 1, labels.max() + 1))
            np.add.at(counts, (groups[rest], labels[rest]), 1)
            shares = np.bincount(labels[rest], minlength=counts.shape[1]) / len(rest)
            of_group = (counts + shares) / (counts.sum(axis=1, keepdims=True) + 1)
            total[held_out] += of_group[groups[held_out]]
    return total / REPEATS
