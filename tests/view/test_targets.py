"""Several targets of one cohort in the viewer."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.targets import NAME
from tests.view.conftest import asking
from tests.view.made import MARKER, Results, grid_coords, hot_at
from tests.view.test_server import about
from wsi_mil.tasks import Multilabel
from wsi_mil.view import Catalogue


@pytest.fixture
def several(made: Results) -> Results:
    """Three targets; of the markers there are scores of s1, for her2/neu in the second place."""
    made.add_targets()
    slide = replace(made.add_marked("s1", scored=False), method="attention")
    made.rows.pop()
    stamp = {
        **Multilabel(("er", "her2/neu")).stamp(),
        "probs": [0.9, 0.8],
        "threshold": [0.5, 0.3],
        "predicted": [1, 1],
        "output": 0,
    }
    further = "attention@her2~2Fneu"
    receipt = made.write_scores(slide, {further: hot_at(grid_coords(), (0, 0))}, target="markers", **stamp)
    made.change(receipt, {"attention": {"output": 0}, further: {"output": 1}})
    return made


@pytest.fixture
def client(several: Results) -> Iterator[TestClient]:
    with asking(several.catalogue()) as client:
        yield client


def lines(client: TestClient, query: str) -> dict[str, dict[str, str]]:
    return {line["slide"]: line for line in client.get(f"/cohort.json{query}").json()}


def test_an_address_without_a_target_is_of_the_first(client: TestClient) -> None:
    assert lines(client, "?entry=enc/abmil") == lines(client, f"?target={NAME}&entry=enc/abmil") == lines(client, "")
    assert lines(client, "")["s10"]["label"] == "normal" and "P(tumour)" in client.get("/").text


def test_each_target_has_its_own_labels_and_predictions(client: TestClient) -> None:
    found = lines(client, "?target=survival")
    assert [(found[s]["label"], found[s]["truth"], found[s]["predicted"], found[s]["prob"]) for s in ("s1", "s2", "s10")] == [
        ("event", "34.5", "high risk", "0.75"),
        ("censored", "9.0", "low risk", "-1.5"),
        ("censored", "120.0", "high risk", "12.0"),
    ]
    assert not any(line["wrong"] for line in found.values()), "a risk is neither right nor wrong"
    html = client.get("/?target=survival").text
    assert "34.5, event" in html and "Log risk" in html and "<meter" not in html and '<option value="-">no follow-up' in html


def test_the_other_targets_have_a_column_each(client: TestClient) -> None:
    found = lines(client, "?target=survival")["s1"]
    assert (found["of.tumour"], found["of.markers"]) == ("0.9", "0.9") and "of.survival" not in found
    html = client.get("/").text
    assert 'data-sort="of.survival">survival' in html and 'high risk<span class="small">34.5, event</span>' in html


def test_one_wrong_label_makes_a_prediction_of_several_wrong(client: TestClient) -> None:
    found = lines(client, "?target=markers")
    assert [(found[s]["predicted"], found[s]["wrong"]) for s in ("s1", "s2")] == [("er, her2/neu", "1"), ("none positive", "")]
    assert [found[s]["label"] for s in ("s1", "s2", "s10")] == ["er", "none positive (her2/neu not known)", ""]


def test_a_slide_has_the_label_and_entries_of_every_target(client: TestClient) -> None:
    found = about(client, "s1")
    assert [(t["name"], t["truth"], t["label"]) for t in found["targets"]] == [
        ("tumour", "label", "tumour"),
        ("survival", "follow-up", "34.5, event"),
        ("markers", "label", "er"),
    ]
    assert [entry["target"] for entry in found["entries"]] == ["tumour", "survival", "markers"]
    assert found["entries"][1]["prediction"]["number"] == "0.75 (cut-off 0.25)"


def test_scores_of_further_labels_are_named_by_the_label(client: TestClient) -> None:
    methods = about(client, "s1")["entries"][2]["methods"]
    assert [(m["name"], m["title"]) for m in methods] == [
        ("attention", "attention for er"),
        ("attention@her2~2Fneu", "attention for her2/neu"),
    ]
    for method, (x, y) in (("attention", MARKER), ("attention%40her2~2Fneu", (0, 0))):
        at = client.get(f"/slides/s1/layers/markers/enc/abmil/{method}/raw/at.json?x={x + 5}&y={y + 5}").json()
        assert at["rank"] == 1 and at["value"] == 5


def test_without_a_configuration_kinds_are_read_from_predictions(several: Results) -> None:
    catalogue = Catalogue(several.results)
    assert catalogue.targets == ["markers", "survival", "tumour"]
    kinds = {name: getattr(catalogue.task(name), "kind", "") for name in catalogue.targets}
    assert kinds == {"markers": "multilabel", "survival": "survival", "tumour": "classes"}
    with asking(catalogue) as client:
        found = lines(client, "?target=survival")
    assert found["s1"]["label"] == "event" and np.isclose(float(found["s2"]["prob"]), -1.5)


def test_a_target_of_the_configuration_without_results_shows_its_labels(several: Results) -> None:
    (several.results / "predictions/survival/enc/abmil.csv").unlink()
    with asking(several.catalogue()) as client:
        assert lines(client, "?target=survival&entry=enc/abmil")["s1"]["label"] == "event"
        assert about(client, "s1")["targets"][1]["label"] == "34.5, event"
