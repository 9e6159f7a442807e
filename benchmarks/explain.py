#!/usr/bin/env python3
"""Measure time and memory of contributions, of sparse inversion and of drawing heatmaps.

    python benchmarks/explain.py                     all parts
    python benchmarks/explain.py --only inversion    one part
    python benchmarks/explain.py --only drawing --before ../earlier/.venv/bin/wsi-mil

contribution contribution, centred contribution, direction and their sum of 20,000 × 1024 instances, for gated ABMIL and TransMIL:
             CPU time of one thread compared with forward passes, in turns, and memory in sizes of the bag
inversion    sparse inversion of 20,000 × 1024 instances with gated ABMIL: seconds per step, memory in sizes of the bag,
             and growth of time with the number of instances
drawing      heatmap, OME-TIFF and GeoJSON of a slide of 20,000 tiles; CPU time of the heatmaps of three methods of it, and
             of a slide of 100 tiles, in one process, compared with a process for each, or with three commands of an
             earlier version (--before: its wsi-mil, of a version whose `heatmap` draws one method)

The slides and their scores are made by the package's own stages. --n-tiles makes the large slide smaller.

The exit code is 1 if a figure is above its limit.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from scored_slide import METHODS, ScoredSlide, make_scored_slide

from wsi_mil.cli.options import AGAIN_VARIABLE
from wsi_mil.config import Heatmap, SparseInversion, Truth, parse_model
from wsi_mil.devices import set_threads
from wsi_mil.explain.registry import METHODS as EXPLAINED
from wsi_mil.explain.sparse_inversion import Refinement, refine
from wsi_mil.files import write_bytes
from wsi_mil.heatmaps.overlay import draw
from wsi_mil.heatmaps.raster import ome_tiff
from wsi_mil.heatmaps.regions import geojson
from wsi_mil.heatmaps.slide_scores import read_slide_scores
from wsi_mil.heatmaps.stage import backdrop, picture, title
from wsi_mil.models import MILModel, create_model
from wsi_mil.receipts import store_path

FEATURES, INSTANCES, THREADS = 1024, 20_000, 2
TILES, FEW_TILES, METHOD = 20_000, 100, "evidence"
TURNS = 3
"""Number of measurements of each of two ways that are compared; their medians count."""

TINY_SCALE = 500
"""How many times smaller bags are with --tiny."""

SIZES = (5_000, 10_000, 20_000, 40_000)
STEPS = 5
COMMAND = Path(sys.executable).with_name("wsi-mil")
BYTES_OF_FLOAT32, KB_OF_A_GB = 4, 1024**2
OF_CONTRIBUTION: dict[str, dict[str, object]] = {
    "abmil": {"model": "abmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4, "attention": "nystrom"},
}
KIN = ("contribution", "centred_contribution", "direction", "standardised_contribution")
LIMITS: dict[str, float] = {
    **{f"{method}_cpu_vs_forward_{model}": 2.5 for model in OF_CONTRIBUTION for method in KIN},
    **{f"contribution_memory_vs_bag_{model}": 4.0 for model in OF_CONTRIBUTION},
    "sni_step_s": 0.6,
    "sni_memory_vs_bag": 4.0,
    "sni_time_per_instance_40k_vs_10k": 1.25,
    "heatmap_s": 5.0,
    "heatmap_gb": 1.0,
    "geojson_s": 10.0,
    "heatmap_cpu_vs_before": 0.3,
    "heatmap_cpu_vs_before_of_few_tiles": 0.3,
    "heatmap_cpu_vs_apart": 0.6,
    "heatmap_cpu_vs_apart_of_few_tiles": 0.6,
}
"""Upper limit of each figure."""


def inversion_of(n: int, *, steps: int) -> Callable[[], Refinement]:
    """Return a function that does sparse inversion of `n` half-normal instances; the threshold makes the bag positive."""
    torch.manual_seed(0)
    model = create_model(parse_model({"model": "abmil"}), feature_dim=FEATURES, n_classes=2).eval().requires_grad_(False)
    bag = torch.randn(1, n, FEATURES, dtype=torch.float16).abs_()  # as it comes from the store
    settings = SparseInversion(steps=steps, penalty=0.001, tolerance=0)
    return lambda: refine(model, bag, 1, settings, threshold=0.0)


def seconds(work: Callable[[], object]) -> float:
    """Return the shortest of three times, since other processes may use the machine."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        work()
        times.append(time.monotonic() - start)
    return min(times)


