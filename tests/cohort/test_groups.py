from pathlib import Path

import pytest

from wsi_mil.cohort.groups import external_faults, fold_titles, group_faults, group_warnings, whole_group_faults, with_external
from wsi_mil.cohort.splits import Splits, draw_splits, fold_names, n_folds, read_splits, write_splits
from wsi_mil.config import Split, parse_settings
from wsi_mil.errors import ConfigError
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Classes, Regression

TASK = Classes(("normal", "tumour"))
SIZES = {"A": (5, 3), "B": (2, 6), "C": (4, 4), "D": (7, 3), "E": (3, 2)}
"""Normal patients and tumour patients of each site."""


def cohort(sizes: dict[str, tuple[int, int]] = SIZES) -> list[SlideRow]:
    """A slide of each patient, and of every third another one."""
    rows = []
    for site, counts in sizes.items():
        labels = [name for name, n in zip(TASK.names, counts, strict=True) for _ in range(n)]
        for i, label in enumerate(labels):
            for slide in range(1 + (i % 3 == 0)):
                rows.append(SlideRow(f"{site}{i}-{slide}", Path("x"), label=label, patient_id=f"{site}{i}", group=site))
    return rows


def by_site(**settings: object) -> Split:
    return parse_settings(Split, {"group": "site", "folds": "all", **settings})


def sites_of(splits: Splits, fold: int, role: Role) -> set[str]:
    return {slide[0] for slide in splits.slides(fold, role)}


def test_each_group_is_held_out_once_and_is_in_no_other_part_then() -> None:
    splits = draw_splits(cohort(), TASK, by_site())
    assert splits.n_folds == n_folds(cohort(), by_site()) == 5
    for fold, site in enumerate("ABCDE"):
        assert sites_of(splits, fold, Role.TEST) == {site}
        assert site not in sites_of(splits, fold, Role.TRAIN) | sites_of(splits, fold, Role.VAL)


def test_whole_groups_validate_if_three_others_are_left_to_train_on() -> None:
    splits = draw_splits(cohort(), TASK, by_site())
    for fold in range(5):
        training, validation = sites_of(splits, fold, Role.TRAIN), sites_of(splits, fold, Role.VAL)
        assert validation and not training & validation and len(training) >= 3
        assert all({splits.labels[s] for s in splits.slides(fold, role)} == set(TASK.names) for role in (Role.TRAIN, Role.VAL))


def test_patients_of_the_training_groups_validate_if_there_are_too_few_groups() -> None:
    splits = draw_splits(cohort({site: SIZES[site] for site in "ABCD"}), TASK, by_site())
    for fold in range(4):
        assert sites_of(splits, fold, Role.TRAIN) == sites_of(splits, fold, Role.TRAIN) | sites_of(splits, fold, Role.VAL)
        assert len(splits.slides(fold, Role.VAL)) < len(splits.slides(fold, Role.TRAIN))


def test_a_group_without_a_class_does_not_validate_by_itself() -> None:
    sizes = {**SIZES, "A": (0, 8), "B": (8, 0)}
    splits = draw_splits(cohort(sizes), TASK, by_site(validation=0.25))
    for fold in range(5):
        assert sites_of(splits, fold, Role.VAL) not in ({"A"}, {"B"})


