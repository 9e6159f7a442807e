#!/usr/bin/env python3
"""Measure time and memory of sparse inversion and of drawing heatmaps.

    python benchmarks/explain.py                     all parts
    python benchmarks/explain.py --only inversion    one part

inversion    sparse inversion of 20,000 × 1024 instances with gated ABMIL: seconds per step, memory in sizes of the bag,
             and growth of time with the number of instances
drawing      heatmap, OME-TIFF and GeoJSON of a slide of 20,000 tiles

The exit code is 1 if a figure is above its limit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from wsi_mil.config import Heatmap, SparseInversion, Truth, parse_model
from wsi_mil.devices import set_threads
from wsi_mil.explain.sparse_inversion import Refinement, refine
from wsi_mil.files import write_bytes
from wsi_mil.heatmaps import draw_heatmap
from wsi_mil.heatmaps.overlay import draw
from wsi_mil.heatmaps.raster import ome_tiff
from wsi_mil.heatmaps.regions import geojson
from wsi_mil.heatmaps.slide_scores import read_slide_scores
from wsi_mil.heatmaps.stage import picture
from wsi_mil.models import create_model
from wsi_mil.receipts import array_digest, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow, TileGrid
from wsi_mil.store import write_grid, write_scores

FEATURES, INSTANCES, THREADS = 1024, 20_000, 2
TILES, METHOD = 20_000, "evidence"
SIZES = (5_000, 10_000, 20_000, 40_000)
STEPS = 5
BYTES_OF_FLOAT32, KB_OF_A_GB = 4, 1024**2
LIMITS: dict[str, float] = {
    "sni_step_s": 0.6,
    "sni_memory_vs_bag": 4.0,
    "sni_time_per_instance_40k_vs_10k": 1.25,
    "heatmap_s": 5.0,
    "heatmap_gb": 1.0,
    "geojson_s": 10.0,
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


def inversion() -> dict[str, float]:
    """Measure time and memory of sparse inversion."""
    step_s = {}
    for n in SIZES:
        step_s[n] = (seconds(inversion_of(n, steps=1 + STEPS)) - seconds(inversion_of(n, steps=1))) / STEPS
        print(f"sparse inversion, {n:6,} × {FEATURES}: {step_s[n]:.3f} s per step, {step_s[n] / n * 1e6:.1f} µs per instance")
    peak = in_child("memory")
    print(f"memory of {INSTANCES:,} × {FEATURES}: {peak:.2f} times the bag, including the bag")
    return {
        "sni_step_s": step_s[INSTANCES],
        "sni_memory_vs_bag": peak,
        "sni_time_per_instance_40k_vs_10k": step_s[40_000] / step_s[10_000] / 4,
    }


def memory() -> float:
    """Return the peak memory that the bag (float16, as stored) and its inversion add, in sizes of the bag in float32."""
    inversion_of(64, steps=2)()
    before = _peak_kb()
    inversion_of(INSTANCES, steps=2)()
    return (_peak_kb() - before) * 1024 / (INSTANCES * FEATURES * BYTES_OF_FLOAT32)


def drawing() -> dict[str, float]:
    """Measure time and memory of the files that `heatmap` writes for a slide; memory in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        row, scores, tiles = scored_slide(Path(folder))
        slide_scores = read_slide_scores(row, scores, tiles, METHOD, scale="auto", ranges={})
        image = Path(folder) / f"{METHOD}.png"

        def pictures() -> None:
            again = read_slide_scores(row, scores, tiles, METHOD, scale="auto", ranges={})
            write_bytes(image, draw(picture(again, row, store_path(tiles), Truth()), Heatmap()))
            write_bytes(image.with_suffix(".ome.tif"), ome_tiff(again))

        figures = {"heatmap_s": seconds(pictures), "geojson_s": seconds(lambda: geojson(slide_scores, Heatmap()))}
        whole = seconds(lambda: draw_heatmap(row, scores, tiles, METHOD, Heatmap(), image))
    figures["heatmap_gb"] = in_child("drawing_memory")
    print(
        f"{TILES:,} tiles: PNG and OME-TIFF {figures['heatmap_s']:.2f} s, GeoJSON {figures['geojson_s']:.2f} s;"
        f" all files {whole:.2f} s; peak memory of the process {figures['heatmap_gb']:.2f} GB"
    )
    return figures


