"""The record of a run of `make gpu`: JSON, rewritten after each row, and tables in Markdown. Imports no torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_mil.files import write_text

Row = dict[str, Any]

TANG: dict[str, tuple[str, float, float]] = {
    "ABMIL": ("657K", 4.0, 2.4),
    "CLAM-MB": ("789K", 4.3, 2.7),
    "DTFD": ("987K", 5.2, 2.1),
    "TransMIL": ("2.67M", 13.1, 10.6),
    "MHIM over ABMIL": ("657K", 4.3, 2.3),
    "MHIM over TransMIL": ("2.67M", 10.1, 5.5),
}
"""Weights, seconds of an epoch of CAMELYON16 and gigabytes in Tang et al. 2023, on their GPU and with their bags."""
FIRST_MODEL = "ABMIL"
GOOD_TESTS = ("passed", "skipped")
NONE = "–"


def row_of(line: str) -> Row | None:
    """Return the row that a line of a part is, None if it is another line."""
    if not line.startswith('{"row"'):
        return None
    try:
        row: Row = json.loads(line)["row"]
    except (ValueError, KeyError):
        return None
    return row


@dataclass
class PartRecord:
    """What is known of a part.

    Attributes:
        status: running, passed, failed or timed out.
        seconds: that it took.
        rows: what it measured, in order.
        last_lines: the end of its output, if it did not pass.
    """

    status: str = "running"
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    last_lines: list[str] = field(default_factory=list)


@dataclass
class Record:
    """A run: date, machine and parts; `path` is rewritten by each `save`, never half-written."""

    path: Path
    about: dict[str, object]
    parts: dict[str, PartRecord] = field(default_factory=dict)

    def save(self) -> None:
        content = {**self.about, "parts": {name: vars(part) for name, part in self.parts.items()}}
        write_text(self.path, json.dumps(content, indent=1))

    @property
    def bad_parts(self) -> list[str]:
        return [name for name, part in self.parts.items() if part.status != "passed"]

    def figures(self) -> dict[str, object]:
        """Return the figures of all rows by name, and the parts that did not pass."""
        flat: dict[str, object] = {"device": self.about["name"], "bad_parts": self.bad_parts}
        for row in self._rows("extraction"):
            if "gpu_vs_encoder" in row:
                name = f"{row['encoder']}_{row['batch_size']}_{row['slide_mpp']}um"
                flat |= {f"{name}_tiles_per_s": row["tiles_per_s"], f"{name}_gpu_vs_encoder": row["gpu_vs_encoder"]}
        for row in self._rows("training"):
            if "step_ms" in row:
                name = f"{row['model'].replace(' ', '_')}_{row['precision']}"
                flat |= {f"{name}_step_ms": row["step_ms"], f"{name}_peak_gb": row["peak_gb"]}
        return flat | {"tests_passed": sum(row["result"] == "passed" for row in self._rows("tests"))}

    def markdown(self) -> str:
        """Return all tables, as they go into docs/performance.md."""
        about = self.about
        where = (
            f"{about['name']}, driver {about['driver']}, torch {about['torch']} (CUDA {about['cuda']}), Python {about['python']}"
        )
        head = f"`make gpu`, {about['date']}: {where}, {about['cores']} CPU cores; float32 products: {about['float32_products']}."
        parts = [f"{name}: {part.status} after {part.seconds:.0f} s" for name, part in self.parts.items()]
        sections = [head, "Parts: " + "; ".join(parts) + ".", self._tests(), self._extraction(), self._training()]
        for name in self.bad_parts:
            sections.append(f"Last lines of {name}:\n\n```\n" + "\n".join(self.parts[name].last_lines) + "\n```")
        return "\n\n".join(section for section in sections if section) + "\n"

    def _rows(self, part: str) -> list[Row]:
        return self.parts[part].rows if part in self.parts else []

    def _tests(self) -> str:
        rows = self._rows("tests")
        lines = [f"- `{row['test']}`: {row['result']}" for row in rows if row["result"] not in GOOD_TESTS]
        counts = [f"{sum(row['result'] == result for row in rows)} {result}" for result in ("passed", "failed", "skipped")]
        return "\n".join([f"Tests marked `gpu`: {', '.join(counts)}.", *lines]) if rows else ""

    def _extraction(self) -> str:
        rows = self._rows("extraction")
        if not rows:
            return ""
        head = ("encoder", "batch", "slide, µm per pixel", "dtype", "tiles/s of `extract`", "tiles/s of the encoder alone")
        body = [
            [row["encoder"], row["batch_size"], row["slide_mpp"], row["dtype"], *_measured(row, EXTRACTION_COLUMNS)]
            for row in rows
        ]
        return table([*head, "`gpu_vs_encoder`", "memory, GB", "remark"], body)

    def _training(self) -> str:
        rows = self._rows("training")
        if not rows:
            return ""
        of_first = {row["precision"]: row["step_ms"] for row in rows if row["model"] == FIRST_MODEL and "step_ms" in row}
        body = [_training_cells(row, of_first.get(row["precision"])) for row in rows]
        head = ["model", "precision", "weights (paper)", "step, ms (quartiles)", f"times {FIRST_MODEL} (paper)"]
        return table([*head, "memory in tensors, GB", "reserved, GB", "paper, GB", "remark"], body)


EXTRACTION_NAMES = ("encoder", "batch_size", "slide_mpp", "dtype")
EXTRACTION_COLUMNS = ("tiles_per_s", "encoder_tiles_per_s", "gpu_vs_encoder", "peak_gb")


def table(head: list[str], body: list[list[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _measured(row: Row, columns: tuple[str, ...]) -> list[object]:
    """Cells of what was measured, and the remark if it was not, or not as asked."""
    remark = str(row["result"]).removeprefix("measured").removeprefix("; ")
    return [*(row.get(name, NONE) for name in columns), remark]


def _training_cells(row: Row, of_first: float | None) -> list[object]:
    weights, epoch_s, memory_gb = TANG[row["model"]]
    published = f"{epoch_s / TANG[FIRST_MODEL][1]:.2f}"
    *memory, remark = _measured(row, ("peak_gb", "reserved_gb"))
    time, ratio, own_weights = NONE, NONE, NONE
    if "step_ms" in row:
        time, own_weights = f"{row['step_ms']:.1f} ({row['low_ms']:.1f} to {row['high_ms']:.1f})", f"{row['weights']:,}"
        ratio = f"{row['step_ms'] / of_first:.2f}" if of_first else NONE
    names = [row["model"], row["precision"], f"{own_weights} ({weights})"]
    return [*names, time, f"{ratio} ({published})", *memory, memory_gb, remark]
