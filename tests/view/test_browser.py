"""In a real browser: what is seen, not what is sent."""

import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.view.conftest import HTML, serving
from tests.view.made import BLUE, CORNER, MARKER, TILE, Results, hot_at

CHROMIUM = shutil.which("chromium")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

YELLOW = (253, 231, 37)
"""The hot end of viridis."""

STILL = """(number) => {
    const now = performance.now();
    const been = (window.wasStill ??= {});
    const busy = document.readyState !== "complete" || document.querySelector("main[aria-busy=true]");
    if (busy || been.number !== number || been.href !== location.href) {
        Object.assign(been, { number, href: location.href, since: now, frames: 0 });
    }
    been.frames += 1;
    return been.frames > 10 && now - been.since > 350;
}"""
PANE = "#pane-0"


@dataclass
class Tab:
    """A page with what went wrong on it, and whom it asked."""

    page: "api.Page"
    address: str
    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    settled: int = 0

    def open(self, path: str) -> "api.Page":
        self.page.goto("about:blank")
        self.page.goto(self.address + path)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until all tiles are there and the view stands still, for a while and for some frames of the page's own."""
        self.settled += 1
        self.page.wait_for_timeout(100)
        self.page.wait_for_function(STILL, arg=self.settled)

    def seen(self, pane: str = PANE) -> np.ndarray:
        """What a pane shows, int [height, width, 3], without what lies over its corners."""
        hide = "parts => parts.forEach(part => (part.style.visibility = 'hidden'))"
        self.page.eval_on_selector_all(".legend, .scale-bar, .navigator, .marks, .trust", hide)
        image = np.asarray(Image.open(io.BytesIO(self.page.locator(pane).screenshot())).convert("RGB")).astype(int)
        image[:6] = image[-6:] = image[:, :6] = image[:, -6:] = 0  # the frame around what has the focus
        return image

    def state(self) -> dict[str, str]:
        """What stands behind the # of the address."""
        return {name: value[0] for name, value in parse_qs(urlsplit(self.page.url).fragment).items()}


@pytest.fixture(scope="module")
def browser() -> Iterator["api.Browser"]:
    with api.sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=args)


def opened(browser: "api.Browser", address: str) -> Iterator[Tab]:
    """A tab; afterwards nothing went wrong on it, and it asked nobody else."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    tab = Tab(page, address)
    page.on("console", lambda message: tab.faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: tab.faults.append(str(error)))
    page.on("dialog", lambda dialog: tab.faults.append(dialog.message))
    page.on("request", lambda request: tab.hosts.add(urlsplit(request.url).hostname or "") if "://" in request.url else None)
    yield tab
    page.close()
    assert tab.faults == [] and tab.hosts == {"127.0.0.1"}


@pytest.fixture
def tab(browser: "api.Browser", served: str) -> Iterator[Tab]:
    yield from opened(browser, served)


def box_of(image: np.ndarray, colour: tuple[int, int, int], *, within: int = 70) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels that have about a colour."""
    rows, columns = np.nonzero(np.abs(image - colour).max(axis=2) < within)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def rows_shown(page: "api.Page") -> list[str]:
    return page.eval_on_selector_all("#slides tbody tr:not([hidden])", "rows => rows.map(row => row.dataset.slide)")


