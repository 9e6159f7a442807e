#!/usr/bin/env python3
"""Measure what a command costs to start: the CPU seconds of whole commands on little data.

python benchmarks/startup.py [--before COMMAND] [--rounds 5] [--tiny]

A cohort of small slides goes through the stages once, by the commands themselves. Then each command runs again in every
round, with the same data and one thread; of --before, the `wsi-mil` of another checkout with the same options, in turns with
this one. Figures are user and system time of the process and its children, medians over rounds; the ratio is that of the
medians. `torch` is a bare `import torch`, the least that a command with a model can take. The first extraction of a network
with given weights compares its folded form with the plain one, and is not among the rounds. The last line is JSON.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conftest import tissue_image, write_aperio

COMMAND = Path(sys.executable).parent / "wsi-mil"
CLASSES = ["normal", "tumour"]
SETTINGS = {"kind": "classes", "classes": CLASSES}
TARGET, TARGETS = f"--target={json.dumps(SETTINGS)}", f"--targets={json.dumps({'tumour': SETTINGS})}"
N_SLIDES = 8
LARGE, SMALL = (3000, 2200), (640, 448)
"""(width, height) of the first slide, whose tiles are encoded in every round, and of the others."""

ENCODER = {"encoder": "efficientnet_lite0", "weights": "random", "dtype": "float32"}
TINY_ENCODER = {"encoder": "test_efficientnet", "weights": "random", "dtype": "float32"}
TILING = {"tiling": {"tile_px": 96}, "tissue": {"min_area_um2": 1000}}
MODEL = {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"epochs": 2}}
MODELS = "models/abmil"


@dataclass(frozen=True)
class Cohort:
    """A folder in which the commands run, with its slides and the settings of its encoder."""

    folder: Path
    encoder: dict[str, str]

    @property
    def slides(self) -> list[str]:
        """Names of the slides."""
        return [f"s{number}" for number in range(N_SLIDES)]

    def row(self, slide: str) -> str:
        """Return the slide's row as JSON."""
        return json.dumps({"slide_id": slide, "path": f"{slide}.svs"})

    def write(self, large: tuple[int, int]) -> None:
        """Write slides and sheet."""
        with (self.folder / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["slide_id", "path", "label", "patient_id"])
            for number, slide in enumerate(self.slides):
                write_aperio(self.folder / f"{slide}.svs", tissue_image(*(SMALL if number else large), seed=number))
                writer.writerow([slide, f"{slide}.svs", CLASSES[number % 2], f"p{number}"])

    def tile(self, slide: str, out: str) -> list[str]:
        """Return the arguments of `tile`."""
        settings = f"--settings={json.dumps(TILING)}"
        return ["tile", f"--row={self.row(slide)}", settings, f"--tiles={out}"]

    def extract(self, slides: Sequence[str], out: str) -> list[str]:
        """Return the arguments of `extract`."""
        each = [f"--row={self.row(slide)}" for slide in slides]
        return ["extract", *each, "--tiles=tiles", f"--features={out}", f"--settings={json.dumps(self.encoder)}", "--device=cpu"]

    def train(self, fold: int, out: str) -> list[str]:
        """Return the arguments of `train`."""
        about = ["--splits=splits.csv", f"--fold={fold}", "--features=features/e", TARGET]
        return ["train", *about, f"--settings={json.dumps(MODEL)}", f"--model={out}/fold-{fold}", "--device=cpu"]

    def explain(self, slide: str, out: str) -> list[str]:
        """Return the arguments of `explain`."""
        about = ["--features=features/e", f"--row={self.row(slide)}", TARGET]
        about += ["--splits=splits.csv", f"--models={MODELS}", '--settings={"methods": ["attention", "evidence"]}']
        return ["explain", *about, f"--scores={out}", "--device=cpu"]

    def heatmap(self, slide: str, out: str) -> list[str]:
        """Return the arguments of `heatmap`."""
        about = ["--scores=scores", "--tiles=tiles", f"--row={self.row(slide)}"]
        return ["heatmap", *about, "--method=attention", "--settings={}", f"--heatmaps={out}"]

    def status(self, out: str) -> list[str]:
        """Return the arguments of `cohort`."""
        about = ["--sheet=cohort.csv", TARGETS, "--features=features", '--encoders=["e"]']
        return ["cohort", *about, f"--status={out}/cohort_status.csv"]

    def split(self, out: str) -> list[str]:
        """Return the arguments of `split`."""
        about = ["--sheet=cohort.csv", TARGET, "--status=cohort_status.csv"]
        return ["split", *about, '--settings={"folds": 2}', f"--splits={out}/splits.csv"]

    def predict(self, out: str) -> list[str]:
        """Return the arguments of `predict`."""
        about = ["--sheet=cohort.csv", TARGET, "--status=cohort_status.csv", "--splits=splits.csv"]
        about += ["--features=features/e", f"--models={MODELS}", '--settings={"bootstrap": 100}']
        return ["predict", *about, f"--predictions={out}/p.csv", f"--metrics={out}/m.json", "--device=cpu"]

    def stages(self) -> list[list[str]]:
        """Return the commands that fill the folder, in order."""
        tiled = [self.tile(slide, "tiles") for slide in self.slides]
        trained = [self.train(fold, MODELS) for fold in range(2)]
        features = [self.extract(self.slides, "features/e"), self.status("."), self.split(".")]
        return [*tiled, *features, *trained, self.explain("s0", "scores")]

    def measured(self, out: str) -> dict[str, list[str]]:
        """Return the commands that are measured, which write to the folder `out`."""
        return {
            "help": ["--help"],
            "cohort": self.status(out),
            "split": self.split(out),
            "tile": self.tile("s1", out),
            "heatmap": self.heatmap("s0", out),
            "extract_again": self.extract(["s0"], "features/e"),
            "explain": self.explain("s0", out),
            "predict": self.predict(out),
            "train": self.train(0, out),
            "extract": self.extract(["s0"], f"{out}/features"),
        }


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """Run a command to its end and return the CPU time of the process and its children."""
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (
        (folder / "log.txt").open("w+") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))}\n{log.read()[-3000:]}")
    return usage.ru_utime + usage.ru_stime


