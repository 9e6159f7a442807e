"""Figures of the scores for each output, and what is known of a slide for it."""

import json
from pathlib import Path

import pytest

from tests.evaluate.test_stage import TILE_5, TILES_5_6, Cohort, evidence
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.tasks import Classes, Multilabel

CLASSES = ("normal", "luad", "lusc")
TILE_0 = (0, 0, 64, 32)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def add(cohort: Cohort, slide_id: str, label: str, predicted: int, regions: dict[str, tuple[int, int, int, int]]) -> None:
    """A slide with annotated boxes by class; its tile 5 has the highest score for luad, tile 0 for lusc, tile 11 for normal."""
    names = {1: "evidence@luad", 2: "evidence@lusc", 0: "evidence@normal"}
    names[predicted] = "evidence"
    hot = {1: evidence(t5=3, t6=2, t0=1), 2: evidence(t0=3), 0: evidence(t11=3)}
    about = {**Classes(CLASSES).stamp(), "probs": [0.2, 0.4, 0.4], "predicted": predicted, "output": predicted}
    first = next(iter(regions.values()), None)
    cohort.add(slide_id, label, first, **{names[n]: hot[n] for n in names}, **about, asked_by_prediction=[predicted])
    if regions:
        path = cohort.rows[-1].annotation
        (feature,) = json.loads(path.read_text())["features"]
        features = [with_box(feature, name, box) for name, box in regions.items()]
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    receipt = cohort.folder / "scores" / f"{slide_id}.json"
    content = read_receipt(receipt)
    methods = {name: {**content["methods"][name], "output": output} for output, name in names.items()}
    write_receipt(receipt, {**content, "methods": methods})


