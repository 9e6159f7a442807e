"""The text of a cohort sheet and of a configuration."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsi_mil.encoders import DEFAULT_ENCODER, record_of
from wsi_mil.init.guessing import Candidate
from wsi_mil.init.words import word_set

SHEET, CONFIG = "cohort.csv", "my.yaml"
"""Names of the files that are written."""

LABEL = "label"
EXAMPLE: Mapping[str, Any] = {"kind": "classes", "column": LABEL, "classes": ["negative", "positive"]}
"""Target where there is no table: the column is to be filled."""

MODELS: Mapping[str, Mapping[str, Any]] = {
    "abmil": {"model": "abmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim": {"model": "mhim", "base": "transmil", "train": {"instance_dropout": 0.0}},
}
"""Models of the template config.yaml."""
MODEL_REMARKS = {
    "abmil": "attention-based MIL",
    "transmil": "transformer, of a size for small cohorts",
    "mhim": "hard instance mining with transmil",
}
TILING = {"mpp": 0.5, "tile_px": 224}
"""Where an encoder recommends none."""
DEFAULT_FOLDS = 5
WIDTH = 116
"""Longest line of a target with its remark."""

PLAIN = re.compile(r"[A-Za-z_À-ÖØ-öø-ÿ](?:[\w .()/%+-]*[\w)%+])?")
SHORT_WHOLE = re.compile(r"0|[1-9]\d{0,4}")
NOT_TEXT = word_set("y n yes no on off true false null nan inf")
"""Words that YAML reads as something else."""


@dataclass(frozen=True)
class Setup:
    """What the configuration says beside its targets.

    Attributes:
        encoder: name of the encoder.
        entry: its name in `encoders`.
        tiling: its tiling.
        folds: number of folds.
        missing_mpp: number of slides without a resolution.
        results: name of the results folder.
    """

    encoder: str
    entry: str
    tiling: Mapping[str, Any]
    folds: int = DEFAULT_FOLDS
    missing_mpp: int = 0
    results: str = "results"

    def values(self, sheet: str, results: str, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the configuration as it will be read."""
        return {
            "cohort": sheet,
            "results": results,
            "targets": {name: dict(target) for name, target in targets.items()},
            "tilings": {"default": dict(self.tiling)},
            "encoders": {self.entry: {"encoder": self.encoder, "tiling": "default"}},
            "models": {name: dict(model) for name, model in MODELS.items()},
            "split": {"folds": self.folds},
        }


def setup_of(encoder: str) -> Setup:
    """Return an encoder with the tiling that it was trained on."""
    record = record_of(encoder)
    recommended = {"mpp": record.mpps[0], "tile_px": record.tile_px} if record and record.mpps else TILING
    entry = "efficientnet" if encoder == DEFAULT_ENCODER else re.sub(r"[^a-z0-9_-]+", "_", encoder.rpartition("/")[2].lower())
    return Setup(encoder, entry.strip("_") or "encoder", recommended)


def sheet_text(columns: Mapping[str, Sequence[str]]) -> str:
    """Return a sheet as CSV; columns have one cell for each slide."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def config_text(setup: Setup, active: Sequence[Candidate], offered: Sequence[Candidate]) -> str:
    """Return the configuration, with the doubtful targets as comments that are valid as they are."""
    values = setup.values(SHEET, setup.results, {})
    tiling, encoder = flow(values["tilings"]["default"]), flow(values["encoders"][setup.entry])
    lines = [
        "# Written by `wsi-mil init`; everything that is left out has its default. All settings with their defaults and meaning",
        "# are in config.yaml of wsi_mil, targets in docs/targets.md. After a change: wsi-mil check",
        f"cohort: {SHEET}             # one row per slide",
        f"results: {setup.results:<22}# folder for all results",
        "",
        "targets:                       # what models learn of a slide, one entry per question",
        *_targets(active, offered),
        *_offers(offered),
        "",
        "tilings:",
        f"  default: {tiling:<35}  # µm per pixel and side of the tiles, as {setup.encoder} was trained on",
        "encoders:                      # others, and the tilings that suit them: wsi-mil encoders",
        f"  {setup.entry}: {encoder}",
        "models:                        # each is trained for each target and encoder",
        *(f"  {name + ': ' + flow(model):<66}  # {MODEL_REMARKS[name]}" for name, model in MODELS.items()),
        f"split: {{folds: {setup.folds}}}              # by patient; each fold is tested once",
    ]
    lines += _mpp_lines(setup.missing_mpp)
    return "\n".join(lines) + "\n"


def _targets(active: Sequence[Candidate], offered: Sequence[Candidate]) -> list[str]:
    if not active and offered:
        return [
            f"  # None can be learned as it is: check what is below, correct {SHEET} if needed, and remove the '# ' of a line."
        ]
    if not active:
        hint = f"  # Fill the column {LABEL} of {SHEET}, and write its values here, the positive one last."
        return [hint, f"  {LABEL}: {flow(EXAMPLE)}"]
    return [f"  {line}" for candidate in active for line in _entry(candidate)]


def _offers(offered: Sequence[Candidate]) -> list[str]:
    head = "# Further columns of the table that models could learn: remove the '# ' of a line to add it."
    return [head, *(f"#   {line}" for candidate in offered for line in _entry(candidate))] if offered else []


def _entry(candidate: Candidate) -> list[str]:
    """An entry with its remark, which is above it if both are too long for a line."""
    text, remark = f"{scalar(candidate.entry)}: {flow(candidate.settings)}", " ".join(candidate.remark.split())
    whole = f"{text}  # {remark}"
    return [whole] if len(whole) <= WIDTH else [f"# {remark}", text]


def _mpp_lines(missing: int) -> list[str]:
    if not missing:
        return []
    what = "1 slide has" if missing == 1 else f"{missing} slides have"
    return [
        "",
        f"# {what} no resolution in the file: write µm per pixel in the column mpp of {SHEET}, or one for all of them here:",
        "# slide: {on_missing_mpp: 0.5}",
    ]


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return a text or number as YAML; in quotes if it could be read as anything else."""
    if isinstance(value, float | int):
        return f"{value}"
    text = str(value)
    is_plain = PLAIN.fullmatch(text) and text.casefold() not in NOT_TEXT and "  " not in text
    return text if is_plain or SHORT_WHOLE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
