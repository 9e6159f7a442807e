"""Contrast as WCAG 2.2 AA asks for it, of what the browser computed: text 4.5:1, large text and parts of controls 3:1."""

import shutil
from collections.abc import Iterator

import pytest

from tests.view.conftest import serving
from tests.view.made import Results
from tests.view.test_browser import Tab, browser, opened

CHROMIUM = shutil.which("chromium")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]

assert browser  # a fixture

Colour = tuple[float, float, float, float]
BLACK, WHITE = (0.0, 0.0, 0.0, 1.0), (255.0, 255.0, 255.0, 1.0)

COMPUTED = """() => {
  const colour = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 1;
  const backgrounds = (e) => {
    const found = [];
    for (; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      const layer = colour(style.backgroundColor);
      if (e.matches(".pane")) { found.push("picture"); break; }
      if (layer[3] > 0) found.push(layer);
      if (e.matches("dialog")) break;
    }
    return found;
  };
  const opacity = (e) => e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1;
  const found = [];
  const text = (e, says, pseudo) => {
    const style = getComputedStyle(e, pseudo);
    const px = parseFloat(style.fontSize);
    const large = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
    found.push({ says, least: large ? 3 : 4.5, fore: colour(style.color), backgrounds: backgrounds(e), opacity: opacity(e) });
  };
  const part = (e, says, fore, ground) =>
    found.push({ says, least: 3, fore: colour(fore), backgrounds: backgrounds(ground), opacity: opacity(e) });
  for (const e of document.querySelectorAll("body, body *")) {
    if (!seen(e) || e.matches("option, script")) continue;
    const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
    const says = `${e.tagName}.${e.className} ${own.slice(0, 30)}`;
    if (own || e.matches("select, input[type=search]")) text(e, says);
    if (e.placeholder) text(e, `${says} placeholder`, "::placeholder");
    const style = getComputedStyle(e);
    const edged = parseFloat(style.borderTopWidth) > 0 && colour(style.borderTopColor)[3] > 0;
    const shaped = e.matches("select, input[type=search], button, nav a, .swatch") && !e.matches(".tile");
    if (shaped && edged) part(e, `${says} border`, style.borderTopColor, e.parentElement);
  }
  return found;
}"""

FOCUS = """() => {
  const e = document.activeElement, style = getComputedStyle(e), pane = e.closest(".pane");
  const ring = pane ? getComputedStyle(pane, "::after") : style;
  const colour = (text) => text.match(/[\\d.]+/g).map(Number).slice(0, 3);
  let ground = e.parentElement;
  while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  return {
    says: `${e.tagName} ${e.id || e.name || e.className}`, over: Boolean(pane), width: parseFloat(ring.outlineWidth),
    style: ring.outlineStyle, outline: colour(ring.outlineColor), border: colour(ring.borderTopColor),
    ground: ground ? colour(getComputedStyle(ground).backgroundColor) : [255, 255, 255],
  };
}"""


def over(top: Colour, bottom: Colour) -> Colour:
    """A colour, red, green and blue to 255, laid over an opaque one."""
    red, green, blue = (t * top[3] + b * (1 - top[3]) for t, b in zip(top[:3], bottom[:3], strict=True))
    return red, green, blue, 1.0


def luminance(colour: Colour) -> float:
    """Relative luminance of an opaque colour, 0 to 1."""
    parts = [part / 255 for part in colour[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    """From 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def least_contrast(item: dict) -> float:
    """Of what stands on its backgrounds, innermost first; over a picture the worse of a black and a white one."""
    layers = list(item["backgrounds"])
    bottoms = [BLACK, WHITE] if layers and layers[-1] == "picture" else [WHITE]
    found = []
    for ground in bottoms:
        for layer in reversed([tuple(layer) for layer in layers if layer != "picture"]):
            ground = over(layer, ground)
        fore = (*item["fore"][:3], item["fore"][3] * item["opacity"])
        found.append(contrast(over(fore, ground), ground))
    return min(found)


def faint(page: "api.Page") -> list[str]:
    """What has too little contrast, in words."""
    items = page.evaluate(COMPUTED)
    assert len(items) > 20
    return [f"{least_contrast(i):.2f} < {i['least']}: {i['says']}" for i in items if least_contrast(i) < i["least"]]


@pytest.fixture
def spoken(browser: "api.Browser", made: Results) -> Iterator[Tab]:
    """Every status, a wrong prediction, notes."""
    made.write_status(
        {"s1": ("ok", ""), "s2": ("empty", "no tissue"), "s10": ("ok", ""), "bad": ("failed", "odd"), "x": ("skipped", "no mpp")}
    )
    made.rows.append({**made.rows[-1], "slide_id": "later"})
    with serving(made.catalogue(notes=("something is to be said",))) as address:
        yield from opened(browser, address)


def test_contrast_is_computed_as_defined() -> None:
    assert contrast(BLACK, WHITE) == pytest.approx(21)
    assert contrast((119, 119, 119, 1), WHITE) == pytest.approx(4.48, abs=0.01)
    assert least_contrast({"fore": (0, 0, 0, 1), "opacity": 0.5, "backgrounds": [(255, 255, 255, 1)]}) == pytest.approx(
        3.95, abs=0.05
    )
    legend = {"fore": (0, 0, 0, 1), "opacity": 1, "backgrounds": [(255, 255, 255, 0.5), "picture"]}
    assert least_contrast(legend) == pytest.approx(contrast((127.5, 127.5, 127.5, 1), BLACK))


def test_every_text_of_the_cohort_page_has_enough_contrast(spoken: Tab) -> None:
    page = spoken.open("/")
    assert page.locator("b.skipped").count() and page.locator("b.not-run").count() and page.locator("b.wrong").count()
    assert faint(page) == []
    page.get_by_label("Search").fill("zebra")
    assert faint(page) == []


@pytest.mark.parametrize("path", ["/slides/s1#side=1", "/slides/s10", "/slides/bad", "/slides/later"])
def test_every_text_of_a_slide_page_has_enough_contrast(spoken: Tab, path: str) -> None:
    page = spoken.open(path)
    assert faint(page) == []
    page.keyboard.press("?")
    assert faint(page) == []


@pytest.mark.parametrize("path", ["/", "/slides/s1"])
def test_the_focused_element_is_visible(spoken: Tab, path: str) -> None:
    page = spoken.open(path)
    rings = []
    for _ in range(24):
        page.keyboard.press("Tab")
        rings.append(page.evaluate(FOCUS))
    for ring in [ring for ring in rings if not ring["says"].startswith("BODY")]:  # after the last
        assert ring["style"] == "solid" and ring["width"] >= 2, ring
        ground = ring["border"] if ring["over"] else ring["ground"]  # over the slide: two lines
        assert contrast((*ring["outline"], 1.0), (*ground, 1.0)) >= 3, ring
