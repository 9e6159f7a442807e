#!/usr/bin/env python3
"""How long does Snakemake take to plan a large cohort with this workflow, beside a bare DAG of the same jobs and files?

make scale, or python benchmarks/scale.py [--slides 1000] [--rounds 2]

Slides × 2 encoders × 3 models, one method. Nothing is computed: what the stages would have left is laid down as small files
(receipts that say ok), and `snakemake --touch` records them as made. Then, in turn, with the workflow and with a bare
Snakefile whose rules have the same inputs and outputs and nothing else: a dry run of the untouched cohort (ours does not look
beyond its checkpoint, the bare one plans everything), a run in which nothing is to do, and a dry run in which all is to be
explained anew. The last line is JSON; ratios of one round, median of all. Exit code 1 where one of a thousand slides or more
is above what is promised.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = ("a", "b")
MODELS = ("m1", "m2", "m3")
FOLDS = range(2)
METHOD = "attention"
MOST = 2.0

BARE = """
SLIDES = {slides}
ENCODERS, MODELS, FOLDS = {encoders}, {models}, range(2)
R = "results"

rule all:
    default_target: True
    input: R + "/report/index.html"

rule tile:
    input: "slides/{{s}}.png"
    output: R + "/tiles/default/{{s}}.json"
    shell: "touch {{output}}"

rule extract:
    input: R + "/tiles/default/{{s}}.json"
    output: R + "/features/{{e}}/{{s}}.json"
    shell: "touch {{output}}"

rule cohort:
    input: expand(R + "/features/{{e}}/{{s}}.json", e=ENCODERS, s=SLIDES)
    output: R + "/cohort_status.csv"
    shell: "touch {{output}}"

rule split:
    input: R + "/cohort_status.csv"
    output: R + "/splits.csv"
    shell: "touch {{output}}"

rule train:
    input: R + "/splits.csv", lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES)
    output: R + "/models/{{e}}/{{m}}/fold-{{k}}/model.safetensors", R + "/models/{{e}}/{{m}}/fold-{{k}}/config.json"
    shell: "touch {{output}}"

def models(w):
    return expand(R + "/models/{{e}}/{{m}}/fold-{{k}}/{{f}}", e=w.e, m=w.m, k=FOLDS, f=["model.safetensors", "config.json"])

rule predict:
    input: models, R + "/splits.csv", lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES)
    output: R + "/predictions/{{e}}/{{m}}.csv", R + "/metrics/{{e}}/{{m}}.json"
    shell: "touch {{output}}"

rule explain:
    input: models, R + "/splits.csv", R + "/features/{{e}}/{{s}}.json"
    output: R + "/scores/{{e}}/{{m}}/{{s}}.json"
    shell: "touch {{output}}"

rule heatmap:
    input: R + "/scores/{{e}}/{{m}}/{{s}}.json"
    output: R + "/heatmaps/{{e}}/{{m}}/{{s}}/attention.png"
    shell: "touch {{output}}"

rule evaluate:
    input: lambda w: expand(R + "/scores/{{e}}/{{m}}/{{s}}.json", e=w.e, m=w.m, s=SLIDES), R + "/cohort_status.csv"
    output: R + "/explanations/{{e}}/{{m}}.json"
    shell: "touch {{output}}"

rule statistics:
    input: lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES), R + "/cohort_status.csv"
    output: R + "/statistics/{{e}}.json"
    shell: "touch {{output}}"

rule report:
    input:
        R + "/cohort_status.csv", R + "/splits.csv",
        expand(R + "/tiles/default/{{s}}.json", s=SLIDES),
        expand(R + "/predictions/{{e}}/{{m}}.csv", e=ENCODERS, m=MODELS),
        expand(R + "/metrics/{{e}}/{{m}}.json", e=ENCODERS, m=MODELS),
        expand(R + "/explanations/{{e}}/{{m}}.json", e=ENCODERS, m=MODELS),
        expand(R + "/heatmaps/{{e}}/{{m}}/{{s}}/attention.png", e=ENCODERS, m=MODELS, s=SLIDES),
        expand(R + "/statistics/{{e}}.json", e=ENCODERS),
    output: R + "/report/index.html"
    shell: "touch {{output}}"