def model_and_bag(model: str, n: int) -> tuple[MILModel, torch.Tensor]:
    """Return a model and a bag of half-normal instances `(1, n, features)`."""
    torch.manual_seed(0)
    made = create_model(parse_model(OF_CONTRIBUTION[model]), feature_dim=FEATURES, n_classes=2)
    return made.eval().requires_grad_(False), torch.randn(1, n, FEATURES).abs_()


def contributions(scale: int) -> dict[str, float]:
    """Measure CPU time and memory of contributions, of bags `scale` times smaller."""
    set_threads(1)  # threads that wait for each other count as CPU time
    figures = {}
    for name in OF_CONTRIBUTION:
        model, bag = model_and_bag(name, INSTANCES // scale)
        with torch.inference_mode():
            model(bag)
        turns = [[own_cpu_seconds(work) for work in _works(model, bag)] for _ in range(TURNS + 2)]
        forward, *kin = (median(times) for times in zip(*turns, strict=True))
        figures |= {f"{method}_cpu_vs_forward_{name}": seconds / forward for method, seconds in zip(KIN, kin, strict=True)}
        peak = in_child(f"memory_of_{name}", scale)
        figures[f"contribution_memory_vs_bag_{name}"] = peak
        print(f"{name}: forward {forward:.3f} CPU s, {KIN[-1]} {kin[-1]:.3f}; memory {peak:.2f} times the bag, including it")
    set_threads(THREADS)
    return figures


def _works(model: MILModel, bag: torch.Tensor) -> list[Callable[[], object]]:
    """A forward pass, and each of the methods."""

    def forward() -> None:
        with torch.inference_mode():
            model(bag)

    return [forward, *(partial(EXPLAINED[method].of_model, model, bag, 1) for method in KIN)]


def contribution_memory(scale: int, model: str) -> float:
    """Return the peak memory that the bag and the sum of its contributions add, in sizes of the bag."""
    EXPLAINED[KIN[-1]].of_model(*model_and_bag(model, 64), 1)
    before = _peak_kb()
    EXPLAINED[KIN[-1]].of_model(*model_and_bag(model, INSTANCES // scale), 1)
    return (_peak_kb() - before) * 1024 / (INSTANCES // scale * FEATURES * BYTES_OF_FLOAT32)


def own_cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process in some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def inversion(scale: int) -> dict[str, float]:
    """Measure time and memory of sparse inversion, of bags `scale` times smaller."""
    step_s = {}
    for n in (size // scale for size in SIZES):
        step_s[n] = (seconds(inversion_of(n, steps=1 + STEPS)) - seconds(inversion_of(n, steps=1))) / STEPS
        print(f"sparse inversion, {n:6,} × {FEATURES}: {step_s[n]:.3f} s per step, {step_s[n] / n * 1e6:.1f} µs per instance")
    peak = in_child("memory", scale)
    print(f"memory of {INSTANCES:,} × {FEATURES}: {peak:.2f} times the bag, including the bag")
    return {
        "sni_step_s": step_s[INSTANCES // scale],
        "sni_memory_vs_bag": peak,
        "sni_time_per_instance_40k_vs_10k": step_s[40_000 // scale] / step_s[10_000 // scale] / 4,
    }


def memory(scale: int) -> float:
    """Return the peak memory that the bag (float16, as stored) and its inversion add, in sizes of the bag in float32."""
    inversion_of(64, steps=2)()
    before = _peak_kb()
    inversion_of(INSTANCES // scale, steps=2)()
    return (_peak_kb() - before) * 1024 / (INSTANCES // scale * FEATURES * BYTES_OF_FLOAT32)


def drawing(n_tiles: int, before: Path | None) -> dict[str, float]:
    """Measure time and memory of the files that `heatmap` writes for a slide of `n_tiles` and one of few tiles."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (make_scored_slide(Path(folder, str(n)), n) for n in (FEW_TILES, n_tiles))
        figures = _parts(many, Path(folder))
        figures["heatmap_gb"] = peak_gb(_together(many, Path(folder)))
        name = f"heatmap_cpu_vs_{'before' if before else 'apart'}"
        figures |= {name: _cpu_ratio(many, Path(folder), before), f"{name}_of_few_tiles": _cpu_ratio(few, Path(folder), before)}
    print(
        f"{n_tiles:,} tiles: PNG and OME-TIFF {figures['heatmap_s']:.2f} s, GeoJSON {figures['geojson_s']:.2f} s;"
        f" peak memory of a process that draws {len(METHODS)} methods {figures['heatmap_gb']:.2f} GB"
    )
    return figures


def _parts(slide: ScoredSlide, folder: Path) -> dict[str, float]:
    """Seconds of PNG and OME-TIFF, and of GeoJSON, of one method."""
    scores = read_slide_scores(slide.row, slide.scores, slide.tiles, METHOD, scale="auto", ranges={})
    image = folder / f"{METHOD}.png"

    def pictures() -> None:
        again = read_slide_scores(slide.row, slide.scores, slide.tiles, METHOD, scale="auto", ranges={})
        seen, _ = backdrop(again, slide.row, store_path(slide.tiles), Truth())
        write_bytes(image, draw(picture(again, seen, title(slide.row, again.receipt, METHOD)), Heatmap()))
        write_bytes(image.with_suffix(".ome.tif"), ome_tiff([again]))

    return {"heatmap_s": seconds(pictures), "geojson_s": seconds(lambda: geojson(scores, Heatmap()))}


def _cpu_ratio(slide: ScoredSlide, folder: Path, before: Path | None) -> float:
    """CPU time of the heatmaps of three methods in one process, as a share of that in three, in turns."""
    apart = [_before(before, slide, folder, method) if before else _together(slide, folder, (method,)) for method in METHODS]
    turns = [(cpu_seconds([_together(slide, folder)]), cpu_seconds(apart)) for _ in range(TURNS)]
    one, three = (median(times) for times in zip(*turns, strict=True))
    print(f"CPU time of the heatmaps of {len(METHODS)} methods: {one:.2f} s in one process, {three:.2f} s in three")
    return one / three


def _together(slide: ScoredSlide, folder: Path, methods: Sequence[str] = METHODS) -> list[str]:
    """Command that draws some methods in one process."""
    folders = [f"--scores={slide.scores.parent}", f"--tiles={slide.tiles.parent}", f"--heatmaps={folder / 'heatmaps'}"]
    names = [f"--method={method}" for method in methods]
    return [str(COMMAND), "heatmap", "--row", _row_json(slide, path=str(slide.row.path)), *folders, *names, "--settings={}"]


def _before(command: Path, slide: ScoredSlide, folder: Path, method: str) -> list[str]:
    """Command of an earlier version that draws one method."""
    files = ["--scores", str(slide.scores), "--tiles", str(slide.tiles), "--slide", str(slide.row.path)]
    what = ["--row", _row_json(slide), "--method", method, "--settings", "{}"]
    return [str(command), "heatmap", *files, *what, "--image", str(folder / "before" / f"{method}.png")]


def _row_json(slide: ScoredSlide, **more: str) -> str:
    row = slide.row
    return json.dumps({"slide_id": row.slide_id, "label": row.label, "annotation": str(row.annotation), **more})


def cpu_seconds(commands: Sequence[list[str]]) -> float:
    """Return the CPU seconds (user and system) of commands and their children."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        _output(command)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def peak_gb(command: list[str]) -> float:
    """Return the most memory that a command held, GB."""
    process = subprocess.Popen(command, env={**os.environ, AGAIN_VARIABLE: "heatmap"}, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / KB_OF_A_GB


def _output(command: list[str]) -> str:
    """Output of a command, in which nothing is skipped because it is done."""
    environment = {**os.environ, AGAIN_VARIABLE: "heatmap"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def in_child(part: str, scale: int) -> float:
    """Return the figure that a new process measures."""
    return float(json.loads(_output([sys.executable, __file__, "--child", part, "--scale", str(scale)]).splitlines()[-1]))


def _peak_kb() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def violations(figures: dict[str, float]) -> Iterator[str]:
    """Yield a message for each figure above its limit."""
    for name, value in figures.items():
        if not value <= LIMITS[name]:
            yield f"{name} is {value:.3f}, expected at most {LIMITS[name]:g}"


PARTS = ("contribution", "inversion", "drawing")
CHILDREN: dict[str, Callable[[int], float]] = {
    "memory": memory,
    **{f"memory_of_{model}": partial(contribution_memory, model=model) for model in OF_CONTRIBUTION},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="run this part only")
    parser.add_argument("--n-tiles", type=int, default=TILES, help="tiles of the slide that is drawn")
    parser.add_argument("--before", type=Path, help="wsi-mil of an earlier version")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    parser.add_argument("--scale", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tiny:
        args.scale, args.n_tiles = TINY_SCALE, FEW_TILES
    set_threads(THREADS)
    if args.child:
        print(json.dumps(CHILDREN[args.child](args.scale)))
        return
    figures: dict[str, float] = {}
    if args.only in (None, "contribution"):
        figures |= contributions(args.scale)
    if args.only in (None, "inversion"):
        figures |= inversion(args.scale)
    if args.only in (None, "drawing"):
        figures |= drawing(args.n_tiles, args.before)
    faults = [] if args.tiny else list(violations(figures))
    print(*faults, sep="\n")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
