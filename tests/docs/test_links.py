"""Every relative link of the documentation leads somewhere."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            dead.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file):
            dead.append(f"{target}: no such heading; there are {sorted(anchors(file))}")
    assert not dead


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        targets = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        ahead += [file for file in targets if file.suffix == ".md" and file.is_file() and file not in seen]
    assert not set(PAGES) - seen


def test_headings_become_anchors_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Speed, GPUs: `x_y`\n```\n# no heading\n```\n## Twice\n## Twice\n### n·a·P [here](x.md)\n")
    assert anchors(page) == {"speed-gpus-x_y", "twice", "twice-1", "nap-here"}
    page.write_text("[a](b.md#c) ![p](q(1).png) `[no](x)` [out](https://x.org/y) [up](../z)\n")
    assert links(page) == ["b.md#c", "q(1).png", "../z"]
