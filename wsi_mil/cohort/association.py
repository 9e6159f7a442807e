"""How much groups such as sites say about labels: Cramér's V, and how well the group alone predicts the label. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Interval, interval95, patient_weights

DRAWS = 1000
"""Bootstrap draws of the interval."""


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

    The group alone predicts by the share of the label among the group's patients. It is cross-validated by leaving pairs out:
    of a patient with the label and one without, the one whose group has the larger share among all other patients is ranked
    higher; two of one group are tied, and a group of one patient tells nothing of that patient. Folds would rank patients of
    one group against their labels, since those that are held out are missing among the others.

    Source: A. Airola et al., Computational Statistics & Data Analysis 55 (2011) 1828-1844, leave-pair-out cross-validation.

    Args:
        group_of: group of each patient.
        stratum_of: label of each patient, as the stratum of `Task.strata`: for classes the class.

    Returns:
        None if there are not two groups, or not two labels that two patients have.
    """
    patients, groups, labels = _coded(group_of, stratum_of)
    if len(set(groups.tolist())) < 2 or len(set(labels.tolist())) < 2 or np.bincount(labels).min() < 2:
        return None
    counts = np.zeros((labels.max() + 1, groups.max() + 1))
    np.add.at(counts, (labels, groups), 1)
    wins = [_wins(counts[label], counts.sum(axis=0) - counts[label]) for label in range(len(counts))]
    members = np.array(
        [(labels == label)[:, None] & (groups[:, None] == np.arange(counts.shape[1])) for label in range(len(counts))]
    )
    drawn = np.einsum("dp,lpg->dlg", patient_weights(len(patients), draws=DRAWS), members)
    found = _auroc(counts[None], wins)[0]
    return Association(cramers_v(groups, labels), float(found), interval95(_auroc(drawn, wins)), len(patients), counts.shape[1])


def permuted_share(group_of: Mapping[str, str], positive_of: Mapping[str, int], *, draws: int) -> float:
    """Return the share of permutations of a label among patients that go together with the groups as much, by Cramér's V.

    Args:
        group_of: group of each patient.
        positive_of: 1 or 0 of each patient.
        draws: number of permutations; the observed labels count as one more.
    """
    _, groups, labels = _coded(group_of, positive_of)
    sizes, positive = np.bincount(groups), np.bincount(groups, labels)
    drawn = np.random.default_rng(0).multivariate_hypergeometric(sizes, int(positive.sum()), size=draws)
    expected = sizes * labels.mean()
    distances, observed = (((own - expected) ** 2 / sizes).sum(axis=-1) for own in (drawn, positive))  # both ∝ V²
    return float((1 + (distances >= observed * (1 - 1e-9)).sum()) / (1 + draws))


def cramers_v(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return Cramér's V of two codings `(n,)` of at least two values: 0 if independent, 1 if one follows from the other."""
    counts = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(counts, (first, second), 1)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(first)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_squared / (len(first) * (min(counts.shape) - 1))))


def _coded(group_of: Mapping[str, str], stratum_of: Mapping[str, int]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Patients that have both, in the order of their names, and numbers of their groups and labels from 0 on."""
    patients = sorted(patient for patient in stratum_of if group_of.get(patient))
    groups = np.unique([group_of[patient] for patient in patients], return_inverse=True)[1]
    return patients, groups, np.unique([stratum_of[patient] for patient in patients], return_inverse=True)[1]


def _wins(own: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """For a patient with a label in group g and one without in group h, 1 if the first is ranked higher, 0.5 if tied `(g, h)`.

    Shares are of all but these two, with one more patient of the mean share in each group. Groups are given by their numbers of
    patients with the label and without, `(n_groups,)`.
    """
    mean = (own.sum() - 1) / max(own.sum() + rest.sum() - 2, 1)
    of_first, of_second = (own - 1 + mean) / (own + rest), (own + mean) / (own + rest)
    wins = np.sign(np.round(of_first[:, None] - of_second[None, :], 12)) / 2 + 0.5
    np.fill_diagonal(wins, 0.5)
    return np.asarray(wins)


def _auroc(counts: NDArray[np.floating], wins: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """AUROC of numbers of patients `(n_draws, n_labels, n_groups)`: of two labels the last, of more the mean over labels."""
    of_labels = []
    for label in [1] if len(wins) == 2 else range(len(wins)):
        own, rest = counts[:, label], counts.sum(axis=1) - counts[:, label]
        pairs = own.sum(axis=1) * rest.sum(axis=1)
        right = np.einsum("dg,gh,dh->d", own, wins[label], rest)
        of_labels.append(right / np.where(pairs > 0, pairs, np.nan))
    return np.asarray(np.mean(of_labels, axis=0))
