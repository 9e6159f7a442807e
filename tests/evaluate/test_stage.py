import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_geojson
from wsi_mil.config import Predict, Truth
from wsi_mil.errors import StoreError
from wsi_mil.evaluate import Sources, evaluate_cohort
from wsi_mil.receipts import write_receipt
from wsi_mil.records import InstanceScores, SlideRow
from wsi_mil.store import write_scores
from wsi_mil.tasks import Classes, Multilabel, Regression, Survival, Task

CLASSES = ("normal", "tumour")
BOX = (64, 32)
COORDS = np.array([[x, y] for y in (0, 32, 64) for x in (0, 64, 128, 192)])
"""Twelve tiles that cover a slide of 256 × 96, row by row."""
RANDOM = {
    **{"random_deletion_area": 0.5, "random_insertion_area": 0.5},
    **{"shares": [0.0, 0.25, 1.0], "deletion": [0.9, 0.4, 0.1], "insertion": [0.1, 0.8, 0.9], "random_deletion": [0.9, 0.6, 0.2]},
}


def evidence(**hot: float) -> np.ndarray:
    """Scores of zero but for tiles that are named by their number, `t5=2.0`."""
    values = np.zeros(12, np.float32)
    for name, value in hot.items():
        values[int(name[1:])] = value
    return values


NOTHING = np.full(12, np.nan, np.float32)


class Cohort:
    """A folder with the output of `explain`, `explain-validation` and `tile`, and the sheet's rows."""

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, []

    def add(
        self, slide_id: str, label: str, truth: tuple[int, int, int, int] | None = None, *, patient: str = "", **about
    ) -> None:
        """Add a slide with an annotated box; `about` has the scores of its methods, and changes of its receipt."""
        annotation = None if truth is None else write_geojson(self.folder / f"{slide_id}.geojson", truth)
        self.rows.append(SlideRow(slide_id, Path("gone.svs"), label, patient or slide_id, annotation=annotation))
        write_receipt(self.folder / "tiles" / f"{slide_id}.json", {"dimensions": [256, 96], "bounds": None})
        write_receipt(self.folder / "scores" / f"{slide_id}.json", self.scored("scores", slide_id, **about))

    def scored(self, folder: str, slide_id: str, **about) -> dict[str, object]:
        """Write a store and return its receipt; the probability of the last class is 1 unless given as `probs`."""
        methods = {name: about.pop(name) for name in list(about) if isinstance(about[name], np.ndarray)}
        curves = about.pop("curves", {})
        scores = [InstanceScores(n, v, kind="", unit="log_odds", comparable=True) for n, v in methods.items()]
        write_scores(self.folder / folder / f"{slide_id}.zarr", COORDS, scores, {})
        entry = {"unit": "log_odds", "zero": 0.0, "comparable": True, "comparable_weighed": True, "reason": ""}
        entry["output"] = about.get("output", 1)
        each = {s.method: {**entry, **curves.get(s.method, {})} for s in scores}
        receipt = {
            "methods": each,
            "probs": [0.0, 1.0],
            "output": 1,
            **Classes(CLASSES).stamp(),
            "bag_instances": 12,
        }
        receipt |= {
            "bag": slide_id,
            "predicted": 1,
            "n_instances": 12,
            "tile_px_level0": list(BOX),
            "role": "test",
            "folds": [0],
            "protocol": "held_out",
        }
        return receipt | about

    def validate(self, fold: int, slides: dict[str, np.ndarray], **about) -> None:
        """Write the output of `explain-validation` for a fold, with one method; `about` changes receipts."""
        found = {
            name: self.scored(f"validation/fold-{fold}", name, evidence=v, role="val", folds=[fold], **about)
            for name, v in slides.items()
        }
        write_receipt(self.folder / "validation" / f"fold-{fold}.json", {"fold": fold, "slides": found})

    def evaluate(self, classes: tuple[str, ...] = CLASSES, *, validation: bool = False, draws: int = 200, **truth) -> dict:
        """Run the stage for classes and return its figures."""
        return self.evaluate_for(Classes(classes), validation=validation, draws=draws, **truth)

    def evaluate_for(self, task: Task, *, validation: bool = False, draws: int = 200, **truth) -> dict:
        """Run the stage and return its figures."""
        folder = self.folder / "validation" if validation else None
        sources = Sources(self.folder / "scores", self.folder / "tiles", folder, task, Truth(**truth))
        evaluate_cohort(self.rows, sources, Predict(bootstrap=draws), self.folder / "e" / "m.json")
        return json.loads((self.folder / "e" / "m.json").read_text())

    def table(self) -> dict[tuple[str, str], dict[str, str]]:
        """Rows of the table, by slide and method."""
        with (self.folder / "e" / "m.csv").open(newline="") as file:
            return {(row["slide_id"], row["method"]): row for row in csv.DictReader(file)}


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


