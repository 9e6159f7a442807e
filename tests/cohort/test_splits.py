from pathlib import Path

import pytest

from wsi_mil.cohort.splits import (
    Splits,
    bag_members,
    draw_splits,
    missing_strata,
    mixed_label_faults,
    n_folds,
    patients_with_several_labels,
    protocol_roles,
    read_splits,
    split_faults,
    write_splits,
)
from wsi_mil.config import Split
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.records import SHEET_ROLES, Role, SlideRow
from wsi_mil.tasks import Classes

CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
SETTINGS = Split(folds=3)


def cohort(n: int = 24) -> list[SlideRow]:
    """Slides of 3 in 4 as many patients; every fourth shares its predecessor's."""
    rows = []
    for number in range(n):
        patient = number - 2 if number % 8 >= 6 else number
        rows.append(SlideRow(f"s{number:02d}", Path("x"), label=CLASSES[number % 2], patient_id=f"p{patient:02d}"))
    return rows


def test_every_patient_is_tested_once_and_never_in_two_parts() -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    tested = [slide for fold in range(3) for slide in splits.slides(fold, Role.TEST)]
    assert sorted(tested) == [row.slide_id for row in cohort()]
    for roles in splits.roles:
        parts = {role: {splits.patients[s] for s in roles if roles[s] is role} for role in SHEET_ROLES}
        assert not parts[Role.TRAIN] & parts[Role.TEST] and not parts[Role.TRAIN] & parts[Role.VAL]
        assert not parts[Role.VAL] & parts[Role.TEST]


def test_every_part_holds_every_class() -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    for fold in range(3):
        for role in SHEET_ROLES:
            assert {splits.labels[s] for s in splits.slides(fold, role)} == set(CLASSES)


def test_the_order_of_the_sheet_changes_nothing() -> None:
    assert draw_splits(cohort()[::-1], TASK, SETTINGS).roles == draw_splits(cohort(), TASK, SETTINGS).roles


def test_class_names_whose_order_flips_change_nothing() -> None:
    renamed = [SlideRow(**{**vars(r), "label": {"normal": "z", "tumour": "a"}[r.label]}) for r in cohort()]
    assert draw_splits(renamed, Classes(("z", "a")), SETTINGS).roles == draw_splits(cohort(), TASK, SETTINGS).roles


def test_another_seed_draws_other_folds() -> None:
    assert draw_splits(cohort(), TASK, Split(folds=3, seed=1)).roles != draw_splits(cohort(), TASK, SETTINGS).roles


def test_a_fixed_split_is_kept_and_its_validation_part_drawn_from_training_patients() -> None:
    rows = [SlideRow(**{**vars(r), "split": "test" if int(r.patient_id[1:]) < 8 else "train"}) for r in cohort()]
    splits = draw_splits(rows, TASK, SETTINGS)
    assert splits.n_folds == n_folds(rows, SETTINGS) == 1
    assert splits.slides(0, Role.TEST) == [r.slide_id for r in rows if r.split == "test"]
    assert {splits.labels[s] for s in splits.slides(0, Role.VAL)} == set(CLASSES)


