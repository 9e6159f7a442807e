#!/usr/bin/env python3
"""Measure the CPU time of the demo's whole DAG, compared with an earlier commit, and how much of it is start-up.

python benchmarks/dag.py [--before REVISION] [--rounds 2] [--models abmil] [--tiny]

Both commits run in turns on the same slides with the same configuration: the earlier one's, with the models that are named.
CPU time is user + system of Snakemake and all of its jobs.

dag_cpu_vs_before   CPU time of this commit divided by that of the earlier one
dag_wall_vs_before  the same for elapsed time
startup_share       CPU time of process starts and imports, divided by all CPU time of this commit. Each job notes which modules
                    it has imported when it ends; their imports are then timed in a process that does nothing else.

The last line is JSON. The exit code is 1 if a figure is above its limit; with --tiny there are no limits.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BEFORE = "a81299d"
"""The commit before a job worked on several slides."""

LIMITS = {"dag_cpu_vs_before": 0.4, "startup_share": 0.15}

COMMAND = """#!{python}
import atexit, json, os, sys
sys.path.insert(0, {tree!r})

def note():
    with open({log!r}, "a") as file:
        print(json.dumps([sys.argv[1], os.getpid(), os.getppid(), sorted(sys.modules)]), file=file)

atexit.register(note)
from wsi_mil.__main__ import program
program()
"""
"""`wsi-mil` of a tree, which notes the imported modules of each call."""

IMPORTS = """
import importlib, json, sys
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except Exception:
        pass  # modules that only their package can import: its time is counted with the package
"""


def cpu_seconds() -> float:
    """CPU time of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_cohort(folder: Path, *, tiny: bool) -> None:
    """Create the demo's slides; tiny: those of the tests."""
    if tiny:
        from tests.dag import make_cohort as make_tiny

        (folder / "co hort").mkdir()
        make_tiny(folder / "co hort")
    else:
        command = [sys.executable, "-m", "wsi_mil", "demo-cohort", str(folder / "demo")]
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)


def configuration(before: Path, models: list[str], *, tiny: bool) -> dict[str, object]:
    """The earlier commit's configuration with some of its models."""
    if tiny:
        from tests.dag import CONFIG

        return {key: value for key, value in CONFIG.items() if key != "slides_per_job"}
    content = yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))
    del content["slides_per_job"]
    return {**content, "models": {name: content["models"][name] for name in models}}


def as_written_now(content: Mapping[str, object]) -> dict[str, object]:
    """Return an earlier commit's configuration as this commit reads it."""
    if "targets" in content:
        return dict(content)
    rest = {key: value for key, value in content.items() if key != "classes"}
    return {**rest, "targets": {"tumour": {"kind": "classes", "classes": content["classes"]}}}


def run(tree: Path, folder: Path, content: Mapping[str, object], *, cores: int) -> tuple[float, float]:
    """Run the whole DAG of a tree from nothing; return CPU and elapsed seconds."""
    (folder / "c.yaml").write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    for name in ("results", "logs", ".snakemake", "calls.txt"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    program = folder / "bin" / "wsi-mil"
    program.parent.mkdir(exist_ok=True)
    program.write_text(COMMAND.format(python=sys.executable, tree=str(tree), log=str(folder / "calls.txt")))
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "WSI_MIL_DEVICE": "cpu", "PYTHONPATH": str(tree)}
    command = ["snakemake", "-s", str(tree / "Snakefile"), "--profile", str(tree / "profiles/default"), "--quiet", "all"]
    cpu, wall = cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [*command, "--cores", str(cores), "--configfile", "c.yaml"], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return cpu_seconds() - cpu, time.perf_counter() - wall


def startup_seconds(folder: Path, tree: Path) -> Counter[str]:
    """CPU seconds of process starts and imports of the last run, by command."""
    calls = [json.loads(line) for line in (folder / "calls.txt").read_text().splitlines()]
    parents = {parent for _, _, parent, _ in calls}  # a parent that waits for its child has imported no more than the child
    seconds, known = Counter[str](), dict[str, float]()
    for command, process, _, modules in calls:
        if process in parents:
            continue
        text = json.dumps([name for name in modules if name != "__main__"])
        if text not in known:
            known[text] = _import_seconds(text, tree)
        seconds[command] += known[text]
    return seconds


def _import_seconds(modules: str, tree: Path) -> float:
    begin = cpu_seconds()
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, "-c", IMPORTS], input=modules, text=True, env=environment, check=True, capture_output=True)
    return cpu_seconds() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each commit")
    parser.add_argument("--models", nargs="+", default=["abmil"], help="models of the configuration that are trained")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="small slides, one round, this commit twice: tests that it runs")
    args = parser.parse_args()
    rounds = 1 if args.tiny else args.rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder, before = Path(temporary) / "run", Path(temporary) / "before"
        if args.tiny:
            before.symlink_to(ROOT)
        else:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(before), args.before], check=True)
        try:
            folder.mkdir()
            make_cohort(folder, tiny=args.tiny)
            content = configuration(before, args.models, tiny=args.tiny)
            now = as_written_now(content)
            pairs = []
            for number in range(rounds):
                pairs.append((run(before, folder, content, cores=args.cores), run(ROOT, folder, now, cores=args.cores)))
                (old_cpu, old_wall), (cpu, wall) = pairs[-1]
                times = f"CPU {old_cpu:.0f} s before, {cpu:.0f} s now; elapsed {old_wall:.0f} s, {wall:.0f} s"
                print(f"round {number + 1}: {times}", flush=True)
            startup = startup_seconds(folder, ROOT)
        finally:
            if not args.tiny:
                subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(before)], check=True)
    for command, seconds in startup.most_common():
        print(f"start-up of {command}: {seconds:.1f} CPU s")
    figures = {
        "dag_cpu_vs_before": round(statistics.median(new[0] / old[0] for old, new in pairs), 3),
        "dag_wall_vs_before": round(statistics.median(new[1] / old[1] for old, new in pairs), 3),
        "startup_share": round(startup.total() / pairs[-1][1][0], 3),
        "dag_cpu_s": round(pairs[-1][1][0], 1),
        "dag_wall_s": round(pairs[-1][1][1], 1),
    }
    print(json.dumps({"models": args.models, "cores": args.cores, **figures}))
    sys.exit(not args.tiny and any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
