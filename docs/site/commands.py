"""Hook of MkDocs: the page of the commands, written from their help."""

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from wsi_mil.cli import app


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """Return every command that `wsi-mil --help` lists, by its panel, with arguments and options."""
    panels: dict[str, list[str]] = {}
    for name, command in get_command(app).commands.items():
        if not command.hidden:
            panels.setdefault(command.rich_help_panel, []).append(described(name, command))
    lead = "What `wsi-mil COMMAND --help` prints. Exit codes: 0 success, 1 a fault of the machine, 2 a fault of the input."
    return f"# Commands\n\n{lead}\n" + "".join(f"\n## {panel}\n" + "".join(texts) for panel, texts in panels.items())


def described(name: str, command: Any) -> str:
    """Return the section of one command."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False) and parameter.name != "help"]
    rows = "".join(f"| {names(parameter)} | {meaning(parameter)} |\n" for parameter in shown)
    table = f"\n| argument or option | meaning |\n|---|---|\n{rows}" if rows else ""
    return f"\n### wsi-mil {name}\n\n{paragraphs(command.help)}\n{table}"


def names(parameter: Any) -> str:
    """Return how a parameter is written."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{option}`" for option in parameter.opts)


def meaning(parameter: Any) -> str:
    """Return the help of a parameter with its default, as a cell of a table."""
    text = (parameter.help or "").replace("\n", " ")
    default = parameter.default
    if parameter.required:
        text += "; required"
    elif default not in (None, False, "", ()) and not callable(default):
        text += f"; default `{default}`"
    return text.removeprefix("; ").replace("|", "\\|")


def paragraphs(text: str | None) -> str:
    """Return the help text without the marks of the command line."""
    return re.sub(r"\n(?!\n)[ \t]*", "\n", (text or "").replace("\b", "").replace("\f", "")).strip()