def test_the_cohort_is_filtered_searched_and_sorted_and_the_address_keeps_it(tab: Tab) -> None:
    page = tab.open("/")
    assert rows_shown(page) == ["s1", "s2", "s10", "bad"]
    page.get_by_label("wrong predictions only").check()
    assert rows_shown(page) == ["s10"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Status").select_option("failed")
    assert rows_shown(page) == ["bad"] and page.locator("#shown").inner_text() == "1 of 4 slides"
    page.get_by_label("Status").select_option("")
    page.get_by_label("Fold").select_option("1")
    assert rows_shown(page) == ["s2"]
    page.get_by_label("Fold").select_option("")
    page.get_by_label("Search").fill("S1")
    assert rows_shown(page) == ["s1", "s10"]
    page.get_by_role("button", name="Slide").click()
    page.get_by_role("button", name="Slide").click()
    assert rows_shown(page) == ["s10", "s1"]
    address = page.url.removeprefix(tab.address)
    assert rows_shown(tab.open(address)) == ["s10", "s1"] and page.get_by_label("Search").input_value() == "S1"
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="P(tumour)").click()
    assert rows_shown(page) == ["s2", "s10", "s1", "bad"]
    page.get_by_label("Search").fill("zebra")
    assert rows_shown(page) == [] and page.get_by_text("No slide matches").is_visible()


def test_html_of_the_data_is_shown_as_text(tab: Tab) -> None:
    page = tab.open("/")
    assert HTML in page.locator("tr[data-slide=bad]").inner_text()
    assert page.locator("#slides img").count() == 3  # thumbnails


def test_the_back_link_keeps_the_filters_of_the_cohort_page(tab: Tab) -> None:
    page = tab.open("/?q=s1&sort=slide&down=1")
    page.locator("tr[data-slide=s1] a").click()
    tab.settle()
    assert page.url.startswith(f"{tab.address}/slides/s1?q=s1&sort=slide&down=1#target=tumour&entry=enc%2Fabmil&")
    page.get_by_role("link", name="Cohort").click()
    page.wait_for_url("**/?q=s1&sort=slide&down=1")
    assert rows_shown(page) == ["s10", "s1"]


def test_next_and_previous_follow_the_filtered_list(tab: Tab) -> None:
    """Label tumour, by probability: s2 0.7, s1 0.9; by the sheet s1 stands first, and s10 follows s2."""
    page = tab.open("/?label=tumour&sort=prob")
    page.locator("tr[data-slide=s2] a").click()
    tab.settle()
    assert "/slides/s2?label=tumour&sort=prob#" in page.url and page.locator("#position").inner_text() == "1 of 2 listed"
    assert page.locator("#previous").get_attribute("href") is None
    page.locator("body").press("n")
    page.wait_for_url("**/slides/s1?label=tumour&sort=prob#*")
    tab.settle()
    assert page.locator("#position").inner_text() == "2 of 2 listed"
    page.locator("body").press("n")  # there is none
    tab.settle()
    assert "/slides/s1?" in page.url
    page.go_back()
    page.wait_for_url("**/slides/s2?label=tumour&sort=prob#*")
    page.get_by_role("link", name="Cohort").click()
    page.wait_for_url("**/?label=tumour&sort=prob")
    assert rows_shown(page) == ["s2", "s1"]


def test_a_shared_link_keeps_its_filtered_list(tab: Tab) -> None:
    page = tab.open("/slides/s10?wrong=1&entry=enc/abmil")
    assert page.locator("#position").inner_text() == "1 of 1 listed"
    page = tab.open("/slides/s1?wrong=1")  # which is not in the list
    assert page.locator("#position").inner_text() == "– of 1 listed"
    page.locator("body").press("n")
    page.wait_for_url("**/slides/s10?wrong=1#*")


@pytest.mark.parametrize("width", [1600, 400, 110])
def test_slide_and_heatmap_are_aligned_at_every_zoom(tab: Tab, width: int) -> None:
    """The view is `width` level-0 pixels wide, its middle a little beside the marked tile."""
    x, y = MARKER[0] + 36, MARKER[1] + 30
    where = f"/slides/s1#x={x}&y={y}&w={width}&truth=0&opacity=100&scale=raw"
    tab.open(f"{where}&overlay=0")
    image = tab.seen()
    slide = box_of(image, BLUE)
    tab.open(f"{where}&threshold=500")
    heat = box_of(tab.seen(), YELLOW)
    height, px = image.shape[0], image.shape[1] / width
    left, top = image.shape[1] / 2 + (MARKER[0] - x) * px, height / 2 + (MARKER[1] - y) * px
    expected = np.clip([left, top, left + TILE * px, top + TILE * px], 0, [*image.shape[1::-1]] * 2)
    assert np.abs(np.array(heat) - expected).max() <= max(1.5, 0.3 * px)
    assert np.abs(np.array(slide) - heat).max() <= max(2.0, 0.3 * px)