TILE_5 = (64, 32, 128, 64)
TILES_5_6 = (64, 32, 192, 64)


def test_figures_by_hand(cohort: Cohort) -> None:
    # Tiles 5 and 6 are true. Of t, they rank 1 and 3 among 12; of n, one tile is as hot as t's second.
    cohort.add("t", "tumour", TILES_5_6, evidence=evidence(t5=9, t3=5, t6=2))
    cohort.add("n", "normal", evidence=evidence(t0=5))
    figures = cohort.evaluate()["methods"]["evidence"]
    assert figures["tile_auroc"] == pytest.approx((10 + 9) / 20) and figures["tile_auprc"] == pytest.approx((1 + 2 / 3) / 2)
    # of 22 false tiles two stand above the second true one
    assert figures["pooled_auroc"] == pytest.approx((22 + 20) / 44) and figures["pooled_auprc"] == pytest.approx((1 + 2 / 4) / 2)
    assert figures["f1_oracle"] == pytest.approx(2 / 3), "one hot tile, and it is true; or four, of which two are"
    assert figures["f1"] is None and figures["threshold"] == {}
    # tile 5 finds the one lesion before there is any false positive, and suppresses tile 6
    assert figures["froc"] == {"1": 1, "2": 1, "4": 1, "8": 1} and figures["froc_mean"] == 1
    assert (figures["n_positive_slides"], figures["n_lesions"], figures["n_not_shown"]) == (1, 1, 0)


def test_scores_are_weighted_by_the_probability_of_their_slide(cohort: Cohort) -> None:
    cohort.add("t", "tumour", TILE_5, evidence=evidence(t5=2))
    cohort.add("n", "normal", evidence=evidence(t0=8), probs=[0.9, 0.1])
    assert cohort.evaluate()["methods"]["evidence"]["pooled_auroc"] == 1, "2 · 1 against 8 · 0.1"


def test_a_slide_on_which_nothing_is_shown_is_chance_and_its_lesions_are_missed(cohort: Cohort) -> None:
    cohort.add("seen", "tumour", TILE_5, evidence=evidence(t5=2))
    cohort.add("blank", "tumour", TILES_5_6, evidence=NOTHING)
    figures = cohort.evaluate()["methods"]["evidence"]
    assert figures["tile_auroc"] == 0.75 and figures["tile_auprc"] == pytest.approx((1 + 2 / 12) / 2)
    assert figures["froc_mean"] == 0.5 and figures["n_not_shown"] == 1
    assert figures["f1_oracle"] == pytest.approx(2 / (3 + 1)), "two of three true tiles can never be hot"
    assert cohort.table()["blank", "evidence"]["is_shown"] == "False"


