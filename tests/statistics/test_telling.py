import numpy as np
import pytest

from wsi_mil.statistics import telling

GROUPS = ["A"] * 14 + ["B"] * 9 + ["C"] * 17
PATIENTS = [f"p{i:02d}" for i in range(40)]
POINTS = np.random.default_rng(4).normal(size=(40, 6))
OFFSETS = {"A": [4, 0, 0, 0, 0, 0], "B": [0, 4, 0, 0, 0, 0], "C": [0, 0, 0, 0, 4, 0]}


def test_groups_with_other_means_are_told_apart() -> None:
    points = POINTS + np.array([OFFSETS[group] for group in GROUPS])
    found = telling(points, GROUPS, PATIENTS)
    assert found is not None and found.auroc == pytest.approx(1, abs=0.01) and found.balanced_accuracy > 0.95
    assert (found.n_groups, found.n_patients, found.left_out) == (3, 40, ())


def test_groups_with_the_same_distribution_are_not_told_apart() -> None:
    found = telling(POINTS, GROUPS, PATIENTS)
    assert found is not None and found.ci95[0] < 0.5 < found.ci95[1]


def test_slides_of_one_patient_do_not_tell_its_group() -> None:
    """Each patient has a place of its own: with patients in both parts, their slides would give the group away."""
    points = np.repeat(np.random.default_rng(1).normal(size=(20, 6)) * 10, 2, axis=0)
    patients = [f"p{i // 2:02d}" for i in range(40)]
    found = telling(points, [("A", "B")[i // 2 % 2] for i in range(40)], patients)
    assert found is not None and found.n_patients == 20 and found.ci95[0] < 0.5


def test_a_group_of_one_patient_is_left_out_and_named() -> None:
    found = telling(POINTS, ["Z", *GROUPS[1:]], PATIENTS)
    assert found is not None and found.left_out == ("Z",) and (found.n_groups, found.n_patients) == (3, 39)
    assert telling(POINTS[:3], ["A", "A", "B"], PATIENTS[:3]) is None
