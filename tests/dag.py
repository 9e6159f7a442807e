"""A folder where the real DAG runs on a tiny cohort."""

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from tests.conftest import tissue_image, write_aperio, write_geojson

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
INSTALLED = BIN / "wsi-mil"
CONFIG = {
    "cohort": "co hort/cohort.csv",
    "slides_per_job": 1,
    "targets": {"tumour": {"kind": "classes", "column": "label", "classes": ["normal", "tumour"]}},
    "tilings": {"default": {"tile_px": 96}},
    "tissue": {"mpp": 4.0, "min_area_um2": 1000},
    "encoders": {"tiny": {"encoder": "test_efficientnet.r160_in1k", "weights": "random", "dtype": "float32"}},
    "split": {"folds": 2},
    "models": {"abmil": {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"epochs": 3}}},
    "predict": {"bootstrap": 100},
    "explain": {"methods": ["attention"]},
}
"""Configuration relative to the folder of a run; the sheet's folder has a space in its name. Each slide has its own jobs."""

WRAPPER = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
hold="$(dirname "$CALLS")/hold"
if [ "$1" != extract ] || [ ! -e "$hold" ]; then exec '{real}' "$@"; fi
'{real}' "$@"
code=$?
while [ -e "$hold" ]; do sleep 0.1; done
exit $code
"""
"""Script that records each call. While a file `hold` exists, an extraction that has finished its work does not end."""

ODD_NAME = "p1 it's ü #1.svs"


class Run:
    """A folder with a cohort in which snakemake runs; calls of wsi-mil are recorded and passed to `command`."""

    def __init__(self, folder: Path, command: Path = INSTALLED):
        self.folder, self.command = folder, command
        self.sheet = folder / "co hort" / "cohort.csv"

    def rows(self) -> list[dict[str, str]]:
        with self.sheet.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_rows(self, rows: list[dict[str, str]]) -> None:
        with self.sheet.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def config(self, **changes: object) -> None:
        (self.folder / "c.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))

    def add(self, slide_id: str, label: str, *, patient_id: str = "", seed: int = 50) -> None:
        write_aperio(self.sheet.parent / f"{slide_id}.svs", tissue_image(640, 448, seed=seed))
        row = {"slide_id": slide_id, "path": f"{slide_id}.svs", "label": label, "patient_id": patient_id, "annotation": ""}
        self.write_rows([*self.rows(), row])

    def snakemake(self, *args: str, expected: int = 0, configfile: str = "c.yaml") -> Counter:
        """Run snakemake; return the number of calls of each subcommand except `check`."""
        calls = self.folder / "calls.txt"
        calls.write_text("")
        process = self.popen(*args, configfile=configfile)
        output, _ = process.communicate(timeout=3600)
        assert process.returncode == expected, output[-3000:]
        self.output = output
        self.calls = [line for line in calls.read_text().splitlines() if not line.startswith("check")]
        return Counter(line.split()[0] for line in self.calls)

    def planned(self, *args: str) -> Counter:
        """Return the number of jobs of each rule in a dry run."""
        assert self.snakemake(*args, "--dry-run") == {}
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", self.output, re.MULTILINE)})

    def popen(self, *args: str, configfile: str = "c.yaml") -> subprocess.Popen:
        wrapper = self.folder / "bin" / "wsi-mil"
        wrapper.parent.mkdir(exist_ok=True)
        self.write_wrapper(wrapper)
        wrapper.chmod(0o755)
        path = f"{wrapper.parent}:{BIN}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "CALLS": str(self.folder / "calls.txt"), "WSI_MIL_DEVICE": "cpu"}
        command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/default"), "--cores", "2"]
        command += [*args, "--configfile", configfile]
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def write_wrapper(self, path: Path) -> None:
        """Write the script that replaces `wsi-mil`."""
        path.write_text(WRAPPER.format(real=self.command))

    def results(self, path: str) -> Path:
        return self.folder / "results" / path

    def report(self) -> str:
        """Text of all pages of the report, the overview first."""
        return "".join(page.read_text(encoding="utf-8") for page in sorted(self.results("report").glob("*.html")))


def make_cohort(folder: Path) -> None:
    """Write eight slides, one of them over 1 MB, a text file and a slide without tissue, and their sheet."""
    rows = []
    for number in range(8):
        label = ("normal", "tumour")[number % 2]
        size = (2400, 1800) if number == 0 else (640, 448)
        lesion = (300, 100, 450, 250) if label == "tumour" else None
        name = ODD_NAME if number == 1 else f"s{number}.svs"
        write_aperio(folder / name, tissue_image(*size, seed=number, lesion=lesion))
        row = {"slide_id": f"s{number}", "path": name, "label": label, "patient_id": f"p{number}", "annotation": ""}
        if lesion:
            row["annotation"] = write_geojson(folder / "truth" / f"s{number}.geojson", lesion).relative_to(folder).as_posix()
        rows.append(row)
    (folder / "text.svs").write_text("this is no slide")
    write_aperio(folder / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    for name in ("text", "glass"):
        rows.append({"slide_id": name, "path": f"{name}.svs", "label": "normal", "patient_id": name, "annotation": ""})
    Run(folder.parent).write_rows(rows)
    assert (folder / "s0.svs").stat().st_size > 1_000_000