"""


def make(folder: Path, slides: list[str]) -> None:
    """Slides that are links to one small file, their sheet, and both workflows' configuration."""
    (folder / "slides").mkdir(parents=True)
    (folder / "one.png").write_bytes(b"\x89PNG not read by anything here")
    for slide in slides:
        os.link(folder / "one.png", folder / "slides" / f"{slide}.png")
    with (folder / "cohort.csv").open("w", newline="") as file:
        rows = [[s, f"slides/{s}.png", ("normal", "tumour")[i % 2], 0.5] for i, s in enumerate(slides)]
        csv.writer(file).writerows([["slide_id", "path", "label", "mpp"], *rows])
    entry = {"encoder": "test_vit", "weights": "random"}
    config = {
        "cohort": "cohort.csv",
        "classes": ["normal", "tumour"],
        "encoders": dict.fromkeys(ENCODERS, entry),
        "models": {name: {"model": "abmil"} for name in MODELS},
        "split": {"folds": len(FOLDS)},
        "explain": {"methods": [METHOD]},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    (folder / "Bare").write_text(BARE.format(slides=slides, encoders=ENCODERS, models=MODELS))


def lay_down(folder: Path, slides: list[str]) -> int:
    """What the stages would have left, as far as Snakemake looks at it; how many files."""
    results, n = folder / "results", 0

    def put(path: str, text: str = "{}") -> None:
        nonlocal n
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_text(text)
        n += 1

    ok = json.dumps({"status": "ok", "reason": "", "n_tiles": 100, "dim": 192})
    for slide in slides:
        put(f"tiles/default/{slide}.json", ok)
        for encoder in ENCODERS:
            put(f"features/{encoder}/{slide}.json", ok)
    put("cohort_status.csv", "slide_id,status,reason\n" + "".join(f"{slide},ok,\n" for slide in slides))
    put("splits.csv")
    for encoder in ENCODERS:
        put(f"statistics/{encoder}.json")
        for model in MODELS:
            for fold in FOLDS:
                put(f"models/{encoder}/{model}/fold-{fold}/model.safetensors")
                put(f"models/{encoder}/{model}/fold-{fold}/config.json")
            for name in (
                f"predictions/{encoder}/{model}.csv",
                f"metrics/{encoder}/{model}.json",
                f"explanations/{encoder}/{model}.json",
            ):
                put(name)
            for slide in slides:
                put(f"scores/{encoder}/{model}/{slide}.json")
                put(f"heatmaps/{encoder}/{model}/{slide}/{METHOD}.png")
    put("report/index.html")
    return n


WORKFLOW = ["-s", str(ROOT / "Snakefile"), "--configfile", "c.yaml"]
WHAT = ("dry", "nothing", "anew")
COMMANDS = {"ours": WORKFLOW, "bare": ["-s", "Bare"]}


def snakemake(folder: Path, *args: str) -> tuple[float, float, str]:
    """Seconds that a run took, the most memory it held in MB, and what it said."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WSI_MIL_DEVICE": "cpu"}
    begin = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "rules", *args]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - begin
        said.seek(0)
        text = said.read()
    if status:
        raise SystemExit(text[-3000:])
    return took, usage.ru_maxrss / 1e3, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {f"{what}_{which}": [] for what in WHAT for which in COMMANDS}
    memory_mb = dict[str, float]()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {which: Path(temporary) / which for which in COMMANDS}
        slides = [f"s{number:05d}" for number in range(args.slides)]
        for folder in folders.values():
            make(folder, slides)
        for _ in range(args.rounds):
            for which, command in COMMANDS.items():
                seconds[f"dry_{which}"].append(snakemake(folders[which], *command, "--dry-run")[0])
        for which, command in COMMANDS.items():
            files = lay_down(folders[which], slides)
            took, *_ = snakemake(folders[which], *command, "--touch")
            print(f"{which}: {files} files recorded in {took:.0f} s", flush=True)
        for _ in range(args.rounds):
            for which, command in COMMANDS.items():
                took, memory_mb[which], said = snakemake(folders[which], *command)
                assert "Finished jobid" not in said, said[-3000:]
                seconds[f"nothing_{which}"].append(took)
                took, *_ = snakemake(folders[which], *command, "--dry-run", "--forcerun", "explain")
                seconds[f"anew_{which}"].append(took)
    ratios = {
        what: statistics.median(a / b for a, b in zip(seconds[f"{what}_ours"], seconds[f"{what}_bare"], strict=True))
        for what in WHAT
    }
    for name, each in seconds.items():
        print(f"{name}: {', '.join(f'{s:.1f}' for s in each)} s")
    print(", ".join(f"{which}: {mb:.0f} MB" for which, mb in memory_mb.items()))
    figures = {"slides": args.slides, "files": files, "mb": round(memory_mb["ours"])}
    print(json.dumps({**figures, **{f"{what}_ratio": round(ratio, 2) for what, ratio in ratios.items()}, "most": MOST}))
    sys.exit(args.slides >= 1000 and max(ratios.values()) > MOST)


if __name__ == "__main__":
    main()