def drawing_memory() -> float:
    """Return the peak memory in GB of a process that draws all files, including this script's import of torch."""
    with tempfile.TemporaryDirectory() as folder:
        row, scores, tiles = scored_slide(Path(folder))
        draw_heatmap(row, scores, tiles, METHOD, Heatmap(), Path(folder) / f"{METHOD}.png")
    return _peak_kb() / KB_OF_A_GB


def scored_slide(folder: Path) -> tuple[SlideRow, Path, Path]:
    """Write receipts and stores of a slide whose scores are high in two regions and in scattered tiles."""
    side, columns = 256, 200
    place = np.arange(TILES)
    cells = np.stack([place % columns, place // columns], axis=1)
    coords, dimensions = cells * side, (columns * side + 100, (TILES // columns) * side + 30)
    rng = np.random.default_rng(0)
    values = rng.normal(-2, 1.5, TILES).astype(np.float32)
    for x, y, radius in ((40, 30, 9), (150, 70, 16)):
        values[np.hypot(*(cells - (x, y)).T) < radius] += 5
    tiles, scores = folder / "t" / "s.json", folder / "s" / "s.json"
    grid = TileGrid(coords, np.ones(TILES, np.float32), side, (side, side))
    write_grid(store_path(tiles), grid, np.full((512, 1024, 3), 240, np.uint8), {"dimensions": list(dimensions)})
    same = {"coords_digest": array_digest(coords), "slide_hash": "made"}
    tiling = {"mpp": 0.5, "tile_px": side, "overlap": 0}
    geometry = {"slide_id": "s", "dimensions": dimensions, "mpp": (0.5, 0.5), "tile_px_level0": (side, side), "bounds": None}
    write_receipt(tiles, {**geometry, **same, "reader": "auto", "settings": {"tiling": tiling}})
    instance_scores = InstanceScores(METHOD, values, "log odds", "log_odds", comparable=True)
    write_scores(store_path(scores), coords, [instance_scores], {})
    method = {"unit": "log_odds", "kind": "log odds", "comparable": True, "comparable_weighed": True, "zero": 0.0, "reason": ""}
    content = {"probs": [0.1, 0.9], "threshold": 0.5, "predicted": 1, "target": 1, "classes": ["normal", "tumour"]}
    content |= {"role": "test", "protocol": "held_out", "bag_instances": TILES, "methods": {METHOD: method}}
    write_receipt(scores, {"slide_id": "s", "tiles": same, **content})
    return SlideRow("s", Path("gone.svs"), label="tumour"), scores, tiles


def in_child(part: str) -> float:
    """Return the figure that a new process measures."""
    done = subprocess.run([sys.executable, __file__, "--child", part], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _peak_kb() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def violations(figures: dict[str, float]) -> Iterator[str]:
    """Yield a message for each figure above its limit."""
    for name, value in figures.items():
        if not value <= LIMITS[name]:
            yield f"{name} is {value:.3f}, expected at most {LIMITS[name]:g}"


PARTS: dict[str, Callable[[], dict[str, float]]] = {"inversion": inversion, "drawing": drawing}
CHILDREN: dict[str, Callable[[], float]] = {"memory": memory, "drawing_memory": drawing_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="run this part only")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_threads(THREADS)
    if args.child:
        print(json.dumps(CHILDREN[args.child]()))
        return
    figures: dict[str, float] = {}
    for name in [args.only] if args.only else PARTS:
        figures |= PARTS[name]()
    faults = list(violations(figures))
    print(*faults, sep="\n")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
