"""Who is held out by each fold, and who of the others validates. No I/O."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from wsi_mil.config import Split

SMALLEST_STRATUM_OF_TWO_FOLDS = 4
"""With three patients, one of two folds may hold two out, which leaves one patient for both training and validation."""
LEAST_TRAINING_GROUPS = 3
"""Groups that a model is trained on, at least, if whole groups validate; with fewer, patients of the training groups do."""


def least_patients(folds: int) -> int:
    """Return how many patients of a group are needed: each fold tests on one, and must leave two to train and validate on."""
    return SMALLEST_STRATUM_OF_TWO_FOLDS if folds == 2 else folds


def number_of(folds: int | str) -> int:
    """Return the number of folds; 2, the least, if it follows from the groups."""
    return folds if isinstance(folds, int) else 2


def held_out_patients(strata: Mapping[str, int], settings: Split) -> list[set[str]]:
    """Return the patients that each fold holds out, stratified; drawn `repeats` times, each time with another seed.

    Args:
        strata: stratum of each patient.
        settings: number of folds and of repeats, seed.
    """
    from sklearn.model_selection import StratifiedKFold  # imported here: it takes half a second, and reading needs it not

    patients, labels = list(strata), list(strata.values())
    draws = [StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed + r) for r in range(settings.repeats)]
    return [{patients[i] for i in held_out} for draw in draws for _, held_out in draw.split(patients, labels)]


def held_out_groups(
    strata: Mapping[str, int], group_of: Mapping[str, str], settings: Split, groups: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the groups that each fold holds out: one after the other, or stratified as well as whole groups allow.

    Args:
        strata: stratum of each patient that is not external.
        group_of: group of each patient.
        settings: number of folds and of repeats, seed.
        groups: all groups, in order; those of which no patient is left have a fold of their own with `folds: all`.
    """
    if settings.folds == "all":
        return [(group,) for group in groups]
    return [part for r in range(settings.repeats) for part in _parts(strata, group_of, settings.folds, seed=settings.seed + r)]


def validation_patients(strata: Mapping[str, int], settings: Split, fold: int) -> set[str]:
    """Return random patients that select epoch and threshold, stratified, at least one of each stratum.

    Args:
        strata: stratum of each patient that is not held out.
        settings: share of the validation part, seed.
        fold: number of the fold.
    """
    rng = np.random.default_rng([settings.seed, fold])
    validation: set[str] = set()
    for stratum in sorted(set(strata.values())):
        patients = [patient for patient, own in strata.items() if own == stratum]
        size = min(max(1, round(settings.validation * len(patients))), len(patients) - 1)
        validation |= {patients[i] for i in rng.permutation(len(patients))[:size]}
    return validation


def validation_groups(strata: Mapping[str, int], group_of: Mapping[str, str], settings: Split, fold: int) -> set[str]:
    """Return the patients of whole groups that select epoch and threshold.

    A model that is to work at a new site is best stopped by sites that it does not train on. So whole groups validate if
    `LEAST_TRAINING_GROUPS` others are left to train on, and both parts have every stratum; of the possible parts the one whose
    share of the patients is nearest to `settings.validation`.

    Returns:
        Patients; none if there are too few groups, so that patients of the training groups must validate.
    """
    groups = {group_of[patient] for patient in strata}
    n_parts = min(round(1 / settings.validation), len(groups))
    if len(groups) <= LEAST_TRAINING_GROUPS or n_parts < 2:
        return set()
    possible = []
    for part in _parts(strata, group_of, n_parts, seed=settings.seed + fold):
        validation = {patient for patient in strata if group_of[patient] in part}
        has_all = {strata[p] for p in validation} == {strata[p] for p in strata if p not in validation} == set(strata.values())
        if has_all and len(groups) - len(part) >= LEAST_TRAINING_GROUPS:
            possible.append(validation)
    return min(possible, key=lambda own: abs(len(own) / len(strata) - settings.validation), default=set())


def _parts(strata: Mapping[str, int], group_of: Mapping[str, str], n: int, *, seed: int) -> list[tuple[str, ...]]:
    """Groups of each of `n` parts, sorted; strata that fewer than `n` patients have are spread as they can be."""
    from sklearn.model_selection import StratifiedGroupKFold

    patients = sorted(strata)
    groups = np.array([group_of[patient] for patient in patients])
    labels = [strata[patient] for patient in patients]
    if max(map(labels.count, set(labels))) < n:
        labels = [0] * len(patients)  # no stratum could be in all parts, and there are at least as many patients as groups
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y")
        draw = StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(patients, labels, groups)
        return [tuple(sorted(set(groups[held_out].tolist()))) for _, held_out in draw]
