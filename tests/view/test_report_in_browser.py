"""The cohort report as a browser opens it from disk."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.targets import NAME
from tests.test_report import PROBS, VALUES, lines, page, write_model, write_scored, write_tiled
from tests.test_report_contact_sheet import write_failed
from tests.view.test_browser import browser
from tests.view.test_contrast import faint
from wsi_mil.receipts import read_receipt, write_receipt

CHROMIUM = shutil.which("chromium")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a target of nine slides, of which s3 failed and s4 and s5 are predicted wrongly."""
    folder = tmp_path_factory.mktemp("report")
    write_tiled(folder, "s1", warnings=["odd <b>mask</b>"])
    write_failed(folder, "s3", "gone.svs: no slide")
    write_model(folder, "enc/a", lines(PROBS))
    write_model(folder, "enc/b", lines(PROBS, protocol="as_published"))
    page(folder, ["a", "b"])
    return folder / "report" / "tumour.html"


@pytest.fixture
def opened(browser: "api.Browser", path: Path) -> Iterator["api.Page"]:
    """The page of the target."""
    yield from quietly(browser, path)


@pytest.fixture
def overview(browser: "api.Browser", path: Path) -> Iterator["api.Page"]:
    """The page of the cohort."""
    yield from quietly(browser, path.with_name("index.html"))


def quietly(browser: "api.Browser", path: Path) -> Iterator["api.Page"]:
    """Nothing may be said in the console, and nothing asked for but the page itself."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    assert not said and [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    tab.close()


SETTLE = """async (place) => {
    place.scrollIntoView();
    await Promise.all([...place.querySelectorAll("img")].map((image) => image.decode()));
    for (let still = 0, last = NaN; still < 5; ) {
        await new Promise(requestAnimationFrame);
        const top = place.getBoundingClientRect().top;
        still = top === last ? still + 1 : 0;
        last = top;
    }
}"""
"""Slides are laid out as they come into view, and what stands below them moves: until it rests, with its pictures decoded."""


def pixels(place: "api.Locator") -> np.ndarray:
    place.evaluate(SETTLE)
    return np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB")).astype(int)


def test_the_layer_lies_over_the_slide_and_its_opacity_can_be_set(opened: "api.Page") -> None:
    panel = opened.locator("#slide-s6 .panel").nth(1)
    before = pixels(panel)
    height, width = before.shape[:2]
    hot, bare = (
        (slice(int(height * 0.8), int(height * 0.95)), slice(int(width * 0.9), int(width * 0.97))),
        (height // 2, width // 2),
    )
    assert (before[hot][..., 0] > before[hot][..., 2] + 60).all(), "yellow at the lower right, where the greatest score is"
    assert (before[bare] == 235).all(), "the plain ground where no tile is"
    opened.locator("#opacity").fill("0")
    assert (pixels(panel)[hot] == 235).all()


def test_the_table_is_sifted_by_words_and_by_wrong_predictions(opened: "api.Page") -> None:
    rows = opened.locator("#slides-table tbody tr:visible")
    assert rows.count() == 9
    opened.check("#wrong")
    assert [rows.nth(i).locator("td").first.inner_text() for i in range(rows.count())] == ["s4", "s5"]
    opened.fill("#find", "tumour s5")
    assert rows.count() == 1
    opened.uncheck("#wrong")
    opened.fill("#find", "failed")
    assert rows.count() == 1 and "s3" in rows.first.inner_text()


def test_the_slides_of_the_cohort_are_sifted_by_words(overview: "api.Page") -> None:
    rows = overview.locator("#slides-table tbody tr:visible")
    assert rows.count() == 9
    overview.fill("#find", "no slide")
    assert rows.count() == 1 and "s3" in rows.first.inner_text()
    overview.fill("#find", "tumour")
    assert [rows.nth(i).locator("td").first.inner_text() for i in range(rows.count())] == ["s5", "s6", "s7"]


def test_a_slide_of_the_cohort_leads_to_its_heatmaps(browser: "api.Browser", path: Path) -> None:
    tab = browser.new_page()
    tab.goto(path.with_name("index.html").as_uri())
    tab.locator("#slide-s6 a").click()
    assert tab.url == f"{path.as_uri()}#slide-s6" and tab.locator("#slide-s6 .panel").count() > 1
    tab.get_by_role("link", name="← Cohort report").click()
    assert tab.url == path.with_name("index.html").as_uri() and tab.locator("h1").inner_text() == "Cohort report"
    tab.close()


def test_links_lead_to_their_sections_by_keyboard(opened: "api.Page") -> None:
    targets = opened.eval_on_selector_all("a[href^='#']", "links => links.map(a => decodeURIComponent(a.hash.slice(1)))")
    assert len(targets) > 15 and opened.evaluate("ids => ids.filter(id => !document.getElementById(id))", targets) == []
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#figures")


@pytest.mark.parametrize("name", ["opened", "overview"])
def test_nothing_is_too_faint_and_nothing_is_wider_than_the_window(request: pytest.FixtureRequest, name: str) -> None:
    shown = request.getfixturevalue(name)
    assert faint(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= 1280


CUT_OFF = """() => [...document.body.querySelectorAll("*")].filter((element) => {
    return getComputedStyle(element).overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1;
}).map((element) => element.textContent.slice(0, 60))"""


@pytest.mark.parametrize("name", ["opened", "overview"])
@pytest.mark.parametrize("width", [1032, 965], ids=["A4", "Letter"])
def test_on_paper_no_table_is_cut_off(request: pytest.FixtureRequest, name: str, width: int) -> None:
    """A landscape sheet less its margins; what scrolls on the screen would end at its edge."""
    shown = request.getfixturevalue(name)
    shown.emulate_media(media="print")
    shown.set_viewport_size({"width": width, "height": 700})
    assert shown.evaluate(CUT_OFF) == [] and shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("#find").is_hidden()


def test_a_class_is_chosen_among_those_that_are_explained(browser: "api.Browser", tmp_path: Path) -> None:
    """Scores for both classes of s6, and for the positive one alone of all other slides."""
    write_model(tmp_path, "enc/a", lines(PROBS))
    receipt = tmp_path / "scores" / NAME / "enc/a/s6.json"
    write_scored(receipt, "s6", {"attention": VALUES, "attention@normal": VALUES[::-1]})
    content = read_receipt(receipt)
    content["methods"]["attention@normal"]["output"] = 0
    write_receipt(receipt, content)
    page(tmp_path, ["a"])
    for tab in quietly(browser, tmp_path / "report" / "tumour.html"):
        choice, panels = tab.get_by_label("Output"), tab.locator("#slide-s6 figcaption b")
        tab.locator("#slide-s6").evaluate(SETTLE)
        assert panels.all_inner_texts() == ["attention for tumour", "attention for normal"]
        choice.select_option("normal")
        assert [panel.inner_text() for panel in panels.all() if panel.is_visible()] == ["attention for normal"]
        assert tab.locator("#slide-s5 figcaption b").is_visible(), "of s5 there is nothing to choose"
        choice.select_option("all")
        assert all(panel.is_visible() for panel in panels.all())


def test_there_is_no_choice_where_one_class_is_explained(opened: "api.Page") -> None:
    assert not opened.get_by_label("Output").count()
