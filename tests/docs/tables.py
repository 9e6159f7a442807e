"""The tables of settings in docs/: made from the settings themselves by `python -m tests.docs.tables`, and held to them."""

import json
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tests.docs.pages import ROOT
from wsi_mil import config
from wsi_mil.config import Settings

_TABLE = re.compile(r"(?<=<!-- settings: )(\w+)( -->\n)(?:\|[^\n]*\n)*(?=<!-- end of settings -->)")


def with_tables(text: str) -> str:
    """A page with its tables as the settings are now."""
    return _TABLE.sub(lambda match: match[1] + match[2] + table(getattr(config, match[1])), text)


def table(settings: type[Settings]) -> str:
    """A line for each key: name, default, meaning; keys that are blocks of their own are left out."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            continue
        default = "required" if field.is_required() else f"`{_shown(field.default)}`"
        choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
        meaning = "; ".join(part for part in (choices, field.description or "") if part).replace("|", "\\|")
        lines.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    """As YAML has it on one line."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _choices(kind: Any) -> list[str]:
    """The words that a key may have, where it may have nothing else; of a list, each of its items."""
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if get_origin(kind) is tuple:
        return _choices(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [choice for part in get_args(kind) for choice in _choices(part)]
    return []


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").glob("*.md")):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