def test_a_slide_of_unknown_truth_does_not_count_as_one_without_lesions(cohort: Cohort) -> None:
    cohort.add("t", "tumour", TILE_5, evidence=evidence(t5=2, t0=1))
    alone = cohort.evaluate()
    cohort.add("none", "tumour", evidence=evidence(t0=9))
    cohort.add("elsewhere", "tumour", (900, 32, 950, 64), evidence=evidence(t0=9))
    cohort.add("slipped", "tumour", (0, 0, 0, 64), evidence=evidence(t0=9))
    found = cohort.evaluate()
    assert found["methods"] == alone["methods"] and (found["n_slides"], found["n_with_truth"]) == (4, 1)
    assert "outside the slide" in found["notes"]["elsewhere"][0]
    assert found["notes"]["slipped"][1] == "annotation: contains no region to count, so what it shows is unknown"


def test_a_slide_labelled_negative_has_no_lesion_whatever_is_annotated(cohort: Cohort) -> None:
    cohort.add("t", "tumour", TILE_5, evidence=evidence(t5=2))
    cohort.add("n", "normal", evidence=evidence(t5=9))
    plain = cohort.evaluate()
    cohort.rows.pop()
    cohort.add("n", "normal", TILE_5, evidence=evidence(t5=9))
    found = cohort.evaluate()
    assert found["methods"] == plain["methods"] and found["n_with_truth"] == 2
    assert found["notes"] == {"n": ["annotation: ignored on a slide labelled normal"]}


def test_slides_that_models_were_trained_on_are_not_counted(cohort: Cohort) -> None:
    cohort.add("t", "tumour", TILE_5, evidence=evidence(t5=2))
    cohort.add("new", "tumour", TILE_5, evidence=evidence(t5=2), role=None, folds=[0, 1])
    alone = cohort.evaluate()
    cohort.add("v", "tumour", TILE_5, evidence=evidence(t0=2), role="val")
    cohort.add("r", "tumour", TILE_5, evidence=NOTHING, role="train")
    assert cohort.evaluate() == alone and alone["n_slides"] == 2


def two_folds(cohort: Cohort) -> None:
    """Add test slides of two folds whose models score on different scales."""
    cohort.add("a", "tumour", TILE_5, evidence=evidence(t5=4, t0=2), folds=[0])
    cohort.add("b", "tumour", TILE_5, evidence=evidence(t5=40, t0=20), folds=[1])


def test_each_folds_threshold_is_selected_on_its_validation_slides(cohort: Cohort) -> None:
    two_folds(cohort)
    cohort.validate(0, {"b": evidence(t5=4, t0=2)})
    cohort.validate(1, {"a": evidence(t5=30, t0=20)})
    figures = cohort.evaluate(validation=True)["methods"]["evidence"]
    assert figures["threshold"] == {"0": 3, "1": 25} and figures["f1"] == 1
    assert figures["f1_oracle"] == pytest.approx(4 / 5), "no one threshold serves both: 2 true of 3 hot"
    assert cohort.table()["b", "evidence"]["threshold"] == "25.0"


def test_a_slide_scored_by_several_folds_gets_the_mean_of_their_thresholds(cohort: Cohort) -> None:
    two_folds(cohort)
    cohort.add("new", "tumour", TILE_5, evidence=evidence(t5=20), role=None, folds=[0, 1])
    cohort.validate(0, {"b": evidence(t5=4, t0=2)})
    cohort.validate(1, {"a": evidence(t5=30, t0=20)})
    cohort.evaluate(validation=True)
    assert [cohort.table()[slide, "evidence"]["threshold"] for slide in ("a", "b", "new")] == ["3.0", "25.0", "14.0"]


def test_an_unannotated_validation_slide_with_a_lesion_is_not_used_for_thresholds(cohort: Cohort) -> None:
    two_folds(cohort)
    cohort.add("u", "tumour", evidence=evidence())
    cohort.add("n", "normal", evidence=evidence())
    cohort.validate(0, {"b": evidence(t5=4, t0=2), "u": evidence(t0=9), "n": evidence(t0=3.5)})
    cohort.validate(1, {"u": evidence(t0=9), "n": evidence(t0=7)})
    found = cohort.evaluate(validation=True)
    assert found["methods"]["evidence"]["threshold"] == {"0": 3.75}, "the negative slide's tiles count"
    assert "for fold 1: the mean of folds without the patient is used" in found["threshold_notes"][0]