def test_opacity_threshold_and_switches_change_the_view(tab: Tab) -> None:
    page = tab.open(f"/slides/s1#x={MARKER[0] + 32}&y={MARKER[1] + 32}&w=400&truth=0&scale=raw&opacity=100")

    def centre(dx: int = 0) -> np.ndarray:
        image = tab.seen()
        return image[image.shape[0] // 2, image.shape[1] // 2 + dx]

    beside = 300  # screen pixels to the right: a cold tile
    assert np.abs(centre() - YELLOW).max() < 10
    cold = centre(beside)
    page.get_by_label("Opacity").fill("50")
    tab.settle()
    assert np.abs(centre() - (np.array(YELLOW) + BLUE) / 2).max() < 12
    page.locator("body").press("]")
    tab.settle()
    assert tab.state()["threshold"] == "50" and np.abs(centre(beside) - (236, 210, 222)).max() < 6
    assert np.abs(cold - (236, 210, 222)).max() > 20
    page.locator("body").press("o")
    tab.settle()
    assert np.abs(centre() - BLUE).max() < 20
    assert page.locator("#reading .value").inner_text() == "5"


def test_the_slider_of_the_threshold_stays_where_it_is_held(tab: Tab) -> None:
    page = tab.open("/slides/s1#threshold=0")
    slider = page.get_by_label("Hide below")
    before = slider.bounding_box()
    slider.fill("330")
    tab.settle()
    assert page.locator("#threshold-value").inner_text().endswith("(33 %)") and slider.bounding_box() == before


def test_two_views_move_together(tab: Tab) -> None:
    page = tab.open("/slides/s1#side=1&truth=0&overlay=0")
    assert page.locator("#pane-1 .legend h3").inner_text() == "evidence"
    frame = page.locator(PANE).bounding_box()
    page.mouse.move(frame["x"] + 100, frame["y"] + 120)
    page.mouse.wheel(0, -400)
    tab.settle()
    page.mouse.down()
    page.mouse.move(frame["x"] + 160, frame["y"] + 90, steps=4)
    page.mouse.up()
    tab.settle()
    before = tab.state()
    assert float(before["w"]) < 1600 and np.array_equal(tab.seen(), tab.seen("#pane-1"))
    right = page.locator("#pane-1").bounding_box()
    page.mouse.move(right["x"] + 150, right["y"] + 200)
    page.mouse.wheel(0, -300)
    tab.settle()
    assert float(tab.state()["w"]) < float(before["w"]) and np.array_equal(tab.seen(), tab.seen("#pane-1"))


def test_a_shared_link_restores_the_view(tab: Tab) -> None:
    page = tab.open("/slides/s2")
    page.get_by_label("Scale").select_option("percentile")
    page.get_by_label("Colour map").select_option("magma")
    page.get_by_label("Method", exact=True).select_option("evidence")
    page.get_by_label("Hide below").fill("200")
    page.get_by_label("tissue").check()
    page.locator("body").press("+")
    page.locator("body").press("ArrowRight")
    tab.settle()
    state, image = tab.state(), tab.seen()
    expected = {"scale": "percentile", "map": "magma", "method": "evidence", "threshold": "200", "tissue": "1"}
    assert expected.items() <= state.items()
    again = tab.open(page.url.removeprefix(tab.address))
    found = tab.state()
    assert {k: v for k, v in found.items() if k not in "xyw"} == {k: v for k, v in state.items() if k not in "xyw"}
    assert all(abs(float(found[name]) - float(state[name])) < 1 for name in "xyw")
    assert again.get_by_label("Colour map").input_value() == "magma" and np.abs(tab.seen() - image).mean() < 1


@pytest.mark.parametrize(
    "where",
    ["x=-9e7&y=5&w=1", "x=1e300&y=1&w=1e-300", "x=800&y=500&w=1e9", "x=NaN&y=1&w=5", "opacity=a&map=%3Cb%3E&w=-4"],
)
def test_an_invalid_address_still_shows_the_slide(tab: Tab, where: str) -> None:
    tab.open(f"/slides/s1#truth=0&overlay=0&{where}")
    state = tab.state()
    assert 0 <= float(state["x"]) <= 1600 and 0 <= float(state["y"]) <= 1120 and 50 < float(state["w"]) < 4000
    assert state["map"] == "viridis" and (np.abs(tab.seen() - (236, 210, 222)).max(axis=2) < 8).mean() > 0.1


def test_a_click_on_the_top_tile_moves_to_it_and_its_score_is_shown(tab: Tab) -> None:
    page = tab.open("/slides/s1#scale=raw")
    page.locator("#strip .tile").first.click()
    tab.settle()
    state = tab.state()
    assert abs(float(state["x"]) - MARKER[0] - 32) < 2 and abs(float(state["y"]) - MARKER[1] - 32) < 2
    frame = page.locator(PANE).bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.locator("#reading .value", has_text=re.compile("^5$")).wait_for()
    assert "rank 1 of 425" in page.locator("#reading").inner_text()
    px = float(frame["width"]) / float(tab.state()["w"])
    bar = page.locator(".scale-bar span").first
    length = float(re.match(r"[\d.]+", bar.inner_text())[0])
    assert bar.inner_text().endswith("µm") and bar.bounding_box()["width"] * 0.5 / px == pytest.approx(length, rel=0.02)


def test_everything_can_be_reached_by_keyboard(tab: Tab) -> None:
    page = tab.open("/slides/s1")
    page.locator("body").press("?")
    assert page.get_by_role("heading", name="Keyboard shortcuts").is_visible()
    page.keyboard.press("Escape")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.className || document.activeElement.id"))
    wanted = {
        "back",
        "show-keys",
        "openseadragon-canvas",
        "tile",
        "method",
        "side",
        "opacity",
        "threshold",
        "map",
        "scale",
        "tissue",
    }
    assert wanted <= reached
    page.locator("body").press("n")
    page.wait_for_url("**/slides/s2*")
    tab.settle()
    assert "Slide" not in page.title() and page.title().startswith("s2")


def test_keys_typed_with_altgr_work_and_browser_shortcuts_are_ignored(tab: Tab) -> None:
    page = tab.open("/slides/s1")
    press = (
        "more => document.body.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ctrlKey: true, altKey: true, ...more}))"
    )
    page.evaluate(press, {"key": "]", "modifierAltGraph": True})
    page.evaluate(press, {"key": "]", "ctrlKey": False})  # Option on a Mac
    page.evaluate(press, {"key": "o", "altKey": False})  # opens a file
    for _ in range(2):
        page.locator("body").press(",")
    tab.settle()
    assert (tab.state()["threshold"], tab.state()["overlay"], tab.state()["opacity"]) == ("100", "1", "55")


def test_after_a_key_the_score_at_the_centre_is_shown(tab: Tab) -> None:
    page = tab.open(f"/slides/s1#x={MARKER[0] - 68}&y={MARKER[1] + 32}&w=667&scale=raw&truth=0")  # 0.15 of it is 100
    frame = page.locator(PANE).bounding_box()
    page.mouse.move(frame["x"] + 30, frame["y"] + 30)
    page.locator("#reading .value", has_text=re.compile("^0$")).wait_for()
    assert page.locator("#reading-title").inner_text() == "Score under the pointer"
    page.locator("body").press("ArrowRight")
    page.locator("#reading .value", has_text=re.compile("^5$")).wait_for()
    assert page.locator("#reading-title").inner_text() == "Score at the centre of the view"
    assert "higher than 99 % of the tiles" in page.locator("#reading").inner_text()


def test_the_score_under_a_resting_pointer_is_updated_when_the_slide_moves(tab: Tab) -> None:
    page = tab.open(f"/slides/s1#x={MARKER[0] + 32}&y={MARKER[1] + 32}&w=150&scale=raw&truth=0")
    frame = page.locator(PANE).bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 2 + 300, frame["y"] + frame["height"] / 2)
    page.locator("#reading .value", has_text=re.compile("^0$")).wait_for()
    page.locator("#strip .tile").first.evaluate("tile => tile.click()")  # the pointer stays where it is; 5 tiles wide now
    page.locator("#reading", has_text="x 11").wait_for()
    tab.settle()
    px = frame["width"] / float(tab.state()["w"])
    assert f"x {int(MARKER[0] + 32 + 300 / px)}, y" in page.locator("#reading").inner_text()


