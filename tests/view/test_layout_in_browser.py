"""Whether what is shown at 1280 × 800 can be read: long names, and numbers beside each other."""

from pathlib import Path

import pytest

from tests.view.conftest import serving
from tests.view.made import Results
from tests.view.test_browser import CHROMIUM, browser, opened

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture

SLIDE = "TCGA-A1-A0SB-01Z-00-DX1.B34C267B-CAAD-4BAE-AAAF-0123456789AB.second_scan"
CLASS = "lung_adenocarcinoma_invasive_mucinous"


def test_long_names_and_reasons_stay_within_the_window(browser: "api.Browser", tmp_path: Path) -> None:
    made = Results(tmp_path)
    made.add_marked(SLIDE, label=CLASS)
    made.add_failed("x" * 90, "could not be opened: " + "very_long_unbroken_reason/" * 12)
    path = made.results / "predictions/tumour/enc/abmil.csv"
    path.parent.mkdir(parents=True)
    path.write_text(f"slide_id,prob_{CLASS},prob_other_{CLASS},prob_c,predicted\n{SLIDE},0.2,0.5,0.3,other_{CLASS}\n")
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            page = tab.open("/")
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
            assert page.locator("#slides .reason").first.bounding_box()["width"] > 150
            page = tab.open(f"/slides/{SLIDE}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
            assert page.locator("#panes").bounding_box()["height"] > 500


def test_a_probability_just_above_the_threshold_is_not_shown_below_it(browser: "api.Browser", made: Results) -> None:
    made.write_predictions({"s1": 0.4991}, threshold=0.4986)
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            page = tab.open("/slides/s1")
            assert "tumour" in page.locator("#facts").inner_text()
            assert page.get_by_text("0.499 (threshold 0.499)").is_visible()


def test_the_overview_stays_while_the_pointer_is_elsewhere(browser: "api.Browser", served: str) -> None:
    for tab in opened(browser, served):
        page = tab.open("/slides/s1")
        page.wait_for_timeout(4000)  # OpenSeadragon's own would begin to fade after 2 s and be gone after 3.5
        held = page.locator(".navigator").evaluate("""element => {
            let opacity = 1;
            for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
            return opacity;
        }""")
        assert held == 1
