"""How well the group of a patient, such as the site, can be told from mean features. No I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Interval, accuracies, auroc, interval95, patient_draws
from wsi_mil.tasks import mean_by_patient

FOLDS, DRAWS = 5, 500


@dataclass(frozen=True)
class Telling:
    """How well groups are told apart.

    Attributes:
        auroc: AUROC of the group, the mean over groups of one against the rest.
        ci95: its 95 % interval over bootstrap draws of patients.
        balanced_accuracy: mean over groups of the share of their patients that are assigned to them.
        n_groups: number of groups.
        n_patients: number of patients.
        left_out: groups of a single patient.
    """

    auroc: float
    ci95: Interval
    balanced_accuracy: float
    n_groups: int
    n_patients: int
    left_out: tuple[str, ...]


def telling(points: NDArray[np.floating], groups: Sequence[str], patients: Sequence[str]) -> Telling | None:
    """Predict the group of patients from their mean features, cross-validated by patient.

    A logistic regression on standardised features, with scikit-learn's default penalty and groups of equal weight.

    Args:
        points: `(n, d)` mean features of each slide.
        groups: group of each slide.
        patients: patient of each slide, who is in one group.

    Returns:
        None if there are not two groups of two patients.
    """
    group_of = dict(zip(patients, groups, strict=True))
    sizes = Counter(group_of.values())
    kept = [i for i, group in enumerate(groups) if sizes[group] > 1]
    names = sorted(patient for patient, group in group_of.items() if sizes[group] > 1)
    truth = np.unique([group_of[patient] for patient in names], return_inverse=True)[1] if names else np.empty(0, np.int64)
    if len(set(truth.tolist())) < 2:
        return None
    means = mean_by_patient(np.asarray(points, np.float64)[kept], [patients[i] for i in kept])
    probs = _held_out_probs(means, truth)
    n_groups = probs.shape[1]
    drawn = np.array([auroc(truth[rows], probs[rows]) for rows in patient_draws(names, draws=DRAWS)])
    balanced = accuracies(truth, probs.argmax(axis=1), n_groups)["balanced_accuracy"]
    left_out = tuple(sorted(group for group, n in sizes.items() if n == 1))
    return Telling(auroc(truth, probs), interval95(drawn), balanced, n_groups, len(names), left_out)


def _held_out_probs(points: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each group `(n, n_groups)` by models that did not see the patient."""
    from sklearn.linear_model import LogisticRegression  # imported here: it takes half a second
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    folds = StratifiedKFold(min(FOLDS, int(np.bincount(truth).min())), shuffle=True, random_state=0)
    return np.asarray(cross_val_predict(model, points, truth, cv=folds, method="predict_proba"))
