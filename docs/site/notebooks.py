"""Hook of MkDocs: the notebooks in docs/tutorials/ are run, and become pages with what they printed and drew.

They run one after the other, as in the navigation, in one empty folder. A cell that fails ends the build.
`WSI_MIL_TUTORIALS=show` shows them without running them, for a quick look at the other pages.
"""

import base64
import logging
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

LOG = logging.getLogger("mkdocs.hooks.notebooks")
TIMEOUT_S = 900
"""For a cell; the whole workflow of a tutorial is one."""

SHOWN_LINES = 40
"""Lines of a text that a cell prints; the middle of a longer one is left out."""

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; the notebook itself can be downloaded from it."""
    nav = str(config.nav)
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    notebooks.sort(key=lambda file: nav.find(file.src_uri.removesuffix(".ipynb")))
    with tempfile.TemporaryDirectory(prefix="tutorials") as folder:
        for file in notebooks:
            notebook = nbformat.read(file.abs_src_path, as_version=4)
            if os.environ.get("WSI_MIL_TUTORIALS") != "show":
                execute(notebook, Path(folder), file.src_uri)
            name = file.src_uri.removesuffix(".ipynb")
            text, pictures = page(notebook, name.rpartition("/")[2])
            files.append(File.generated(config, f"{name}.md", content=text))
            for picture, content in pictures.items():
                files.append(File.generated(config, f"{name}/{picture}", content=content))
    return files


def execute(notebook: nbformat.NotebookNode, folder: Path, name: str) -> None:
    """Run a notebook in a folder, with the commands of this interpreter's environment."""
    begin = time.monotonic()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    except CellExecutionError as error:
        raise PluginError(f"{name}: a cell failed\n{ESCAPES.sub('', str(error))}") from error
    LOG.info("%s ran in %.0f s", name, time.monotonic() - begin)


def page(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, with its pictures by their file names."""
    parts, pictures = [], dict[str, bytes]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(code(cell.source))
            parts += [shown(output, name, pictures) for output in cell.outputs]
    download = f'[Download this notebook]({name}.ipynb){{ .md-button download="{name}.ipynb" }}'
    parts.insert(1, f"{download}\n")
    return "\n\n".join(part for part in parts if part), pictures


def code(source: str) -> str:
    """Return a cell of code as a block of its language."""
    shell = re.fullmatch(r"%%bash.*\n([\s\S]*)", source)
    return f"```bash\n{shell[1]}\n```" if shell else f"```python\n{source}\n```"


def shown(output: nbformat.NotebookNode, name: str, pictures: dict[str, bytes]) -> str:
    """Return what a cell printed or drew, without warnings on standard error; pictures are added to `pictures`."""
    if output.get("name") == "stderr":
        return ""
    if output.output_type == "stream":
        return printed(output.text)
    data: dict[str, Any] = output.get("data", {})
    for kind, ending in (("image/png", "png"), ("image/jpeg", "jpg")):
        if kind in data:
            file = f"{len(pictures) + 1}.{ending}"
            pictures[file] = base64.b64decode(data[kind])
            return f"![{output.metadata.get('alt', 'what the cell above draws')}]({name}/{file})"
    return printed(data.get("text/plain", ""))


def printed(text: str) -> str:
    """Return text as a block of output, without colours of a terminal, and not too long."""
    lines = [line.rpartition("\r")[2] for line in ESCAPES.sub("", text).rstrip("\n").replace("\r\n", "\n").split("\n")]
    if len(lines) > SHOWN_LINES:
        lines[SHOWN_LINES - 10 : -10] = ["…"]
    return '```{ .text .no-copy .output title="Output" }\n' + "\n".join(lines) + "\n```" if any(lines) else ""
