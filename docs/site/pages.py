"""Hook of MkDocs: the Markdown that is right on GitHub becomes right on the site.

Files outside docs/ that pages link to become pages or files of the site, links lead to them, and the few places are changed
where Python-Markdown reads Markdown in another way than GitHub.
"""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import wsi_mil

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "config.yaml": "config.md",
}
"""Files outside docs/ that are pages of the site, by their place in the repository."""

ALIASES = {"docs/README.md": "index.md", "docs": "index.md", "docs/tutorials": "tutorials/README.md"}
"""Places in the repository that another page of the site takes the place of: its navigation is the list of pages."""

CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^()\s#]+(?:\([^()\s]*\))?[^()\s#]*)")
NAMED = re.compile(r"\[((?:[\w./]+)\.md)\]\(([\w./]+\.md)")
NAMES = {
    "Slides and tiles": (
        "open_slide",
        "Slide",
        "read_tiles",
        "tile_slide",
        "SlideRow",
        "Status",
        "TileSettings",
        "Tiling",
        "Tissue",
    ),
    "From slides to a heatmap": ("encoded_slide", "fitted_model", "fitted_for", "class_probs", "tile_scores", "draw_scores"),
    "Settings": ("Encoder", "Heatmap", "Training", "SparseInversion"),
    "Results of a run": ("read_grid", "TileGrid", "read_bag", "Bag", "read_scores", "InstanceScores", "read_checkpoint"),
    "Training": ("fit", "predict_outputs", "BagSet", "LabelledBag", "Classes", "Multilabel", "Regression", "Survival"),
    "Models": (
        "MILModel",
        "MILOutput",
        "create_mhim",
        "ABMIL",
        "TransMIL",
        "DSMIL",
        "CLAM",
        "DTFD",
        "MHIM",
        "KrausPool",
        "InstancePool",
        "EmbeddingPool",
    ),
    "Sparse network inversion": ("refine",),
    "Errors": ("WsiMilError", "ConfigError", "DataError", "SlideError"),
}
"""Headings of the reference; a public name under none of them has a heading of its own at the end."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files of the repository that are outside docs/."""
    for place, uri in PAGES.items():
        files.append(File.generated(config, uri, content=page_text(place)))
    files.append(File.generated(config, "reference.md", content=reference()))
    linked = {place for file in files.documentation_pages() for place in places(file.content_string, file.src_uri)}
    for place in sorted(linked):
        if not place.startswith("docs/") and place not in PAGES and (ROOT / place).is_file():
            files.append(File.generated(config, site_uri(place), abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page's Markdown as Python-Markdown reads it like GitHub, with links between places of the site."""
    parts = CODE.split(markdown)
    titles = {file.src_uri: file.page.title for file in files.documentation_pages() if file.page}
    parts[::2] = [prose(part, page.file.src_uri, titles) for part in parts[::2]]
    return "".join(parts)


def prose(text: str, uri: str, titles: Mapping[str, str | None]) -> str:
    """Return text outside of code with links of the site, without comments, and with a blank line before each list.

    A link that has the name of a page's file gets the page's title, and a reference `[[1]]` is written so that it is one here.
    """
    text = NAMED.sub(lambda match: f"[{titles.get(site_uri(place_of(match[2], uri))) or match[1]}]({match[2]}", text)
    text = re.sub(r"\[\[(\d+)\]\]", r"[\\[\1\\]][\1]", text)
    text = LINK.sub(lambda match: site_link(match[1], uri), text)
    text = re.sub(r"^<details>", '<details markdown="1">', text, flags=re.MULTILINE)
    text = re.sub(r"^<!--.*?-->$", "\n", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^(?![-*|>#\s]|\d+\. )(.+)\n(?=[-*] |1\. )", r"\1\n\n", text, flags=re.MULTILINE)


def page_text(place: str) -> str:
    """Return the Markdown of a page outside docs/; a file of settings becomes a block of code."""
    text = (ROOT / place).read_text(encoding="utf-8")
    if place == "README.md":
        return f"---\nhide: [navigation]\n---\n\n{text}"
    if not place.endswith(".yaml"):
        return text
    lead = "`config.yaml` is the configuration of the demo and a template for your own. It shows every setting with its default."
    return f"# Every setting\n\n{lead} The pages of the stages explain them.\n\n```yaml\n{text}```\n"


def reference() -> str:
    """Return the page of the public names, whose contents mkdocstrings writes from the docstrings."""
    others = tuple(sorted(set(wsi_mil.__all__) - {name for names in NAMES.values() for name in names}))
    lead = (
        "What `from wsi_mil import …` offers. [Public interface](api.md) has an overview, with examples, and says what is stable."
    )
    parts = [f"# Python names\n\n{lead}\n"]
    for heading, names in (*NAMES.items(), *((("Others", others),) if others else ())):
        parts += [f"\n## {heading}\n", *(f"\n::: wsi_mil.{name}\n" for name in names)]
    return "".join(parts)


def places(text: str, uri: str) -> set[str]:
    """Return the places in the repository that a page links to."""
    return {place_of(match[1], uri) for part in CODE.split(text)[::2] for match in LINK.finditer(part)}


def place_of(target: str, uri: str) -> str:
    """Return the place in the repository of a link's target, seen from a page of the site."""
    origin = next((place for place, page in PAGES.items() if page == uri), f"docs/{uri}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def site_uri(place: str) -> str:
    """Return the place on the site of a file of the repository."""
    uri = PAGES.get(place) or ALIASES.get(place)
    if uri:
        return uri
    if place.startswith("docs/"):
        return re.sub(r"\.ipynb$", ".md", place.removeprefix("docs/"))
    return f"files/{place}.txt"  # browsers show text, whatever the file is


def site_link(target: str, uri: str) -> str:
    """Return a link of a page as it is right on the site."""
    return posixpath.relpath(site_uri(place_of(target, uri)), posixpath.dirname(uri) or ".")
