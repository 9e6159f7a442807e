"""Which of several labels follows from the site, and what values and follow-up are measured in."""

from pathlib import Path

import numpy as np
import pytest

from wsi_mil.cohort.association import permuted_share
from wsi_mil.cohort.groups import group_warnings
from wsi_mil.cohort.label_association import association_text, label_association
from wsi_mil.config import Split, parse_settings
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Classes, Multilabel, Regression, Survival

SPLIT = parse_settings(Split, {"group": "site", "whole_groups": False})
SEVEN = Multilabel(tuple("ABCDEFG"))


def rows_of(labels: list[str], sites: list[str]) -> list[SlideRow]:
    """A slide of each patient, whose name begins with the site."""
    pairs = enumerate(zip(labels, sites, strict=True))
    return [SlideRow(f"s{i}", Path("x"), label, f"{site}{i:03d}", group=site) for i, (label, site) in pairs]


def seven(rng: np.random.Generator, sites: list[str], *, first: bool) -> list[str]:
    """Seven labels of each patient by chance; with `first` the first one is the site."""
    values = rng.integers(2, size=(len(sites), 7))
    if first:
        values[:, 0] = [site == "Bern" for site in sites]
    return [" ".join(map(str, own)) for own in values]


TWO_SITES = ["Bern", "Chur"] * 60


def test_of_several_labels_the_one_that_follows_from_the_site_is_found_and_named() -> None:
    rows = rows_of(seven(np.random.default_rng(0), TWO_SITES, first=True), TWO_SITES)
    found = label_association(rows, SEVEN)
    assert found is not None and (found.found.cramers_v, found.found.auroc) == (pytest.approx(1), 1)
    (text,) = [text for text in group_warnings(rows, SEVEN, SPLIT) if "together" in text]
    assert text.startswith(
        "site and label 'A' go together (Cramér's V 1.00, the strongest of 7 labels): the site alone predicts this label with"
        " AUROC 1.00 (1.00 to 1.00), so a model can seem good"
    )


def test_a_label_is_measured_over_the_patients_of_whom_it_is_known() -> None:
    labels = [
        text if i < 40 else "? " + text[2:] for i, text in enumerate(seven(np.random.default_rng(0), TWO_SITES, first=True))
    ]
    found = label_association(rows_of(labels, TWO_SITES), SEVEN)
    assert found is not None and (found.what, found.found.n_patients) == ("label 'A'", 40)
    assert found.found.cramers_v == pytest.approx(1)


def test_a_patient_is_positive_if_a_slide_is_and_one_label_is_the_strongest_of_none() -> None:
    rows = rows_of([str(int(site == "Bern")) for site in TWO_SITES], TWO_SITES)
    others = [SlideRow(f"{r.slide_id}b", r.path, "0", r.patient_id, group=r.group) for r in rows]
    found = label_association([*rows, *others], Multilabel(("A",)))
    assert found is not None and found.found.auroc == 1 and not found.detail


def test_the_strongest_of_independent_labels_is_seldom_a_warning() -> None:
    sites = [site for site in "ABCD" for _ in range(30)]
    found = [
        label_association(rows_of(seven(np.random.default_rng(seed), sites, first=False), sites), SEVEN) for seed in range(30)
    ]
    assert all(own is not None for own in found)
    assert sum(own.is_above_chance for own in found if own) <= 3


def test_labels_that_two_patients_do_not_differ_in_are_left_out() -> None:
    labels = [f"{int(i == 0)} {int(site == 'Bern')}" for i, site in enumerate(TWO_SITES)]
    found = label_association(rows_of(labels, TWO_SITES), Multilabel(("rare", "site")))
    assert found is not None and found.what == "label 'site'"
    assert label_association(rows_of(["1 ?", "0 ?"] + ["? 1"] * 118, TWO_SITES), Multilabel(("rare", "one"))) is None


def test_permutations_by_hand() -> None:
    """Of two groups of two, two positive ones are in one group in 2 of 6 cases."""
    group_of, positive_of = dict(zip("abcd", "AABB", strict=True)), dict(zip("abcd", (1, 1, 0, 0), strict=True))
    assert permuted_share(group_of, positive_of, draws=3000) == pytest.approx(1 / 3, abs=0.03)
    assert permuted_share(group_of, dict(zip("abcd", (1, 0, 1, 0), strict=True)), draws=100) == 1


def test_values_and_follow_up_are_called_so_and_the_parts_are_said() -> None:
    rng = np.random.default_rng(0)
    values = [f"{rng.normal() + 3 * (site == 'Bern'):.6f}" for site in TWO_SITES]
    of_values = label_association(rows_of(values, TWO_SITES), Regression())
    assert of_values is not None and association_text(of_values, "site").startswith("site and value go together (Cramér's V 0.")
    assert ", values in 5 parts from low to high): the site alone predicts the part with AUROC" in association_text(
        of_values, "site"
    )
    times = [f"{rng.exponential() + 3 * (site == 'Bern'):.6f} {i // 2 % 2}" for i, site in enumerate(TWO_SITES)]
    of_times = label_association(rows_of(times, TWO_SITES), Survival())
    assert of_times is not None and association_text(of_times, "site").startswith("site and follow-up go together (Cramér's V 0.")
    assert ", follow-up in 8 parts by event and time): the site alone" in association_text(of_times, "site")


def test_equal_values_of_patients_named_by_their_site_do_not_go_together_with_it() -> None:
    """Three quarters of the values are 0 at both sites, and fall into several fifths by the names of patients."""
    rng = np.random.default_rng(0)
    values = [f"{max(0.0, rng.normal() - 0.7):.6f}" for _ in TWO_SITES]
    found = label_association(rows_of(values, TWO_SITES), Regression())
    assert found is not None and found.found.cramers_v < 0.3 and not found.is_above_chance


def test_classes_are_measured_as_before() -> None:
    labels = ["tumour" if site == "Bern" else "normal" for site in TWO_SITES]
    found = label_association(rows_of(labels, TWO_SITES), Classes(("normal", "tumour")))
    assert found is not None and association_text(found, "site").startswith(
        "site and label go together (Cramér's V 1.00): the site alone predicts the label with AUROC 1.00 (1.00 to 1.00), so"
    )
