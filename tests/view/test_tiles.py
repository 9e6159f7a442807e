"""The page with the highest scoring tiles of all slides."""

import io
import re
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.targets import NAME
from tests.view.conftest import asking
from tests.view.made import BLUE, MARKER, TILE, Results
from wsi_mil.receipts import read_receipt, write_receipt


@pytest.fixture
def comparable(made: Results) -> Results:
    """Scores of s1 and s2 by attention, hot in the blue tile, that can be compared; s10 was trained on."""
    for slide_id in ("s1", "s2", "s10"):
        receipt = made.results / "scores" / NAME / "enc/abmil" / f"{slide_id}.json"
        made.change(receipt, {"attention": {"comparable": True}})
        role = "train" if slide_id == "s10" else "test"
        write_receipt(receipt, {**read_receipt(receipt), "tile_px_level0": [TILE, TILE], "role": role})
    return made


@pytest.fixture
def client(comparable: Results) -> Iterator[TestClient]:
    with asking(comparable.catalogue()) as client:
        yield client


def test_each_tile_has_its_picture_and_leads_to_its_place(client: TestClient) -> None:
    html = client.get("/tiles").text
    items = re.findall(r"<li>.*?</li>", html)
    assert len(items) == 20 and "over 2 slides" in html and "s10" not in "".join(items)
    first, second = items[:2]
    x, y = MARKER[0] + TILE / 2, MARKER[1] + TILE / 2
    place = f"target=tumour&amp;entry=enc%2Fabmil&amp;method=attention&amp;x={x:g}&amp;y={y:g}&amp;w={5 * TILE}"
    assert f'href="/slides/s1#{place}"' in first and f'href="/slides/s2#{place}"' in second
    address = re.search(r'src="([^"]+)"', first)[1]
    pixels = np.asarray(Image.open(io.BytesIO(client.get(address).content)).convert("RGB")).astype(int)
    assert np.abs(pixels - BLUE).max() < 40


def test_the_cohort_leads_there_and_back(client: TestClient) -> None:
    assert 'href="/tiles?target=tumour&amp;entry=enc%2Fabmil"' in client.get("/").text
    assert 'href="/?target=tumour&amp;entry=enc%2Fabmil"' in client.get("/tiles").text


def test_models_that_were_chosen_on_these_slides_are_not_said_to_have_never_seen_them(comparable: Results) -> None:
    receipt = comparable.results / "scores" / NAME / "enc/abmil" / "s2.json"
    for role, is_chosen in (("", False), ("test", True)):
        write_receipt(receipt, {**read_receipt(receipt), "role": role, "protocol": "as_published"})
        with asking(comparable.catalogue()) as client:
            html = client.get("/tiles").text
        assert ("epoch and threshold were chosen on these slides" in html) is is_chosen
        assert ("never saw its patient" in html) is not is_chosen


def test_new_scores_are_seen(comparable: Results, client: TestClient) -> None:
    client.get("/tiles")
    receipt = comparable.results / "scores" / NAME / "enc/abmil" / "s2.json"
    write_receipt(receipt, {**read_receipt(receipt), "role": "val"})
    with asking(comparable.catalogue()) as client:
        assert "over 1 slide)" not in (html := client.get("/tiles").text) and "over 1 slide<" in html


def test_a_slide_that_has_left_the_cohort_is_not_ranked_and_its_page_says_so(comparable: Results) -> None:
    comparable.rows = [row for row in comparable.rows if row["slide_id"] != "s1"]
    comparable.write_status({"s2": ("ok", ""), "s10": ("ok", ""), "bad": ("failed", "")})
    with asking(comparable.catalogue()) as client:
        html = client.get("/tiles").text
        assert "over 1 slide<" in html and "/slides/s1#" not in html
        assert "no longer in the cohort" in client.get("/slides/s1").text
        assert "no longer in the cohort" not in client.get("/slides/s2").text


def test_scores_of_earlier_models_are_not_ranked_beside_those_of_the_latest(comparable: Results) -> None:
    """s2 was explained last, by models that `trust` has not tested yet."""
    folder = comparable.results / "scores" / NAME / "enc/abmil"
    for slide_id, models in (("s1", "earlier"), ("s2", "now")):
        write_receipt(folder / f"{slide_id}.json", {**read_receipt(folder / f"{slide_id}.json"), "models": models})
    tested = {"model": None, "outputs": {}, "methods": {"attention": {"beats_random": False, "randomised": None}}}
    for models, line in (("now", "this method does no better than random order"), ("earlier", "are not tested")):
        write_receipt(comparable.results / "trust" / NAME / "enc/abmil.json", {**tested, "models": models})
        with asking(comparable.catalogue()) as client:
            html = client.get("/tiles").text
        assert "over 1 slide<" in html and "/slides/s1#" not in html and line in html


def test_without_a_method_that_can_be_compared_the_page_says_so(made: Results) -> None:
    with asking(made.catalogue()) as client:
        html = client.get("/tiles").text
    assert "scores of this model that can be compared between slides" in html and "<li>" not in html


def test_unknown_targets_are_not_found(client: TestClient) -> None:
    assert client.get("/tiles?target=no").status_code == 404