def test_a_threshold_is_never_used_for_a_patient_on_whom_it_was_selected(cohort: Cohort) -> None:
    two_folds(cohort)  # a was held out by fold 0, b by fold 1
    cohort.add("c", "tumour", TILE_5, evidence=evidence(t5=3), role="test", folds=[1])
    cohort.validate(0, {"b": evidence(t5=4, t0=2)})
    cohort.validate(1, {})
    figures = cohort.evaluate(validation=True)["methods"]["evidence"]
    assert [cohort.table()[slide, "evidence"]["threshold"] for slide in ("a", "b", "c")] == ["3.0", "", "3.0"]
    assert figures["f1"] == 1, "over a and c, which have a threshold"


def test_without_a_threshold_only_the_oracles_f1_is_computed(cohort: Cohort) -> None:
    two_folds(cohort)
    for fold in (0, 1):
        cohort.validate(fold, {})
    found = cohort.evaluate(validation=True)
    assert found["methods"]["evidence"]["f1"] is None and found["methods"]["evidence"]["f1_oracle"] is not None
    assert "for folds 0, 1: there is none" in found["threshold_notes"][0]


def test_validation_slides_affect_only_thresholds(cohort: Cohort) -> None:
    two_folds(cohort)
    without = cohort.evaluate()["methods"]["evidence"]
    for fold in (0, 1):
        cohort.validate(fold, {"a": evidence(t0=1)})
    found = cohort.evaluate(validation=True)["methods"]["evidence"]
    assert {name for name in found if found[name] != without[name]} == {"threshold", "f1", "f1_ci95"}


def test_a_missing_validation_receipt_is_named(cohort: Cohort) -> None:
    two_folds(cohort)
    with pytest.raises(StoreError, match=r"fold-0\.json"):
        cohort.evaluate(validation=True)


def test_without_annotations_methods_are_compared_by_their_curves(cohort: Cohort) -> None:
    curves = {"deletion_area": 0.3, "insertion_area": 0.75, **RANDOM}
    poor = {**RANDOM, "deletion_area": 0.4, "insertion_area": 0.5, "deletion": [0.7, 0.6, 0.3]}
    cohort.add("a", "tumour", evidence=evidence(), curves={"evidence": {"curves": curves}})
    cohort.add("b", "normal", evidence=evidence(), curves={"evidence": {"curves": poor}})
    cohort.add("c", "normal", evidence=evidence())
    found = cohort.evaluate()
    figures = found["methods"]["evidence"]
    assert figures["deletion_gain"] == pytest.approx(0.15) and figures["insertion_gain"] == pytest.approx(0.125)
    assert figures["deletion_gain_ci95"] == pytest.approx([0.1, 0.2]) and figures["n_curves"] == 2
    assert figures["mean_curves"]["deletion"] == pytest.approx([0.8, 0.5, 0.2])
    assert figures["mean_curves"]["random_deletion"] == RANDOM["random_deletion"]
    assert found["n_with_truth"] == 0 and "tile_auroc" not in figures and found["differences"] == []
    assert [(slide, row["tile_auroc"]) for (slide, _), row in cohort.table().items()] == [("a", ""), ("b", "")]


def test_the_curves_of_a_bag_count_once(cohort: Cohort) -> None:
    of_bag = {"evidence": {"curves": {"deletion_area": 0.3, "insertion_area": 0.75, **RANDOM}}}
    other = {"evidence": {"curves": {"deletion_area": 0.4, "insertion_area": 0.5, **RANDOM}}}
    for name in ("a1", "a2"):
        cohort.add(name, "tumour", evidence=evidence(), patient="a", curves=of_bag, bag="a", bag_instances=24)
    cohort.add("b", "tumour", evidence=evidence(), curves=other)
    figures = cohort.evaluate()["methods"]["evidence"]
    assert figures["deletion_gain"] == pytest.approx(0.15) and figures["n_curves"] == 2


