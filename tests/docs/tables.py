"""What is generated from settings and records: the tables in docs/ and lists in `config.yaml`.

`python -m tests.docs.tables` writes it anew, and tests compare it with the files.
"""

import json
import re
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from tests.docs.pages import ROOT
from wsi_mil import config
from wsi_mil.config import (
    EXPLANATIONS,
    MHIM,
    MODELS,
    READ_OFF,
    READERS,
    TEACHERS,
    Clinical,
    ModelSettings,
    Settings,
    Training,
    sentence_of,
    supports,
)
from wsi_mil.config.models import EVERY_KIND
from wsi_mil.encoders.listing import markdown_table

_SETTINGS = re.compile(r"(?<=<!-- settings: )(\w+)( -->\n)(?:\|[^\n]*\n)*(?=<!-- end of settings -->)")
_RECORDS = re.compile(r"(?<=<!-- records: )(\w+)( -->\n).*?(?=<!-- end of records -->)", re.DOTALL)

WIDTH = 130
"""Columns of `config.yaml`."""
MODEL_COMMENT, COMMENT = 31, 29
"""Columns at which the comments of the other models and of the other blocks begin."""


def with_tables(text: str) -> str:
    """A page with its tables as the settings and records are now."""
    text = _SETTINGS.sub(lambda match: match[1] + match[2] + table(getattr(config, match[1])), text)
    return _RECORDS.sub(lambda match: match[1] + match[2] + RECORDS[match[1]](), text)


def with_lists(text: str) -> str:
    """The template `config.yaml` with its other models and the lists in its comments as the records are now."""
    for key, comment in _comments(yaml.safe_load(text)).items():
        line = re.compile(rf"^({key}: (?:\[.*?\]|\S+)).*\n(?: +#.*\n)*", re.MULTILINE)
        text = line.sub(lambda match, comment=comment: _commented(match[1], comment, COMMENT), text)
    others = re.compile(r"(?<=\n)(# ---- other models.*\n)(?:#.*\n)*")
    return others.sub(lambda match: match[1] + _other_models(text), text)


def _comments(template: dict[str, Any]) -> dict[str, str]:
    """By indented key, the comments that list names of records."""
    others = [name for name in EXPLANATIONS if name not in template["explain"]["methods"]]
    return {
        "  reader": f"auto: the fastest that gives OpenSlide's pixels; or {', '.join(READERS)}",
        "    base": f"an entry of {', '.join(TEACHERS)}",
        "  methods": "each gets a heatmap, for the models that support it (docs/explanations.md compares them); also "
        + ", ".join(others),
        "    score": f"method that scores the refined bag: {', '.join(READ_OFF)}",
    }


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


def _models() -> str:
    lines = [
        "| `model:` | what it is | targets that it learns | scores of a tile that it provides | `best` explanation |",
        "|---|---|---|---|---|",
    ]
    for name, settings in MODELS.items():
        provides, best = (_names(settings.provides), f"`{settings.best}`") if settings is not MHIM else ("those of its base",) * 2
        provides, best = (provides, best) if settings.best else ("none: it sees no tiles", "none")
        learns = "all" if settings.learns == EVERY_KIND else ", ".join(settings.learns)
        lines.append(f"| `{name}` | {sentence_of(settings)} | {learns} | {provides} | {best} |")
    return "\n".join(lines) + "\n"


def _explanations() -> str:
    lines = ["| method | the number | supported by |", "|---|---|---|"]
    for name, record in EXPLANATIONS.items():
        lines.append(f"| `{name}` | {record.sentence} | {_supporters(name)} |")
    return "\n".join(lines) + "\n"


def _supporters(method: str) -> str:
    """The models that a method can explain. Left out are MHIM, which supports what its base does, and what sees no tiles."""
    models = {name: supports(settings.provides, method) for name, settings in MODELS.items() if settings not in (MHIM, Clinical)}
    able, unable = ([name for name in models if models[name] is is_able] for is_able in (True, False))
    if len(unable) < len(able):
        return f"all but {_names(unable)}" if unable else "all"
    return _names(able)


def _readers() -> str:
    lines = ["| reader | reads |", "|---|---|", *(f"| `{name}` | {record.sentence} |" for name, record in READERS.items())]
    return "\n".join(lines) + "\n"


RECORDS: dict[str, Callable[[], str]] = {
    "models": _models,
    "explanations": _explanations,
    "readers": _readers,
    "encoders": markdown_table,
}


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _other_models(text: str) -> str:
    """Entries of the models that the template does not use, commented out."""
    used = {entry["model"] for entry in yaml.safe_load(text)["models"].values()}
    return "".join(_entry(name, settings) for name, settings in MODELS.items() if name not in used)


def _entry(name: str, settings: type[ModelSettings]) -> str:
    """An entry with every key at its default; of `train`, what differs from the other models'."""
    lines = f"#   {name.removesuffix('_pool')}:\n" + _commented(f"#     model: {name}", sentence_of(settings), MODEL_COMMENT, "#")
    for key, field in settings.model_fields.items():
        if key not in ("model", "train"):
            meaning, choices = field.description or "", _choices(field.annotation)
            if any(f"{choice}:" not in meaning for choice in choices):
                meaning = "; ".join(part for part in (", ".join(choices), meaning) if part)
            lines += _commented(f"#     {key}: {_yaml(field.default)}", meaning, MODEL_COMMENT, "#")
    train, default = settings.model_fields["train"].default, Training()
    changed = [f"{key}:_{_yaml(value)}" for key, value in train if value != getattr(default, key, None)]
    if changed:  # rows end between keys
        rows = textwrap.wrap(f"{{{', '.join(changed)}}}", WIDTH - 8, break_on_hyphens=False)
        lines += "#     train:\n" + "".join(f"#       {row.replace(':_', ': ')}\n" for row in rows)
    return lines


def _commented(first: str, comment: str, column: int, prefix: str = "") -> str:
    """A line of YAML with a comment at a column, which goes on below where the line is full."""
    begin = max(column, len(first) + 2)
    head, *rest = textwrap.wrap(comment, WIDTH - begin - 2) or [""]
    if not head:
        return f"{first}\n"
    tail = textwrap.wrap(" ".join(rest), WIDTH - column - 2)
    return f"{first:<{begin}}# {head}\n" + "".join(f"{prefix:<{column}}# {line}\n" for line in tail)


def _shown(value: Any) -> str:
    """A value as YAML has it on one line."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _yaml(value: Any) -> str:
    """A value as YAML writes it, so that it is read as the same type."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=WIDTH)).removesuffix("...\n").strip()


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


def write(file: Path, changed: Callable[[str], str]) -> None:
    """Write a file anew with what is generated in it."""
    file.write_text(changed(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").glob("*.md")):
        write(page, with_tables)
    write(ROOT / "config.yaml", with_lists)