def test_few_folds_hold_out_whole_groups_with_every_class() -> None:
    settings = by_site(folds=2)
    splits = draw_splits(cohort(), TASK, settings)
    parts = [sites_of(splits, fold, Role.TEST) for fold in range(2)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set("ABCDE")
    assert all({splits.labels[s] for s in splits.slides(fold, Role.TEST)} == set(TASK.names) for fold in range(2))
    assert fold_titles(cohort(), TASK, settings)[0].startswith("fold 0 (without site ")


def test_repeats_divide_the_groups_differently() -> None:
    many = {f"{letter}": (3, 3) for letter in "ABCDEFGHIJ"}
    splits = draw_splits(cohort(many), TASK, by_site(folds=2, repeats=3))
    assert splits.n_folds == 6
    assert len({frozenset(sites_of(splits, fold, Role.TEST)) for fold in range(6)}) > 2


def test_the_order_of_the_sheet_changes_no_split_by_groups() -> None:
    for settings in (by_site(), by_site(folds=3)):
        assert draw_splits(cohort()[::-1], TASK, settings).roles == draw_splits(cohort(), TASK, settings).roles


def test_an_external_group_is_in_no_part_and_predicted_by_all_folds(tmp_path: Path) -> None:
    for settings in (by_site(external=["B"]), by_site(folds=3, external=["B"], whole_groups=False)):
        splits = draw_splits(cohort(), TASK, settings)
        write_splits(tmp_path / "s.csv", splits)
        assert read_splits(tmp_path / "s.csv") == splits
        for roles in splits.roles:
            assert {role for slide, role in roles.items() if slide[0] == "B"} == {Role.EXTERNAL}
            assert Role.EXTERNAL not in {role for slide, role in roles.items() if slide[0] != "B"}
        placement = splits.placement("B0-0", "B0")
        assert (placement.folds, placement.role) == (tuple(range(splits.n_folds)), Role.EXTERNAL)
        assert splits.as_trained("as_published").placement("B0-0", "B0").role is Role.EXTERNAL


def test_groups_that_are_only_compared_are_divided_like_any_patients() -> None:
    apart = draw_splits(cohort(), TASK, by_site(folds=3, whole_groups=False))
    assert apart.roles == draw_splits(cohort(), TASK, Split(folds=3)).roles


def test_a_group_all_of_whose_slides_failed_keeps_its_fold() -> None:
    left = [row for row in cohort() if row.group != "B"]
    splits = draw_splits(left, TASK, by_site(), folds=fold_names(cohort(), by_site()))
    assert splits.n_folds == 5 and not splits.slides(1, Role.TEST) and sites_of(splits, 2, Role.TEST) == {"C"}


def test_numbers_are_split_by_groups_too() -> None:
    task = Regression("none")
    rows = [
        SlideRow(r.slide_id, r.path, label=str(k % 7), patient_id=r.patient_id, group=r.group) for k, r in enumerate(cohort())
    ]
    rows = [row for row in rows if row.slide_id.endswith("-0")]
    splits = draw_splits(rows, task, by_site(folds=3))
    assert not group_faults(rows, task, by_site(folds=3))
    assert {site for fold in range(3) for site in sites_of(splits, fold, Role.TEST)} == set("ABCDE")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"folds": "all"}, "folds: all holds out one group after the other: name the column"),
        ({"external": ["A"]}, "external names A: name the column of the groups"),
        ({"folds": "all", "group": "site", "whole_groups": False}, "folds: all holds out whole groups: set whole_groups: true"),
        ({"folds": "all", "group": "site", "repeats": 2}, "folds: all is the same whatever the seed: remove repeats: 2"),
        ({"folds": 5, "group": "site", "external": ["A", "A"]}, "external must name different groups"),
        ({"folds": "alle", "group": "site"}, "folds: expected a number of folds from 2 to 50, or all, got 'alle'"),
        ({"group": "patient_id"}, "group: patient_id says which slide or patient it is, or where it is used: name a column of"),
        ({"group": "path", "folds": "all"}, "group: path says which slide"),
        ({"folds": 1}, "folds: expected a number of folds from 2 to 50, or all, got 1"),
    ],
)
def test_settings_that_contradict_each_other_are_named(values: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_settings(Split, values)
    (found,) = error.value.faults
    assert fault in found


@pytest.mark.parametrize(
    ("sizes", "settings", "fault"),
    [
        (SIZES, {"folds": 6}, "split.folds is 6, but column site has 5 groups (A, B, C, D, E): use at most 5, or folds: all"),
        ({"A": (4, 4)}, {}, "column site has only one value, 'A': at least two groups are needed"),
        ({"A": (4, 4), "B": (4, 4)}, {"external": ["B"]}, "column site has only one value besides split.external, 'A'"),
        ({"A": (4, 4)}, {"external": ["A"]}, "column site has no value besides split.external"),
        (
            {"A": (4, 0), "B": (0, 4), "C": (5, 0)},
            {},
            "fold 1 holds out site 'B', which leaves no patient of class 'tumour', and two are needed",
        ),
        (
            {"A": (4, 1), "B": (4, 4), "C": (5, 0)},
            {},
            "fold 1 holds out site 'B', which leaves only one patient of class 'tumour' (A4), and two are needed",
        ),
    ],
)
def test_groups_that_cannot_be_split_are_one_sentence(
    sizes: dict[str, tuple[int, int]], settings: dict[str, object], fault: str
) -> None:
    (found,) = group_faults(cohort(sizes), TASK, by_site(**settings))
    assert fault in found


def test_all_folds_that_lose_a_class_are_named_at_once() -> None:
    found = group_faults(cohort({"A": (4, 0), "B": (0, 4)}), TASK, by_site())
    assert [f"fold {k} holds out site {name!r}" in text for k, (name, text) in enumerate(zip("AB", found, strict=True))] == [
        True
    ] * 2


def test_a_group_without_a_class_is_said_and_still_held_out() -> None:
    rows = cohort({**SIZES, "B": (6, 0)})
    assert not group_faults(rows, TASK, by_site())
    assert "site 'B' has no slide of class 'tumour': there is no AUROC of it alone" in group_warnings(rows, TASK, by_site())


def test_groups_of_one_patient_each_are_one_sentence_and_several_without_a_class_one_warning() -> None:
    rows = [SlideRow(**{**vars(row), "group": row.patient_id}) for row in cohort()]
    (fault,) = group_faults(rows, TASK, by_site(folds=3))
    assert fault.startswith("column site has 39 groups, each of one patient only: name a column of groups of several patients")
    rows = cohort({**SIZES, "B": (6, 0), "D": (9, 0)})
    assert "site 'B', 'D' have no slide of class 'tumour': there is no AUROC of each alone" in group_warnings(
        rows, TASK, by_site()
    )


def test_columns_that_fix_the_parts_contradict_groups() -> None:
    rows = [SlideRow(**{**vars(row), "fold": "x" if row.group < "C" else "y"}) for row in cohort()]
    (found,) = group_faults(rows, TASK, by_site())
    assert found.startswith("split.group is 'site', but column fold says who is held out: remove one of them")
    assert not group_faults(rows, TASK, by_site(folds=2, whole_groups=False))


def test_an_external_group_that_no_slide_has_is_named_with_the_nearest() -> None:
    (found,) = external_faults(cohort({"Basel": (4, 4), "Bern": (4, 4)}), by_site(external=["Basle"]))
    assert found == "split.external: no labelled slide has site 'Basle'; did you mean 'Basel'?"


def test_given_splits_that_divide_a_group_are_named() -> None:
    rows = cohort()
    by_patient = draw_splits(rows, TASK, Split(folds=3))
    divided = whole_group_faults(by_patient, rows, by_site())
    assert len(divided) == 3 and "fold 0 tests and trains on slides of site A, B" in divided[0]
    assert not whole_group_faults(by_patient, rows, by_site(folds=3, whole_groups=False))
    assert not whole_group_faults(draw_splits(rows, TASK, by_site()), rows, by_site())
    used = whole_group_faults(by_patient, rows, by_site(folds=3, whole_groups=False, external=["D"]))
    assert "has slides of site D in its parts, which split.external names" in used[0]


def test_given_splits_that_lack_an_external_group_have_it_as_external() -> None:
    rows = cohort()
    inner = [row for row in rows if row.group != "B"]
    given = draw_splits(inner, TASK, by_site())
    extended = with_external(given, rows, by_site(external=["B"]))
    assert sites_of(extended, 0, Role.EXTERNAL) == {"B"} and extended.placement("B0-0", "B0").role is Role.EXTERNAL
    assert all({s: roles[s] for s in given.patients} == of for roles, of in zip(extended.roles, given.roles, strict=True))
    assert extended == draw_splits(rows, TASK, by_site(external=["B"]))
    unlabelled = [SlideRow(**{**vars(row), "label": ""}) for row in rows]
    assert with_external(given, unlabelled, by_site(external=["B"])) == given
    assert with_external(given, rows, by_site()) == given, "new slides of other groups are new patients"
