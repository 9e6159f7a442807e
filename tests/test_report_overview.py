import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.targets import NAME
from tests.test_report import CLASSES, PROBS, REPORT, TRUTH, lines, overview, page, write_model, write_tiled
from tests.test_report_contact_sheet import write_failed
from tests.test_report_summary import cohort, model
from wsi_mil.report.overview import MAX_LIMITATIONS, summarised
from wsi_mil.report.summary import Limitation


class Table(HTMLParser):
    """Texts of the cells of a page's first table, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._is_open, self._in_cell = True, False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self._is_open and tag == "tr":
            self.rows.append([])
        elif self._is_open and tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._is_open = self._is_open and tag != "table"
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._is_open and self._in_cell:
            self.rows[-1][-1] += data


def test_each_target_and_model_has_a_row_with_its_figure_the_best_first(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/poor", lines([1 - p for p in PROBS]))
    write_model(tmp_path, "enc/good", lines(PROBS))
    page(tmp_path, ["poor", "good"])
    html = overview(tmp_path)
    head, first, second = Table(html).rows
    assert head == ["Target", "Encoder · model", "Main figure", "Value", "95 % interval", "Slides", "Patients"]
    assert first[0].startswith(NAME) and first[1:4] == ["enc · good", "AUROC", "0.933"] and first[5:] == ["8", "8"]
    assert re.fullmatch(r"0\.\d{3}–1\.000", first[4]), "14 of 15 pairs; the interval reaches 1"
    assert second[:4] == ["", "enc · poor", "AUROC", "0.067"] and second[4].endswith("not shown to be better than chance")
    assert f'<a href="{NAME}.html">{NAME}</a>' in html and (tmp_path / "report" / f"{NAME}.html").exists()


def test_a_target_without_a_labelled_slide_has_dashes(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", [line | {"label": ""} for line in lines(PROBS)])
    page(tmp_path, ["a"])
    _, row = Table(overview(tmp_path)).rows
    assert row[1:] == ["enc · a", "AUROC", "–", "–", "0", "0"]


def test_one_target_is_described_without_another_click(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    write_failed(tmp_path, "s3", "gone.svs: no slide")
    page(tmp_path, ["a"])
    html = overview(tmp_path)
    assert "9 slides of 9 patients. 8 of them could be used. Not used: 1 failed." in html
    assert "Slides: 5 labelled “normal” and 3 labelled “tumour”, and 1 without a label, which is only predicted." in html
    assert "the model enc · a classified 6 correctly" in html and "1 slide could not be used." in html
    assert html.count("gone.svs: no slide") >= 2, "in the table of slides, and of those that could not be used"
    assert "model: abmil" in html, "the settings"


def test_what_is_the_same_for_all_targets_stands_on_one_page_only(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    write_tiled(tmp_path, "s1", warnings=["odd mask"])
    own, first = page(tmp_path, ["a"]), overview(tmp_path)
    for part in ("masks", "settings", "targets"):
        assert (f'<h2 id="{part}">' in first, f'<h2 id="{part}">' in own) == (True, False)
    for part in ("figures", "compared", "explanations", "batch-effects", "slides"):
        assert (f'<h2 id="{part}">' in first, f'<h2 id="{part}">' in own) == (False, True)
    assert "odd mask" in first and "odd mask" not in own and 'href="index.html#masks">Details' in own


def test_links_between_the_pages_lead_somewhere(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    pages = {f"{NAME}.html": page(tmp_path, ["a"]), "index.html": overview(tmp_path)}
    pages[f"{NAME}.tiles.html"] = (tmp_path / "report" / f"{NAME}.tiles.html").read_text()
    ids = {name: set(re.findall(r' id="([^"]+)"', html)) for name, html in pages.items()}
    for name, html in pages.items():
        links = [link.partition("#") for link in re.findall(r'<a [^>]*href="([^"]+)"', html)]
        assert len(links) >= 3 and all(file in ("", *pages) for file, *_ in links)
        assert [place for file, _, place in links if place and place not in ids[file or name]] == []


def test_every_slide_has_a_row_with_its_label_and_a_link_to_its_heatmaps(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    write_failed(tmp_path, "s3", "no slide")
    page(tmp_path, ["a"])
    table = overview(tmp_path).split('<table id="slides-table">')[1]
    rows = {row[0]: row for row in Table(table).rows[1:]}
    assert [rows[f"s{i}"][4] for i in range(9)] == [*(CLASSES[label] for label in TRUTH), "–"]
    assert f'<a href="{NAME}.html#slide-s8">–</a>' in table and "#slide-s3" not in table
    assert rows["s3"][2] == "failed" and rows["s3"][5] == "no slide"


def test_the_most_important_limitations_are_shown_and_the_others_counted() -> None:
    cautions = [Limitation(f"caution {k}") for k in range(MAX_LIMITATIONS + 2)]
    found = summarised("t", cohort(), [model(PROBS)], ["sentence"], cautions)
    assert [c.text for c in found.limitations] == ["caution 0", "caution 1", "caution 2"] and found.n_more == 2
    assert summarised("t", cohort(), [model(PROBS)], [], cautions[:2]).n_more == 0


def test_slides_that_could_not_be_used_are_no_links() -> None:
    found = summarised("t", cohort("ofooooooe"), [model(PROBS)], [], [])
    assert found.shown_ids == {f"s{i}" for i in (0, 2, 3, 4, 5, 6, 7)}
    assert found.headline == REPORT.headline == "classes normal, tumour (positive: tumour)"


@pytest.mark.parametrize(("low", "expected"), [(0.51, False), (0.5, True), (None, True)])
def test_an_interval_that_reaches_chance_is_marked(low: float | None, expected: bool) -> None:
    (line,) = summarised("t", cohort(), [model(PROBS, auroc_ci95=[low, 1.0])], [], []).lines
    assert line.is_at_chance is expected and (line.interval == "") is (low is None)