def test_the_table_header_stays_visible(browser: "api.Browser", made: Results) -> None:
    made.rows += [{**made.rows[-1], "slide_id": f"later{i}"} for i in range(20)]
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            page = tab.open("/")
            page.mouse.move(600, 500)
            page.mouse.wheel(0, 600)
            page.wait_for_function("() => scrollY > 300")
            assert page.get_by_role("button", name="Status").bounding_box()["y"] < 10


def test_a_slide_with_bounds_opens_at_its_scanned_area(browser: "api.Browser", tmp_path: Path) -> None:
    made = Results(tmp_path)
    made.add_bounded("b")
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            page = tab.open("/slides/b")
            first = tab.state()
            assert abs(float(first["x"]) - CORNER[0] - 800) < 2 and abs(float(first["y"]) - CORNER[1] - 560) < 2
            assert 1600 <= float(first["w"]) < 2000
            page.locator("body").press("1")
            tab.settle()
            assert float(tab.state()["w"]) < 1100
            page.locator("body").press("0")
            tab.settle()
            assert {name: tab.state()[name] for name in "xyw"} == {name: first[name] for name in "xyw"}


@pytest.fixture
def odd(browser: "api.Browser", made: Results) -> Iterator[Tab]:
    """s1 moved, scores of s2 are half-written, s10 has no key instances."""
    (made.folder / "s1.svs").unlink()
    (made.results / "scores/tumour/enc/abmil/s2.zarr/attention/c/0").unlink()
    slide = made.add_marked("s10", scored=False, prob=0.1)
    made.rows.pop()
    slide.values[:] = np.nan
    slide.reason = "predicted negative: no key instances"
    made.write_scores(slide, {})
    with serving(made.catalogue()) as address:
        yield from opened(browser, address)


