"""The trust line over a heatmap, as a browser shows it."""

import pytest

from tests.targets import NAME
from tests.view.conftest import serving
from tests.view.made import Results
from tests.view.test_browser import CHROMIUM, browser, opened
from wsi_mil.receipts import write_receipt

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture

RED = "rgb(176, 0, 32)"
VERDICT = {"figure": "AUROC", "value": 0.9, "ci95": [0.7, 1.0], "chance": 0.5, "on": "held-out", "n_slides": 9, "is_better": True}
CURVES = {"symmetric_gain": 0.7, "random_symmetric_gain": 0.0, "random_symmetric_gain_max": 0.2, "turn": 0.03, "random_turn": 0.4}


def write_trust(made: Results, **beats_random: bool) -> None:
    methods = {name: {"beats_random": beats, "randomised": 0.1} for name, beats in beats_random.items()}
    content = {"model": VERDICT, "outputs": {}, "methods": methods}
    write_receipt(made.results / "trust" / NAME / "enc" / "abmil.json", content)


def test_each_pane_has_the_line_of_its_own_method(browser: "api.Browser", made: Results) -> None:
    write_trust(made, attention=True, evidence=False)
    made.change(made.results / "scores" / NAME / "enc/abmil/s1.json", {"attention": {"curves": CURVES}})
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            page = tab.open("/slides/s1#method=attention&side=1&second=evidence")
            left, right = (page.locator(f"#pane-{n} .trust") for n in (0, 1))
            assert left.inner_text() == "faithful: removing the hottest 3 % of tiles turns the prediction; at random 40 %"
            assert right.inner_text().startswith("not to be interpreted: on validation slides this method does no better")
            colours = [line.evaluate("line => getComputedStyle(line).backgroundColor") for line in (left, right)]
            assert colours[1] == RED != colours[0]
            page.get_by_label("Method", exact=True).select_option("evidence")
            tab.settle()
            assert left.inner_text().startswith("not to be") and right.inner_text().startswith("faithful"), "they change places"


def test_results_that_were_not_tested_say_so(browser: "api.Browser", made: Results) -> None:
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            line = tab.open("/slides/s1").locator("#pane-0 .trust")
            assert line.is_visible() and "run `snakemake verdicts`" in line.inner_text()