def measure(cohort: Cohort, programs: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median CPU seconds of each command by each program."""
    for arguments in cohort.stages():
        cpu_seconds([str(programs["now"]), *arguments], cohort.folder)
    times: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for name, program in list(programs.items())[:: 1 if number % 2 else -1]:
            for command, arguments in cohort.measured(f"{name}-{number}").items():
                spent = cpu_seconds([str(program), *arguments], cohort.folder)
                times.setdefault(command, {}).setdefault(name, []).append(spent)
        bare = cpu_seconds([sys.executable, "-c", "import torch"], cohort.folder)
        times.setdefault("torch", {}).setdefault("now", []).append(bare)
    return {command: {name: statistics.median(each) for name, each in found.items()} for command, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, help="`wsi-mil` of another checkout, measured in turns with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small slides, a small encoder and one round, to try the benchmark")
    args = parser.parse_args()
    programs = {**({"before": args.before.resolve()} if args.before else {}), "now": COMMAND}
    with tempfile.TemporaryDirectory() as temporary:
        cohort = Cohort(Path(temporary), TINY_ENCODER if args.tiny else ENCODER)
        cohort.write(SMALL if args.tiny else LARGE)
        figures = measure(cohort, programs, 1 if args.tiny else args.rounds)
    print("| command | " + " | ".join(programs) + (" | ratio |" if args.before else " |"))
    print("|---" * (1 + len(programs) + bool(args.before)) + "|")
    result: dict[str, float] = {}
    for command, spent in figures.items():
        cells = [f"{spent[name]:.2f}" if name in spent else "" for name in programs]
        result |= {f"{command}_{name}_cpu_s": round(value, 3) for name, value in spent.items()}
        if "before" in spent:
            result[f"{command}_vs_before"] = round(spent["now"] / spent["before"], 3)
        ratio = [f"{spent['now'] / spent['before']:.2f}" if "before" in spent else ""] if args.before else []
        print("| " + " | ".join([command, *cells, *ratio]) + " |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