def test_slides_of_a_patient_with_equal_curves_each_count(cohort: Cohort) -> None:
    same = {"evidence": {"curves": {"deletion_area": 0.3, "insertion_area": 0.75, **RANDOM}}}
    other = {"evidence": {"curves": {"deletion_area": 0.4, "insertion_area": 0.5, **RANDOM}}}
    for name in ("a1", "a2", "a3"):
        cohort.add(name, "tumour", evidence=evidence(), patient="a", curves=same)
    cohort.add("b", "tumour", evidence=evidence(), curves=other)
    figures = cohort.evaluate()["methods"]["evidence"]
    assert figures["n_curves"] == 4 and figures["deletion_gain"] == pytest.approx((3 * 0.2 + 0.1) / 4)


def test_every_pair_of_methods_is_compared_on_the_same_draws(cohort: Cohort) -> None:
    for name in "abcdef":
        good, bad = evidence(t5=2), evidence(t0=2)
        cohort.add(name, "tumour", TILE_5, evidence=good, copy=good, gradient=bad, patient=name.replace("b", "a"))
    pairs = {(d["first"], d["second"]): d for d in cohort.evaluate()["differences"]}
    assert list(pairs) == [("copy", "evidence"), ("copy", "gradient"), ("evidence", "gradient")]
    assert pairs["copy", "evidence"]["value"] == 0 and pairs["copy", "evidence"]["p_holm"] == 1
    better = pairs["evidence", "gradient"]
    assert better["value"] == pytest.approx(1 - 5 / 11) and better["p_holm"] == pytest.approx(3 * better["p"])
    assert better["ci95"] == pytest.approx([better["value"]] * 2)


def test_a_method_missing_on_a_slide_finds_nothing_there(cohort: Cohort) -> None:
    cohort.add("a", "tumour", TILE_5, evidence=evidence(t5=2), control=evidence(t5=2))
    cohort.add("b", "tumour", TILE_5, evidence=evidence(t5=2))
    methods = cohort.evaluate()["methods"]
    assert (methods["evidence"]["tile_auroc"], methods["control"]["tile_auroc"]) == (1, 0.75)


def test_with_many_classes_a_slide_that_shows_another_class_has_its_lesions_missed(cohort: Cohort) -> None:
    classes = ("normal", "ductal", "lobular")
    cohort.add("a", "ductal", TILE_5, evidence=evidence(t5=2), output=1, **Classes(classes).stamp(), probs=[0, 1, 0])
    cohort.add("b", "lobular", TILE_5, evidence=evidence(t5=2), output=1, **Classes(classes).stamp(), probs=[0, 1, 0])
    cohort.add("c", "normal", evidence=evidence(t5=2), output=1, **Classes(classes).stamp(), probs=[0, 1, 0])
    found = cohort.evaluate(classes)
    assert found["methods"]["evidence"]["tile_auroc"] == 0.75 and found["n_with_truth"] == 2


def test_a_tile_is_positive_from_the_configured_share_on(cohort: Cohort) -> None:
    cohort.add("a", "tumour", (64, 32, 96, 64), evidence=evidence(t5=2))
    cohort.evaluate()
    assert cohort.table()["a", "evidence"]["n_true"] == "1"
    cohort.evaluate(overlap=0.51)
    row = cohort.table()["a", "evidence"]
    assert (row["n_true"], row["tile_auroc"], row["n_lesions"], row["recall_at_1fp"]) == ("0", "", "1", "1.0")


def test_the_same_input_gives_the_same_bytes(cohort: Cohort) -> None:
    two_folds(cohort)
    cohort.evaluate()
    first = [(cohort.folder / "e" / name).read_bytes() for name in ("m.json", "m.csv")]
    cohort.rows.reverse()
    cohort.evaluate()
    assert [(cohort.folder / "e" / name).read_bytes() for name in ("m.json", "m.csv")] == first


