"""Links that are put into the address of the slide page that is open already, and what is then said of the place."""

from collections.abc import Iterator

import pytest

from tests.view.made import MARKER
from tests.view.test_browser import CHROMIUM, Tab, browser, opened

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture


@pytest.fixture
def tab(browser: "api.Browser", served: str) -> Iterator[Tab]:
    yield from opened(browser, served)


def follow(tab: Tab, link: str) -> dict[str, float]:
    """Put a link behind the # of the open page; centre and width of what is then seen."""
    tab.page.evaluate("link => (location.hash = link)", link)
    tab.settle()
    return {name: float(tab.state()[name]) for name in "xyw"}


def test_a_link_to_the_page_that_is_open_leads_to_its_place_even_if_it_splits_the_view(tab: Tab) -> None:
    tab.open(f"/slides/s1#x={MARKER[0]}&y={MARKER[1]}&w=400")
    assert follow(tab, "side=1&x=800&y=500&w=500") == pytest.approx({"x": 800, "y": 500, "w": 500}, abs=1)
    assert follow(tab, "side=0&x=300&y=200&w=900") == pytest.approx({"x": 300, "y": 200, "w": 900}, abs=1)


@pytest.mark.parametrize("place", ["x=foo&y=2&w=300", "w=300", "x=5&y=NaN&w=300", "x=5&y=5&w=-1", ""])
def test_a_link_without_a_position_does_not_move_the_view(tab: Tab, place: str) -> None:
    page = tab.open("/slides/s1#x=800&y=500&w=400")
    assert follow(tab, f"method=evidence&{place}") == pytest.approx({"x": 800, "y": 500, "w": 400}, abs=1)
    assert page.locator("#pane-0 .legend h3").inner_text() == "evidence"
    assert page.locator(".scale-bar").first.inner_text() == "20 µm"


def test_a_score_outside_the_colour_bar_is_reported(tab: Tab) -> None:
    """5.0 in a slide of probability 0.9 is shown as 4.5; the bar ends at 1, since one tile of 425 is above 0."""
    page = tab.open(f"/slides/s1#x={MARKER[0] + 32}&y={MARKER[1] + 32}&w=400&scale=auto")
    page.get_by_text("on the colour bar: 4.5, above its maximum 1 (100 %)").wait_for()
    follow(tab, f"x={MARKER[0] + 96}&y={MARKER[1] + 32}&w=400&scale=auto")
    page.get_by_text("on the colour bar: 0 (0 %)").wait_for()
    follow(tab, f"x={MARKER[0] + 32}&y={MARKER[1] + 32}&w=400&scale=raw")
    page.get_by_text("on the colour bar: 5 (100 %)").wait_for()