def with_box(feature: dict, name: str, box: tuple[int, int, int, int]) -> dict:
    left, top, right, bottom = box
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    properties = {**feature["properties"], "classification": {"name": name}}
    return {**feature, "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def test_each_output_is_compared_with_its_own_annotation_classes(cohort: Cohort) -> None:
    add(cohort, "both", "luad", 1, {"acinar": TILES_5_6, "keratin": TILE_0})
    add(cohort, "wrong", "lusc", 1, {"keratin": TILE_0})
    found = cohort.evaluate_for(Classes(CLASSES), classes={"luad": ["acinar"], "lusc": ["keratin"]})
    luad, lusc = found["outputs"]["luad"], found["outputs"]["lusc"]
    assert (luad["n_with_truth"], luad["n_with_lesion"]) == (2, 1) and (lusc["n_with_truth"], lusc["n_with_lesion"]) == (2, 2)
    assert luad["methods"]["evidence"]["tile_auroc"] == lusc["methods"]["evidence"]["tile_auroc"] == 1.0
    assert luad["methods"]["evidence"]["n_lesions"] == 1, "tiles 5 and 6 are one lesion, tile 0 is none of luad"
    assert (
        found["outputs"]["normal"]["n_with_lesion"] == 0 and "tile_auroc" not in found["outputs"]["normal"]["methods"]["evidence"]
    )
    assert found["methods"]["evidence"]["tile_auroc"] == (1.0 + 0.5) / 2, "a slide that is predicted otherwise counts as chance"
    table = cohort.table()
    assert (table["wrong", "evidence@lusc"]["tile_auroc"], table["wrong", "evidence@lusc"]["output"]) == ("1.0", "lusc")
    assert (table["wrong", "evidence"]["is_shown"], table["wrong", "evidence"]["output"]) == ("False", "luad")


def test_without_classes_of_its_own_an_output_is_compared_on_its_own_slides_only(cohort: Cohort) -> None:
    add(cohort, "a", "luad", 1, {"tumour": TILES_5_6})
    add(cohort, "b", "lusc", 2, {"tumour": TILE_0})
    add(cohort, "c", "normal", 1, {})
    found = cohort.evaluate(CLASSES)
    assert {name: own["n_with_truth"] for name, own in found["outputs"].items()} == {"normal": 0, "luad": 1, "lusc": 1}
    healthy = cohort.evaluate(CLASSES, healthy=["normal"])
    assert {name: own["n_with_truth"] for name, own in healthy["outputs"].items()} == {"normal": 0, "luad": 2, "lusc": 2}
    assert (found["n_with_truth"], healthy["n_with_truth"], healthy["n_with_lesion"]) == (2, 3, 2)


def test_a_healthy_slide_adds_false_alarms_whatever_is_annotated_on_it(cohort: Cohort) -> None:
    add(cohort, "a", "luad", 1, {"tumour": TILE_5})
    add(cohort, "c", "normal", 1, {"tumour": TILE_5})
    found = cohort.evaluate(CLASSES, healthy=["normal"])
    assert found["notes"] == {"c": ["annotation: ignored on a slide labelled normal"]}
    assert found["methods"]["evidence"]["pooled_auroc"] == pytest.approx(1 - 0.5 / 23)


def test_annotation_classes_of_a_healthy_class_are_no_lesions_for_another_output(cohort: Cohort) -> None:
    about = {"asked_by_prediction": [1], "output": 1}
    cohort.add("a", "tumour", TILE_5, evidence=evidence(t5=3), **about)
    cohort.add("b", "normal", TILE_0, evidence=evidence(t0=1), **about)
    found = cohort.evaluate_for(Classes(("normal", "tumour")), classes={"normal": ["_0"]})
    assert (found["n_with_truth"], found["n_with_lesion"]) == (2, 1)


def test_an_annotated_slide_of_a_class_without_a_region_of_it_is_not_known(cohort: Cohort) -> None:
    add(cohort, "a", "luad", 1, {"keratin": TILE_0})
    found = cohort.evaluate_for(Classes(CLASSES), classes={"luad": ["acinar"]})
    assert found["n_with_truth"] == 0
    assert found["notes"] == {"a": ["annotation: contains no region of luad, so what it shows is unknown"]}


def test_outputs_that_were_not_asked_for_have_no_figures_of_their_own(cohort: Cohort) -> None:
    cohort.add("a", "tumour", TILE_5, evidence=evidence(t5=3), asked_by_prediction=[1])
    assert cohort.evaluate()["outputs"] == {}


def test_a_slide_whose_named_output_is_neither_true_nor_predicted_is_not_held_against_a_method(cohort: Cohort) -> None:
    about = {**Classes(CLASSES).stamp(), "probs": [0.1, 0.5, 0.4], "predicted": 1}
    cohort.add("a", "luad", TILE_5, evidence=evidence(t0=3), output=2, asked_by_prediction=[1], **about)
    cohort.add("b", "lusc", TILE_5, evidence=evidence(t5=3), output=2, asked_by_prediction=[1], **about)
    found = cohort.evaluate(CLASSES)
    assert found["n_with_truth"] == 1 and found["methods"]["evidence"]["tile_auroc"] == 1.0


def test_a_slide_that_is_negative_for_a_label_has_no_evidence_of_it(cohort: Cohort) -> None:
    task = Multilabel(("er", "her2"))
    about = {**task.stamp(), "probs": [1.0, 0.2], "threshold": [0.5, 0.5], "predicted": [1, 0], "asked_by_prediction": [0]}
    for name, label in (("a", "1 0"), ("b", "1 1"), ("c", "1 ?")):
        cohort.add(name, label, TILE_5, evidence=evidence(t5=3), **{"evidence@her2": evidence(t5=2)}, output=0, **about)
        receipt = cohort.folder / "scores" / f"{name}.json"
        content = read_receipt(receipt)
        content["methods"]["evidence@her2"]["output"] = 1
        write_receipt(receipt, content)
    found = cohort.evaluate_for(task)["outputs"]
    assert {name: (own["n_with_truth"], own["n_with_lesion"]) for name, own in found.items()} == {"er": (3, 3), "her2": (2, 1)}
