"""Scores for several classes in a real browser: each pane has its choice, and the highest tiles lead to their place."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.targets import NAME
from tests.view.conftest import serving
from tests.view.made import MARKER, TILE, Results, grid_coords, hot_at
from tests.view.test_browser import CHROMIUM, YELLOW, Tab, box_of, browser, opened
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.tasks import Classes

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture
OTHER = (192, 768)
"""Corner (x, y) of the tile that is hot for lusc; for luad it is the marked one."""


@pytest.fixture
def tab(browser: "api.Browser", made: Results) -> Iterator[Tab]:
    """The slide s1, predicted as luad, with scores for luad and lusc by two methods."""
    coords = grid_coords()
    slide = replace(made.add_marked("s1", scored=False), method="attention")
    made.rows.pop()
    hot = {"attention@lusc": OTHER, "evidence": MARKER, "evidence@lusc": OTHER}
    stamp = {**Classes(("normal", "luad", "lusc")).stamp(), "probs": [0.0, 0.5, 0.5], "threshold": None, "predicted": 1}
    stamp["tile_px_level0"] = [TILE, TILE]
    receipt = made.write_scores(slide, {name: hot_at(coords, corner) for name, corner in hot.items()}, **stamp)
    content = read_receipt(receipt)
    methods = {
        name: {**entry, "output": 2 if "@" in name else 1, "comparable": "evidence" in name}
        for name, entry in content["methods"].items()
    }
    write_receipt(receipt, {**content, "methods": methods})
    with serving(made.catalogue()) as address:
        yield from opened(browser, address)


def test_method_and_class_are_chosen_one_by_one_and_each_pane_has_its_own(tab: Tab) -> None:
    page = tab.open("/slides/s1#scale=minmax&opacity=100&truth=0")
    choice = page.get_by_label("Class or label", exact=True)
    assert choice.locator("option").all_inner_texts() == ["luad", "lusc"] and choice.input_value() == "luad"
    of_luad = box_of(tab.seen(), YELLOW)
    choice.select_option("lusc")
    tab.settle()
    assert tab.state()["method"] == "attention@lusc" and page.locator("#pane-0 .legend h3").text_content() == "attention for lusc"
    of_lusc = box_of(tab.seen(), YELLOW)
    assert of_lusc[0] < of_luad[0] and of_lusc[1] > of_luad[1], "lower left of the marked tile"
    page.get_by_label("Method", exact=True).select_option("evidence")
    tab.settle()
    assert tab.state()["method"] == "evidence@lusc", "another method keeps the class"
    page.locator("[name=side]").check()
    tab.settle()
    page.get_by_label("Method on the right").select_option("evidence")
    page.get_by_label("Class or label on the right").select_option("luad")
    tab.settle()
    assert (tab.state()["method"], tab.state()["second"]) == ("evidence@lusc", "evidence")
    page.keyboard.press("m")
    tab.settle()
    assert tab.state()["method"] == "attention@lusc", "m keeps the class"


def test_where_one_class_is_explained_there_is_nothing_to_choose(browser: "api.Browser", made: Results) -> None:
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            assert not tab.open("/slides/s1").get_by_label("Class or label", exact=True).is_visible()


def test_a_tile_of_the_cohort_leads_to_its_place_in_the_slide(tab: Tab) -> None:
    page = tab.open("/")
    page.get_by_role("link", name="Tiles with the highest scores").click()
    of_lusc = page.locator("ol.tiles").nth(1)
    page.wait_for_function("() => [...document.images].slice(0, 3).every(image => image.complete && image.naturalWidth)")
    of_lusc.locator("a").first.click()
    tab.settle()
    state = tab.state()
    assert (state["method"], float(state["w"])) == ("evidence@lusc", pytest.approx(5 * TILE, abs=1))
    assert np.allclose([float(state["x"]), float(state["y"])], np.add(OTHER, TILE / 2), atol=1)
    assert state["target"] == NAME and page.locator("h1").inner_text() == "s1"