def test_folds_by_hand_are_kept() -> None:
    rows = [SlideRow(**{**vars(r), "fold": "AB"[int(r.patient_id[1:]) % 4 // 2]}) for r in cohort()]
    splits = draw_splits(rows, TASK, SETTINGS)
    assert splits.n_folds == 2 and splits.slides(0, Role.TEST) == [r.slide_id for r in rows if r.fold == "A"]


def test_a_hand_made_fold_whose_slides_failed_keeps_its_number() -> None:
    rows = [SlideRow(**{**vars(r), "fold": "ABC"[int(r.patient_id[1:]) % 6 // 2]}) for r in cohort()]
    left = draw_splits([r for r in rows if r.fold != "B"], TASK, SETTINGS, folds=["A", "B", "C"])
    assert left.n_folds == 3 and not left.slides(1, Role.TEST) and left.slides(2, Role.TEST)


def test_a_rare_class_is_in_every_part() -> None:
    rows = [SlideRow(f"n{i}", Path("x"), label="normal", patient_id=f"n{i}") for i in range(50)]
    rows += [SlideRow(f"t{i}", Path("x"), label="tumour", patient_id=f"t{i}") for i in range(5)]
    splits = draw_splits(rows, TASK, Split(folds=5, validation=0.1))
    for fold in range(5):
        assert all({splits.labels[s] for s in splits.slides(fold, role)} == set(CLASSES) for role in SHEET_ROLES)


def test_a_slide_is_predicted_by_the_folds_that_hold_its_patient_out_and_a_new_one_by_all() -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    fold = next(k for k in range(3) if "s00" in splits.slides(k, Role.TEST))
    assert splits.placement("s00", "p00").folds == (fold,)
    assert splits.placement("new", "p00").folds == (fold,)
    assert splits.placement("new", "nobody").folds == (0, 1, 2) and splits.placement("new", "nobody").role is None


def test_a_training_slide_of_a_fixed_split_is_shown_only_when_asked_for() -> None:
    rows = [SlideRow(**{**vars(r), "split": "test" if int(r.patient_id[1:]) < 8 else "train"}) for r in cohort()]
    splits = draw_splits(rows, TASK, SETTINGS)
    training = splits.slides(0, Role.TRAIN)[0]
    placement = splits.placement("new", splits.patients[training])
    assert placement.role is Role.TRAIN and not placement.is_shown(include_train=False) and placement.is_shown(include_train=True)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_too_few_patients_of_a_class_are_named(folds: int) -> None:
    positive = max(folds, 4) if folds == 2 else folds
    rows = [SlideRow(f"n{i}", Path("x"), label="normal", patient_id=f"n{i}") for i in range(10)]
    rows += [SlideRow(f"t{i}", Path("x"), label="tumour", patient_id=f"t{i}") for i in range(positive)]
    settings = Split(folds=folds)
    assert not split_faults(rows, TASK, settings)
    assert draw_splits(rows, TASK, settings).n_folds == folds
    assert f"class 'tumour' has {positive - 1} patients" in split_faults(rows[:-1], TASK, settings)[0]


def test_splits_written_are_read(tmp_path: Path) -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    write_splits(tmp_path / "splits.csv", splits)
    assert read_splits(tmp_path / "splits.csv") == splits


def test_splits_that_leak_a_patient_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("slide_id,patient_id,label,fold,role_0\na,p,normal,,train\nb,p,normal,0,test\n")
    with pytest.raises(StoreError, match="fold 0: patient 'p' is in both train and test; correct role_0"):
        read_splits(tmp_path / "s.csv")


def test_a_file_that_holds_no_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("slide_id,fold\na,0\n")
    with pytest.raises(StoreError, match=r"s\.csv"):
        read_splits(tmp_path / "s.csv")


def test_repeated_folds_are_other_draws_that_each_test_everybody_once() -> None:
    splits = draw_splits(cohort(), TASK, Split(folds=3, repeats=2))
    assert splits.n_folds == n_folds(cohort(), Split(folds=3, repeats=2)) == 6
    for repeat in (0, 1):
        tested = [s for k in range(3) for s in splits.slides(3 * repeat + k, Role.TEST)]
        assert sorted(tested) == [row.slide_id for row in cohort()]
    assert {tuple(splits.slides(k, Role.TEST)) for k in range(3)} != {tuple(splits.slides(k, Role.TEST)) for k in range(3, 6)}
    assert draw_splits(cohort(), TASK, Split(folds=3)).roles == splits.roles[:3]
    folds = splits.placement("s00", "p00").folds
    assert len(folds) == 2 and folds[0] < 3 <= folds[1]


def test_bags_of_patients_hold_all_their_slides() -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    by_slide, by_patient = (splits.bags(0, (Role.TRAIN, Role.VAL), unit) for unit in ("slide", "patient"))
    assert all(slides == [bag] for bag, slides in by_slide.items())
    assert sorted(s for slides in by_patient.values() for s in slides) == sorted(by_slide)
    assert all({splits.patients[s] for s in slides} == {patient} for patient, slides in by_patient.items())
    assert max(map(len, by_patient.values())) == 2 and list(by_patient) == sorted(by_patient)


def test_unlabelled_slides_of_a_labelled_patient_are_a_bag_of_their_own() -> None:
    rows = [SlideRow(name, Path("x"), label, patient) for name, label, patient in ROWS_OF_PATIENTS]
    bags = {bag: [row.slide_id for row in members] for bag, members in bag_members(rows, "patient").items()}
    assert bags == {"p": ["a", "c"], "p (no label)": ["b", "d"], "q": ["e", "f"]}
    assert list(bag_members(rows, "slide")) == ["a", "b", "c", "d", "e", "f"]


ROWS_OF_PATIENTS = [("c", "t", "p"), ("b", "", "p"), ("a", "t", "p"), ("d", "", "p"), ("f", "", "q"), ("e", "", "q")]


def test_a_patient_with_two_labels_is_no_bag() -> None:
    rows = [SlideRow("a", Path("x"), "normal", "p"), SlideRow("b", Path("x"), "tumour", "p"), SlideRow("c", Path("x"), "", "p")]
    assert mixed_label_faults(rows) == [
        "bag: patient needs one label per patient, but patient p has 'normal' (slide a), 'tumour' (slide b);"
        " correct the labels or set bag: slide"
    ]
    assert mixed_label_faults(rows[1:]) == []


def test_patients_of_several_classes_are_reported_and_counted_as_the_last() -> None:
    labels = {"a": ("tumour", "normal"), "b": ("normal", "tumour", ""), "c": ("tumour",), "d": ("normal", ""), "e": ("tumour",)}
    rows = [SlideRow(f"{p}{n}", Path("x"), label, p) for p, of in labels.items() for n, label in enumerate(of)]
    assert patients_with_several_labels(rows, TASK) == {"a": CLASSES, "b": CLASSES}
    assert patients_with_several_labels(rows, Classes(CLASSES[::-1])) == {"a": CLASSES[::-1], "b": CLASSES[::-1]}
    first, second = split_faults([row for row in rows if row.label], TASK, Split(folds=5))
    assert first.startswith("class 'normal' has 1 patient (not counting a, b, with slides of a later class too), fewer than")
    assert second.startswith("class 'tumour' has 4 patients, fewer than the 5")


def test_a_fold_that_leaves_one_patient_of_a_class_names_fold_class_and_patient() -> None:
    rows = [SlideRow(f"n{i}", Path("x"), "normal", f"n{i}", fold="xyz"[i % 3]) for i in range(9)]
    rows += [SlideRow(f"t{i}", Path("x"), "tumour", f"t{i}", fold="xyy"[i]) for i in range(3)]
    with pytest.raises(
        ValueError, match=r"^fold 'y' \(of column fold\) leaves one patient of class 'tumour', t0: two are needed"
    ):
        draw_splits(rows, TASK, SETTINGS)


def test_as_published_the_test_part_selects_and_validation_counts_as_fitted() -> None:
    assert protocol_roles("held_out") == ((Role.TRAIN,), (Role.VAL,))
    assert protocol_roles("as_published") == ((Role.TRAIN, Role.VAL), (Role.TEST,))
    splits = draw_splits(cohort(), TASK, SETTINGS)
    assert splits.as_trained("held_out") is splits
    seen = splits.as_trained("as_published")
    assert seen.slides(0, Role.TEST) == splits.slides(0, Role.TEST) and not seen.slides(0, Role.VAL)


def test_a_part_that_lacks_a_class_is_named() -> None:
    splits = draw_splits(cohort(), TASK, SETTINGS)
    roles = {s: Role.TRAIN if r is Role.VAL and splits.labels[s] == "normal" else r for s, r in splits.roles[1].items()}
    broken = Splits(splits.patients, splits.labels, (splits.roles[0], roles))
    assert missing_strata(broken, 0, TASK, "held_out") == []
    assert "fold 1 has no val slide of class 'normal'" in missing_strata(broken, 1, TASK, "held_out")[0]
    assert missing_strata(broken, 1, TASK, "as_published") == []


def test_repeats_beside_folds_by_hand_are_a_fault() -> None:
    rows = [SlideRow(**{**vars(r), "fold": "AB"[int(r.patient_id[1:]) % 4 // 2]}) for r in cohort()]
    assert "column fold fixes the folds" in split_faults(rows, TASK, Split(repeats=2))[0]
    fixed = [SlideRow(**{**vars(r), "split": "test" if int(r.patient_id[1:]) < 8 else "train"}) for r in cohort()]
    assert "column split fixes the split" in split_faults(fixed, TASK, Split(repeats=2))[0]


def test_frozen_splits_without_validation_serve_the_published_protocol_only() -> None:
    roles = {row.slide_id: Role.TEST if int(row.patient_id[1:]) < 8 else Role.TRAIN for row in cohort()}
    frozen = Splits({r.slide_id: r.patient_id for r in cohort()}, {r.slide_id: r.label for r in cohort()}, (roles,))
    usable = set(roles) - {"s00"}
    kept = frozen.restricted_to(usable, TASK, "as_published")
    assert set(kept.roles[0]) == usable
    with pytest.raises(ConfigError, match="fold 0 has no val slide of class 'normal', 'tumour'"):
        frozen.restricted_to(usable, TASK, "held_out")
