"""Faults of the machine anywhere in the DAG, on a tiny cohort, with real processes.

make faults, or python -m tests.faults.dag [--rounds 5] [--snakemakes 5] [--only kills snakemake full ...] [--seed 0]

After each, a second run must end with the results of an undisturbed run, byte for byte.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.dag import INSTALLED, Run, make_cohort
from tests.faults.extraction import small_disk, tree

STAGES = (
    "tile",
    "extract",
    "cohort",
    "split",
    "train",
    "predict",
    "explain",
    "explain-validation",
    "trust",
    "evaluate",
    "heatmap",
    "statistics",
    "report",
)
"""Commands of the rules."""

OUTPUTS = {
    "tile": "tiles",
    "extract": "features",
    "cohort": "cohort_status.csv",
    "split": "splits",
    "train": "models",
    "predict": "predictions",
    "explain": "scores",
    "evaluate": "metrics",
    "heatmap": "heatmaps",
    "statistics": "statistics",
    "report": "report",
}
"""What a rule writes below the results folder; explanations of validation slides lie below `scores`."""

WRAPPER = f"""#!/bin/sh
# Stands for wsi-mil: kills the next call of a command for which there is a file of its name, after the seconds that it holds.
printf '%s\\n' "$*" >> "$CALLS"
here=$(dirname "$0")/../kills
if mv "$here/$1.before" "$here/$1.now" 2> /dev/null; then
    . "$here/$1.now"
fi
if mv "$here/$1" "$here/$1.now" 2> /dev/null; then
    timeout --foreground -s KILL "$(cat "$here/$1.now")" '{INSTALLED}' "$@"
    code=$?
    [ $code = 137 ] && echo "$1" >> "$here/killed"
    exit $code
fi
begin=$(date +%s%N)
'{INSTALLED}' "$@"
code=$?
echo "$1 $(( ($(date +%s%N) - begin) / 1000000 ))" >> "$here/took"
exit $code
"""


class Disturbed(Run):
    """A run whose commands can be killed."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.kills = folder / "kills"

    def prepare(self) -> None:
        """Where nothing has run yet: the cohort and its configuration."""
        self.sheet.parent.mkdir(parents=True)
        make_cohort(self.sheet.parent)
        self.config()
        self.kills.mkdir()

    def write_wrapper(self, path: Path) -> None:
        path.write_text(WRAPPER)

    def kill(self, command: str, seconds: float) -> None:
        """The next call of a command, so long after it began."""
        (self.kills / command).write_text(f"{seconds:.3f}")

    def before(self, command: str, shell: str) -> None:
        """Lines that a shell does before the next call of a command, in the same process."""
        (self.kills / f"{command}.before").write_text(shell + "\n")

    def killed(self) -> Counter[str]:
        """How often each command was killed while it ran."""
        done = self.kills / "killed"
        return Counter(done.read_text().split()) if done.exists() else Counter()

    def seconds(self) -> dict[str, float]:
        """The longest that a call of each command took."""
        took: dict[str, float] = {}
        for line in (self.kills / "took").read_text().splitlines():
            command, ms = line.split()
            took[command] = max(took.get(command, 0.0), int(ms) / 1000)
        return took

    def whole(self) -> dict[str, bytes]:
        """The results, but for locks, whose presence says nothing, and for how long it took."""
        found = tree(self.folder / "results").items()
        return {name: data for name, data in found if not name.endswith(".lock") and not name.startswith("benchmarks/")}


def compare(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Raises AssertionError that names what differs."""
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = [name for name in found.keys() & expected.keys() if found[name] != expected[name]]
    assert not missing and not extra and not other, f"missing {sorted(missing)}, extra {sorted(extra)}, other {sorted(other)}"


def kill_stages(
    fresh: Callable[[], Disturbed], took: dict[str, float], expected: dict[str, bytes], rng: random.Random
) -> Counter:
    """Every command killed once at a random moment of a run from nothing; how often it was at work then."""
    run = fresh()
    for command in STAGES:
        run.kill(command, rng.uniform(0, took[command]))
    run.snakemake("--retries", "2")
    run.snakemake()
    compare(run.whole(), expected)
    return run.killed()


def kill_snakemake(fresh: Callable[[], Disturbed], whole: float, expected: dict[str, bytes], rng: random.Random) -> bool:
    """Snakemake itself killed at a random moment, its jobs going on as orphans while the next run begins."""
    run = fresh()
    process = run.popen()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=rng.uniform(0.1, 0.9) * whole)
    is_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    run.snakemake("--unlock")
    run.snakemake("--retries", "2")
    compare(run.whole(), expected)
    return is_killed


@contextlib.contextmanager
def on_small_disk(run: Disturbed, *, n_bytes: int) -> Iterator[Path]:
    """The results of a run on a disk of their own."""
    results = run.folder / "results"
    aside = results.rename(run.folder / "aside")
    with small_disk(results, n_bytes) as disk:
        shutil.copytree(aside, disk, dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(aside)
        yield disk


def fill_disk(run: Disturbed, stage: str, expected: dict[str, bytes]) -> str:
    """A finished run, of which a stage's outputs are gone and the disk is full; what the failed jobs' logs said."""
    size = 4 * sum(len(data) for data in expected.values()) + 64 * 2**20
    with on_small_disk(run, n_bytes=size) as disk:
        gone = disk / OUTPUTS[stage]
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with (disk / "filler").open("wb") as file:
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, free)
        again = ("--forcerun", stage)  # of what lies in between, Snakemake misses nothing by itself
        run.snakemake("--retries", "0", *again, expected=1)
        texts = [log.read_text() for log in (run.folder / "logs").rglob("*.log")]
        said = [text for text in texts if "the disk is full" in text]
        assert said and not any("Traceback" in text for text in texts), texts
        (disk / "filler").unlink()
        run.snakemake(*again)
        compare(run.whole(), expected)
        return "; ".join(sorted({text.splitlines()[-1] for text in said}))[:300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--snakemakes", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["kills", "snakemake", "full"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, figures = random.Random(args.seed), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, made = Path(temporary), 0

        def fresh() -> Disturbed:
            nonlocal made
            made += 1
            run = Disturbed(folder / f"run-{made}")
            run.prepare()
            return run

        run = fresh()
        begin = time.monotonic()
        run.snakemake()
        whole, took, expected = time.monotonic() - begin, run.seconds(), run.whole()
        print(f"undisturbed: {whole:.0f} s, {len(expected)} files; {took}", flush=True)
        if "kills" in args.only:
            killed = Counter[str]()
            for number in range(args.rounds):
                killed += kill_stages(fresh, took, expected, rng)
                print(f"round {number + 1}: killed so far {dict(killed)}", flush=True)
            figures["kills"] = dict(killed)
        if "snakemake" in args.only:
            figures["snakemake"] = sum(kill_snakemake(fresh, whole, expected, rng) for _ in range(args.snakemakes))
        if "full" in args.only and os.geteuid() == 0:
            for stage in OUTPUTS:
                copy = Disturbed(folder / f"full-{stage}")
                shutil.copytree(run.folder, copy.folder, symlinks=True)
                figures[f"full {stage}"] = fill_disk(copy, stage, expected)
                print(f"disk full in {stage}: {figures[f'full {stage}']}", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
