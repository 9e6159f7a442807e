"""The site of the documentation: navigation, tutorials, links, versions, and that nothing is fetched from elsewhere."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from mkdocs.utils.yaml import yaml_load

import wsi_mil
from tests.docs.pages import ROOT, anchors
from wsi_mil.version import __version__

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def hook(name: str) -> ModuleType:
    """A hook of the site as a module."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings() -> dict[str, Any]:
    return yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages_of(nav: Any) -> Iterator[str]:
    """Pages of a navigation, at any depth."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages_of(part)


def notebook(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_page_is_in_the_navigation_once_and_nothing_else_is() -> None:
    docs = ROOT / "docs"
    written = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")} - {"README.md"}
    written |= {tutorial.relative_to(docs).with_suffix(".md").as_posix() for tutorial in TUTORIALS}
    generated = {*hook("pages").PAGES.values(), "reference.md", "commands.md"}
    listed = list(pages_of(settings()["nav"]))
    assert sorted(listed) == sorted(written | generated)


def test_no_name_stands_twice_in_the_reference_and_none_is_missing() -> None:
    names = re.findall(r"^::: wsi_mil\.(\w+)$", hook("pages").reference(), re.MULTILINE)
    assert sorted(names) == sorted(wsi_mil.__all__)


def test_the_page_of_the_commands_has_every_command_that_the_help_lists() -> None:
    text = hook("commands").page()
    env = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
    listed = subprocess.run(
        [sys.executable, "-m", "wsi_mil", "--help"], env=env, text=True, capture_output=True, check=True
    ).stdout
    commands = re.findall(r"^[│|] ([a-z][a-z-]+)  ", listed, re.MULTILINE)
    assert len(commands) > 20 and sorted(re.findall(r"^### wsi-mil (\S+)$", text, re.MULTILINE)) == sorted(commands)
    assert "| `--slides` | number of slides; half of them have a lesion; default `24` |" in text


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("train.md", "../config.yaml", "config.md"),
        ("train.md", "explain.md", "explain.md"),
        ("api.md", "README.md", "index.md"),
        ("tutorials/judging_heatmaps.md", "../trust.md", "../trust.md"),
        ("tutorials/judging_heatmaps.md", "slides_to_report.ipynb", "slides_to_report.md"),
        ("index.md", "docs/tutorials/slides_to_report.ipynb", "tutorials/slides_to_report.md"),
        ("index.md", "docs/heatmap.jpg", "heatmap.jpg"),
        ("benchmarks.md", "../docs/papers.md", "papers.md"),
        ("cluster.md", "../workflow/rules/resources.smk", "files/workflow/rules/resources.smk.txt"),
    ],
)
def test_a_link_that_is_right_in_the_repository_is_right_on_the_site(page: str, link: str, expected: str) -> None:
    assert hook("pages").site_link(link, page) == expected


def test_markdown_is_changed_outside_of_code_only() -> None:
    text = "Two ways:\n- `[a](../config.yaml)`\n- [train.md](train.md#settings), [[7]]\n<!-- settings: X -->\n| a |\n"
    expected = "Two ways:\n\n- ``\n- [Training](train.md#settings), [\\[7\\]][7]\n\n\n| a |\n"
    changed = hook("pages").prose(text.replace("`[a](../config.yaml)`", "``"), "explain.md", {"train.md": "Training"})
    assert changed == expected
    assert hook("pages").CODE.split("a `[b](c)` d\n```\n[e](f)\n```\n")[::2] == ["a ", " d\n", "\n"]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    cells = notebook(path)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 3 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", text):
        file = (path.parent / target).resolve()
        assert file.is_file() and (not anchor or anchor in anchors(file)), target


def test_a_command_of_a_tutorial_ends_the_build_if_it_fails() -> None:
    for cell in (cell for path in TUTORIALS for cell in notebook(path)["cells"] if cell["cell_type"] == "code"):
        source = "".join(cell["source"])
        assert not re.search(r"^\s*!", source, re.MULTILINE), "a cell passes whatever ! returns: begin it with %%bash -e"
        assert not source.startswith("%%bash") or source.startswith("%%bash -e\n"), source


def test_a_failing_cell_is_an_error_with_its_message(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    from mkdocs.exceptions import PluginError

    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell("%%bash\necho no such slide >&2; exit 3")]
    with pytest.raises(PluginError, match=r"lesson.ipynb: a cell failed[\s\S]*exit status 3"):
        hook("notebooks").execute(nbformat.v4.new_notebook(cells=cells), tmp_path, "lesson.ipynb")


def test_outputs_of_a_notebook_become_blocks_and_pictures() -> None:
    nbformat = pytest.importorskip("nbformat")
    v4, notebooks = nbformat.v4, hook("notebooks")
    cell = v4.new_code_cell("print(1)")
    cell.outputs = [
        v4.new_output("stream", text="\x1b[31m1\x1b[0m\n"),
        v4.new_output("display_data", data={"image/png": "iVBORw=="}),
    ]
    text, pictures = notebooks.page(
        v4.new_notebook(cells=[v4.new_markdown_cell("# T"), cell, v4.new_code_cell("%%bash -e\nls")]), "t"
    )
    assert pictures == {"1.png": b"\x89PNG"[:4]}
    assert text.startswith("# T\n\n[Download this notebook](t.ipynb)")
    assert '```python\nprint(1)\n```\n\n```{ .text .no-copy .output title="Output" }\n1\n```' in text
    assert text.count("Output") == 1 and "](t/1.png)" in text and text.endswith("```bash\nls\n```")
    long = notebooks.printed("\n".join(map(str, range(100))))
    assert long.count("\n") == notebooks.SHOWN_LINES + 2 and "\n29\n…\n90\n" in long


class Sources(HTMLParser):
    """Addresses that a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.fetched += [address for name in ("src", "srcset", "poster") if (address := values.get(name))]
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(values.get("href") or "")