def test_what_trust_knows_is_not_copied_into_the_figures(cohort: Cohort) -> None:
    two_folds(cohort)
    assert not {"beats_random", "randomised"} & set(cohort.evaluate())


def test_methods_with_scores_relative_to_their_slide_are_marked(cohort: Cohort) -> None:
    cohort.add("a", "tumour", TILE_5, evidence=evidence(t5=3), own=evidence(t5=3), curves={"own": {"comparable_weighed": False}})
    methods = cohort.evaluate()["methods"]
    assert methods["evidence"]["comparable"] and not methods["own"]["comparable"]


OF_NUMBERS = {
    "regression": (Regression(name="tmb"), {"value": 3.0, "standardised": -0.5}, "7.5"),
    "survival": (Survival("cox"), {"risk": -0.5, "cutoff": 0.0, "predicted": 0}, "34.5 0"),
}


@pytest.mark.parametrize("kind", OF_NUMBERS)
def test_of_numbers_and_risks_annotated_slides_are_compared_whatever_is_predicted(cohort: Cohort, kind: str) -> None:
    task, prediction, label = OF_NUMBERS[kind]
    about = {**task.stamp(), **prediction, "output": 0}
    areas = {"deletion_area": -1.0, "insertion_area": -1.0, "random_deletion_area": 0.5, "random_insertion_area": -2.0}
    curves = {**RANDOM, **areas}
    cohort.add("t", label, TILES_5_6, evidence=evidence(t5=9, t3=5, t6=2), curves={"evidence": {"curves": curves}}, **about)
    cohort.add("plain", label, evidence=evidence(t0=5), **about)
    found = cohort.evaluate_for(task)
    figures = found["methods"]["evidence"]
    assert (found["n_slides"], found["n_with_truth"], found["n_with_lesion"]) == (2, 1, 1)
    assert figures["tile_auroc"] == pytest.approx((10 + 9) / 20) and figures["n_curves"] == 1
    assert (figures["deletion_gain"], figures["insertion_gain"]) == (1.5, 1.0)


def test_a_validation_slide_whose_explained_label_is_unknown_chooses_no_threshold(cohort: Cohort) -> None:
    task = Multilabel(("er", "her2"))
    about = {**task.stamp(), "probs": [1.0, 0.9], "threshold": [0.5, 0.5], "predicted": [1, 1], "output": 0}
    cohort.add("t", "1 0", TILE_5, evidence=evidence(t5=3), **about)
    for name, label in (("v", "1 0"), ("w", "? 1")):
        cohort.add(name, label, TILE_5, evidence=evidence(t5=2), **about)
    cohort.validate(0, {"v": evidence(t5=2), "w": evidence(t0=9)}, **about)
    assert cohort.evaluate_for(task, validation=True)["methods"]["evidence"]["f1"] == 1.0


def test_of_several_labels_the_one_that_is_explained_must_be_known_and_further_ones_do_not_count(cohort: Cohort) -> None:
    task = Multilabel(("er", "her2"))
    about = {**task.stamp(), "probs": [1.0, 0.9], "threshold": [0.5, 0.5], "predicted": [1, 1], "output": 0}
    scores = {"evidence": evidence(t5=3), "evidence@her2": evidence(t0=3)}
    cohort.add("t", "1 0", TILE_5, **scores, **about)
    cohort.add("unknown", "? 1", TILE_5, **scores, **about)
    cohort.add("wrong", "0 1", TILE_5, **scores, **about)
    cohort.add("none", "0 0", evidence=evidence(t0=1), **about)
    found = cohort.evaluate_for(task)
    assert list(found["methods"]) == ["evidence"] and (found["n_with_truth"], found["n_with_lesion"]) == (3, 2)
    table = cohort.table()
    assert {slide for slide, _ in table} == {"t", "wrong", "none"}
    assert (table["t", "evidence"]["tile_auroc"], table["wrong", "evidence"]["is_shown"]) == ("1.0", "False")
