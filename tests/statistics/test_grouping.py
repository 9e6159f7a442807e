import numpy as np
import pytest

from wsi_mil.statistics import GroupEffect, group_effect


def points(n: int, k: int = 3, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, k)) * np.arange(k, 0, -1)


def own(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def test_a_share_by_hand() -> None:
    found = group_effect(np.array([[0.0], [2.0], [4.0], [6.0]]), ["a", "a", "b", "b"], own(4))
    assert found.share == pytest.approx(16 / 20) and (found.n_units, found.n_groups) == (4, 2)
    assert found.p == pytest.approx(1 / 3, abs=0.05), "of six ways to take two, two explain as much"
    assert found.least_p == pytest.approx(1 / 3)
    assert group_effect(points(5), list("aabbb"), own(5)).least_p == pytest.approx(1 / 10)
    two_of_two = group_effect(points(4), list("abab"), own(4), strata=list("nntt"))
    assert two_of_two.least_p == pytest.approx(1 / 2), "of four ways, those with a and b exchanged are the same"
    assert group_effect(points(6), list("abaabb"), own(6), strata=list("nntttt")).least_p == pytest.approx(1 / 6)
    paired = group_effect(points(10), list("ab") * 5, list(np.repeat(own(5), 2)))
    assert paired.is_paired and paired.least_p == pytest.approx(2 / 2**5)
    both = group_effect(points(8), list("aaaabbbb"), list(np.repeat(own(4), 2)), strata=list("nt") * 4)
    assert both.least_p == pytest.approx(2 / 6), "four patients take two scanners, with both of their slides"


def test_a_batch_effect_is_found_and_none_is_not_found_where_there_is_none() -> None:
    groups = ["a", "b", "b"] * 12
    shift = np.array([[20.0, -20.0, 0.0] if group == "a" else [0.0, 0.0, 0.0] for group in groups])
    there = group_effect(points(36) + shift, groups, own(36))
    assert there.share > 0.9 and there.p == 0.001
    not_there = [group_effect(points(36, seed=seed), groups, own(36)).p for seed in range(40)]
    assert 0.3 < np.mean(not_there) < 0.7 and np.mean(np.array(not_there) <= 0.1) < 0.25


def test_an_effect_on_a_weak_component_is_found_there() -> None:
    """Scanners differ on the third component alone, which holds a hundredth of the spread."""
    groups = ["a", "b"] * 15
    at = points(30) * [10, 5, 0.2]
    at[:, 2] += np.array([1.0, 0.0] * 15)
    found = group_effect(at, groups, own(30))
    assert found.share < 0.1 and found.p > 0.05
    assert found.component == 2 and found.component_share > 0.5 and found.p_component == 0.001
    chance = [group_effect(points(30, seed=s), groups, own(30)).p_component for s in range(40)]
    assert 0.3 < np.mean(chance) < 0.7


def test_chance_explains_as_many_shares_as_there_are_groups() -> None:
    found = group_effect(points(30), ["a", "b", "c"] * 10, own(30))
    assert found.chance == pytest.approx(2 / 29, abs=0.01)


def test_slides_of_a_patient_count_once() -> None:
    """Five copies of each patient's slide are no further evidence."""
    once = group_effect(points(8), list("aabbaabb"), own(8))
    copied = group_effect(np.repeat(points(8), 5, axis=0), list(np.repeat(list("aabbaabb"), 5)), list(np.repeat(own(8), 5)))
    assert copied == once


def test_patients_on_both_scanners_are_compared_with_themselves() -> None:
    patients = np.repeat(own(12), 2)
    between = np.repeat(points(12) * 50, 2, axis=0)
    shift = np.array([[3.0, 0, 0], [0, 0, 0]] * 12)
    noise = points(24, seed=3) * 0.1
    found = group_effect(between + shift + noise, ["a", "b"] * 12, list(patients))
    assert found.is_paired and (found.n_units, found.n_patients) == (24, 12) and found.share > 0.9 and found.p < 0.01
    none = group_effect(between + noise, ["a", "b"] * 12, list(patients))
    assert none.p > 0.05


def test_the_effect_of_the_label_is_not_attributed_to_the_scanner() -> None:
    """Most tumours come from one scanner, and only tumours differ."""
    labels = ["n"] * 20 + ["t"] * 20
    scanners = ["a"] * 16 + ["b"] * 4 + ["a"] * 4 + ["b"] * 16
    at = points(40) + np.array([[9.0 * (label == "t"), 0, 0] for label in labels])
    assert group_effect(at, scanners, own(40)).p < 0.01
    beside = group_effect(at, scanners, own(40), strata=labels)
    assert beside.p > 0.05 and beside.share < 0.1
    assert group_effect(at, labels, own(40), strata=scanners).p == 0.001


def of_two_labels(seed: int, *, shift: float = 0.0) -> GroupEffect:
    """Of scanners, labels held constant: patients differ, each has a tumour and a normal slide, and one scanner for both."""
    rng = np.random.default_rng(seed)
    scanners = rng.permutation(list("ab") * 8)
    at = np.repeat(rng.normal(size=(16, 3)) * 5, 2, axis=0) + rng.normal(size=(32, 3))
    at[:, 0] += shift * (np.repeat(scanners, 2) == "b")
    return group_effect(at, list(np.repeat(scanners, 2)), list(np.repeat(own(16), 2)), strata=list("nt") * 16)


def test_slides_of_a_patient_with_two_labels_count_once_for_its_scanner() -> None:
    found = [of_two_labels(seed) for seed in range(80)]
    for p in (np.array([f.p for f in found]), np.array([f.p_component for f in found])):
        assert (p <= 0.1).mean() < 0.2 and 0.4 < p.mean() < 0.6
    assert of_two_labels(0, shift=30).p < 0.01


def test_slides_scanned_twice_reveal_the_effect_of_the_scanner_given_the_label() -> None:
    labels, noise = np.repeat(list("nt") * 6, 2), points(24, seed=4) * 0.3
    shift = np.array([[4.0, 0, 0], [0, 0, 0]] * 12)
    cells = {"groups": list("ab") * 12, "patients": list(np.repeat(own(12), 2)), "strata": list(labels)}
    assert group_effect(np.repeat(points(12), 2, axis=0) + noise + shift, **cells).p < 0.01
    assert group_effect(np.repeat(points(12), 2, axis=0) + noise, **cells).p > 0.05


def test_coinciding_groups_and_strata_have_no_effect_size() -> None:
    labels = ["n"] * 5 + ["t"] * 5
    found = group_effect(points(10), labels, own(10), strata=labels)
    assert np.isnan(found.share) and np.isnan(found.p)
    assert np.isnan(group_effect(points(4), own(4), own(4)).p), "every slide a group"