@pytest.mark.slow
@pytest.mark.system
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    env = {**os.environ, "WSI_MIL_TUTORIALS": "show", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=600)
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        sources = Sources()
        text = page.read_text(encoding="utf-8")
        assert "| --- |" not in text and "|---|" not in text, "a table that Python-Markdown does not read as one"
        sources.feed(text)
        assert sources.fetched
        for address in sources.fetched:
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
            assert (
                address.startswith("data:") or (page.parent / address.partition("?")[0]).is_file() or page.name == "404.html"
            ), address
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"] for entry in index["docs"] if "sparse inversion" in entry["text"].lower()}
    assert {"explain.html", "glossary.html"} & {location.partition("#")[0] for location in found}


def test_version_and_address_are_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)(?: – (\S+))?$", changelog, re.MULTILINE)
    released = [(version, date) for version, date in headings if version != "Unreleased"]
    assert released[0] == (__version__, citation["date-released"]) and citation["version"] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"].get("version", __version__) == __version__
    owner = citation["repository-code"].split("/")[3]
    for address in project["project"]["urls"].values():
        assert address.startswith((citation["repository-code"], f"https://{owner}.github.io/"))
    install, module = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/install.md", "config/README.md"))
    assert re.findall(r"wsi_mil-(\d[\d.]*)-py3", install) == re.findall(r'tag="v([\d.]+)"', module) == [__version__]


def test_the_citation_has_what_its_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software" and citation["license"] == "Apache-2.0"
    assert all(set(author) & {"name", "family-names"} for author in citation["authors"])
    assert isinstance(citation["version"], str) and re.fullmatch(r"\d{4}-\d\d-\d\d", citation["date-released"])


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_a_form_for_issues_has_fields_with_labels(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] and field["id"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    assert all(field["attributes"]["options"] for field in fields if field["type"] == "dropdown")


def test_the_release_checklist_names_every_file_with_a_placeholder() -> None:
    checklist = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
    command = ["git", "grep", "-l", "OWNER/wsi_mil"]
    tracked = subprocess.run(command, cwd=ROOT, text=True, capture_output=True).stdout.split()
    named = re.findall(r"`([\w./]+)`", checklist)
    unnamed = {name for name in tracked if not any(name == known or name.startswith(f"{known}/") for known in named)}
    assert unnamed <= {"docs/release.md", "tests/docs/test_site.py"}


def test_contributing_is_one_screen_and_the_readme_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 50
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900
