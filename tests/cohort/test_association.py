import numpy as np
import pytest

from wsi_mil.cohort.association import association, cramers_v


def groups(counts: dict[str, tuple[int, int]]) -> tuple[dict[str, str], dict[str, int]]:
    """Group and label (0 or 1) of patients, from the numbers of each label in each group."""
    patients = [
        (f"{group}{label}{i}", group, label) for group, own in counts.items() for label, n in enumerate(own) for i in range(n)
    ]
    return {p: group for p, group, _ in patients}, {p: label for p, _, label in patients}


def test_cramers_v_by_hand() -> None:
    """Of 10 and 10 patients 8 and 2 are positive: χ² = 20 · (8 · 8 - 2 · 2)² / 10⁴ = 7.2."""
    first = np.repeat([0, 1], 10)
    second = np.array([1] * 8 + [0] * 2 + [1] * 2 + [0] * 8)
    assert cramers_v(first, second) == pytest.approx(np.sqrt(7.2 / 20)) == pytest.approx(0.6)
    assert cramers_v(first, first) == pytest.approx(1)
    assert cramers_v(first, np.tile([0, 1], 10)) == pytest.approx(0)


def test_a_label_that_follows_from_the_group_is_predicted_by_it() -> None:
    found = association(*groups({"A": (12, 0), "B": (0, 9), "C": (7, 0)}))
    assert found is not None and (found.cramers_v, found.auroc) == (pytest.approx(1), 1)
    assert found.is_above_chance and found.reaches(0.95) and (found.n_patients, found.n_groups) == (28, 3)


def test_independent_groups_predict_no_label() -> None:
    found = association(*groups({"A": (12, 12), "B": (8, 8), "C": (15, 15)}))
    assert found is not None and found.cramers_v == pytest.approx(0)
    assert found.auroc < 0.55 and not found.is_above_chance and not found.reaches(0.5)


def test_a_group_of_one_patient_each_does_not_give_its_label_away() -> None:
    group_of, label_of = groups({"A": (10, 10)})
    found = association({patient: patient for patient in group_of}, label_of)
    assert found is not None and found.cramers_v == pytest.approx(1), "which is why it alone says nothing"
    assert not found.is_above_chance


def test_the_auroc_of_the_group_alone_by_hand() -> None:
    """Pairs of a positive one of A and a negative one of B are ranked rightly, 14 · 13, those of one group are tied."""
    found = association(*groups({"A": (6, 14), "B": (13, 7)}))
    assert found is not None
    assert found.auroc == pytest.approx((14 * 13 + (14 * 6 + 7 * 13) / 2) / (21 * 19))
    assert found.ci95[0] < found.auroc < found.ci95[1] and found.is_above_chance
    assert found.reaches(found.auroc) and not found.reaches(0.95)


def test_of_several_labels_each_counts_against_the_others() -> None:
    """Labels 0 and 1 lose between A and B, whose shares are equal but for the pair that is left out; they win against C."""
    group_of = {f"p{i:02d}": "AAABB"[i % 5] for i in range(20)} | {f"q{i}": "C" for i in range(6)}
    label_of = {f"p{i:02d}": i // 10 for i in range(20)} | {f"q{i}": 2 for i in range(6)}
    found = association(group_of, label_of)
    first = (6 * 6 + 4 * 6 + (6 * 6 + 4 * 4) / 2) / (10 * 16)
    assert found is not None and found.auroc == pytest.approx((2 * first + 1) / 3) and found.is_above_chance


def test_nothing_is_measured_with_one_group_or_one_label() -> None:
    assert association(*groups({"A": (5, 5)})) is None
    assert association(*groups({"A": (5, 0), "B": (5, 0)})) is None
    assert association(*groups({"A": (5, 1), "B": (5, 0)})) is None, "a label of one patient cannot be held out"