def test_missing_data_are_explained(odd: Tab) -> None:
    page = odd.open(f"/slides/s1#x={MARKER[0] + 32}&y={MARKER[1] + 32}&w=400&overlay=0&truth=0")
    image = odd.seen()
    assert np.abs(image[image.shape[0] // 2, image.shape[1] // 2] - BLUE).max() < 30  # the thumbnail
    assert "the slide file is gone" in page.locator("#notes").inner_text()
    page = odd.open("/slides/s10")
    assert "predicted negative: no key instances" in page.locator(f"{PANE} .message").inner_text()
    page = odd.open("/slides/bad")
    assert HTML in page.locator("#notes").inner_text()
    assert "cannot be displayed" in page.locator(f"{PANE} .message").inner_text()
    page = odd.open("/slides/s2")
    assert "is missing" in page.locator(f"{PANE} .message").inner_text()
    assert odd.faults and all("409" in fault for fault in odd.faults)  # the browser's own word for what the server refused
    odd.faults.clear()


@pytest.fixture
def several(browser: "api.Browser", made: Results) -> Iterator[Tab]:
    """A tab of three targets: tumour, survival and markers."""
    made.add_targets()
    slide = made.add_marked("s1", scored=False)
    made.rows.pop()
    made.write_scores(replace(slide, values=hot_at(slide.coords, (0, 0))), {}, target="survival")
    with serving(made.catalogue()) as address:
        yield from opened(browser, address)


def test_the_target_is_chosen_on_the_slide_and_the_address_keeps_it(several: Tab) -> None:
    page = several.open("/slides/s1")
    assert several.state()["target"] == "tumour" and "P(TUMOUR)" in page.locator("#facts").inner_text().upper()
    before = box_of(several.seen(), YELLOW)
    page.get_by_label("Target").select_option("survival")
    several.settle()
    facts = page.locator("#facts").inner_text()
    assert "34.5, event" in facts and "high risk" in facts and "0.75 (cut-off 0.25)" in facts and "✗" not in facts
    assert several.state()["target"] == "survival" and page.get_by_label("Method", exact=True).input_value() == "attention"
    after = box_of(several.seen(), YELLOW)
    assert after[0] < before[0] - 100 and after[1] < before[1] - 50, "the other target's scores are hot in the first tile"
    page = several.open(page.url.removeprefix(several.address))
    assert page.get_by_label("Target").input_value() == "survival"
    page.get_by_label("Target").select_option("markers")
    several.settle()
    assert "er, her2/neu ✗" in page.locator("#facts").inner_text() and several.state()["entry"] == "enc/abmil"


def test_a_link_without_a_target_opens_the_first(several: Tab) -> None:
    page = several.open("/slides/s1#entry=enc/abmil&method=evidence")
    assert page.get_by_label("Target").input_value() == "tumour" and several.state()["method"] == "evidence"


def test_the_cohort_is_sorted_by_any_target_and_slides_open_with_the_chosen_one(several: Tab) -> None:
    page = several.open("/")
    page.get_by_role("button", name="survival").click()
    assert rows_shown(page) == ["s2", "s1", "s10", "bad"], "−1.5, 0.75, 12"
    page.get_by_label("Target").select_option("survival")
    page.wait_for_url("**/?target=survival")
    several.settle()
    page.get_by_role("button", name="Follow-up").click()
    assert rows_shown(page) == ["s2", "s1", "s10", "bad"], "9, 34.5, 120"
    page.get_by_label("Follow-up").select_option("censored")
    assert rows_shown(page) == ["s2", "s10"]
    page.get_by_role("link", name="s10").click()
    several.settle()
    assert several.state()["target"] == "survival" and page.locator("#position").inner_text() == "2 of 2 listed"


def test_a_finer_heatmap_is_a_method_to_choose_and_lies_where_its_cells_are(browser: "api.Browser", made: Results) -> None:
    made.write_fine(made.add_marked("s7"))
    with serving(made.catalogue()) as address:
        for tab in opened(browser, address):
            x, y = MARKER[0] + TILE // 2, MARKER[1] + TILE // 2
            page = tab.open(f"/slides/s7#x={x}&y={y}&w=400&truth=0&scale=raw&opacity=100&threshold=500")
            titles = page.eval_on_selector_all("#method option", "options => options.map(option => option.textContent)")
            assert titles == ["attention", "attention, fine", "evidence"]
            usual = box_of(tab.seen(), YELLOW)
            page.get_by_label("Method", exact=True).select_option("attention.fine")
            tab.settle()
            image = tab.seen()
            fine, px = box_of(image, YELLOW), image.shape[1] / 400
            centre = image.shape[1] / 2, image.shape[0] / 2
            assert np.abs(np.array(fine) - [*centre, *(side + TILE / 2 * px for side in centre)]).max() <= 2
            assert fine[2:] == pytest.approx(usual[2:], abs=2), "its lower right quarter"
            assert tab.state()["method"] == "attention.fine" and page.locator("#reading .value").inner_text() == "9"
            page = tab.open(page.url.removeprefix(tab.address))
            assert page.get_by_label("Method", exact=True).input_value() == "attention.fine"
