#!/usr/bin/env python3
"""What explaining and drawing a slide costs.

    python benchmarks/explain.py                  everything
    python benchmarks/explain.py --only inversion

Sparse inversion of 20,000 × 1024 instances on gated ABMIL: seconds a step, memory beside the bag's own, and how time grows
with instances. Heatmap, OME-TIFF and GeoJSON of a slide of 20,000 tiles. Exit code 1 where a figure misses what is promised.
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
PROMISED: dict[str, float] = {
    "sni_step_s": 0.6,
    "sni_memory_vs_bag": 4.0,
    "sni_time_per_instance_40k_vs_10k": 1.25,
    "heatmap_s": 5.0,
    "heatmap_gb": 1.0,
    "geojson_s": 10.0,
}
"""The most that each may be."""


def inverted(n: int, *, steps: int) -> Callable[[], Refinement]:
    """Sparse inversion of a bag of `n` half-normal instances, which is always taken for positive."""
    torch.manual_seed(0)
    model = create_model(parse_model({"model": "abmil"}), feature_dim=FEATURES, n_classes=2).eval().requires_grad_(False)
    bag = torch.randn(1, n, FEATURES, dtype=torch.float16).abs_()  # as it comes from the store
    settings = SparseInversion(steps=steps, penalty=0.001, tolerance=0)
    return lambda: refine(model, bag, 1, settings, threshold=0.0)


def seconds(work: Callable[[], object]) -> float:
    """Least of three, since others share the machine."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        work()
        times.append(time.monotonic() - start)
    return min(times)


def inversion() -> dict[str, float]:
    """Time and memory of sparse inversion."""
    each = {}
    for n in SIZES:
        each[n] = (seconds(inverted(n, steps=1 + STEPS)) - seconds(inverted(n, steps=1))) / STEPS
        print(f"sparse inversion, {n:6,} × {FEATURES}: {each[n]:.3f} s a step, {each[n] / n * 1e6:.1f} µs an instance")
    peak = in_child("memory")
    print(f"memory of {INSTANCES:,} × {FEATURES}: {peak:.2f} times the bag, the bag among it")
    return {
        "sni_step_s": each[INSTANCES],
        "sni_memory_vs_bag": peak,
        "sni_time_per_instance_40k_vs_10k": each[40_000] / each[10_000] / 4,
    }


def memory() -> float:
    """Peak memory that bag (float16, as it is stored) and inversion add to a process, in sizes of the bag in float32."""
    inverted(64, steps=2)()
    before = _peak_kb()
    inverted(INSTANCES, steps=2)()
    return (_peak_kb() - before) * 1024 / (INSTANCES * FEATURES * BYTES_OF_FLOAT32)


def drawing() -> dict[str, float]:
    """Time and memory of what `heatmap` writes of a slide of 20,000 tiles; a process of its own for memory."""
    with tempfile.TemporaryDirectory() as folder:
        row, scores, tiles = scored_slide(Path(folder))
        found = read_slide_scores(row, scores, tiles, METHOD, scale="auto", ranges={})
        image = Path(folder) / f"{METHOD}.png"

        def pictures() -> None:
            again = read_slide_scores(row, scores, tiles, METHOD, scale="auto", ranges={})
            write_bytes(image, draw(picture(again, row, store_path(tiles), Truth()), Heatmap()))
            write_bytes(image.with_suffix(".ome.tif"), ome_tiff(again))

        figures = {"heatmap_s": seconds(pictures), "geojson_s": seconds(lambda: geojson(found, Heatmap()))}
        whole = seconds(lambda: draw_heatmap(row, scores, tiles, METHOD, Heatmap(), image))
    figures["heatmap_gb"] = in_child("drawing_memory")
    print(
        f"{TILES:,} tiles: PNG and OME-TIFF {figures['heatmap_s']:.2f} s, GeoJSON {figures['geojson_s']:.2f} s;"
        f" all files {whole:.2f} s; the process holds at most {figures['heatmap_gb']:.2f} GB"
    )
    return figures


def drawing_memory() -> float:
    """Most that a process holds which draws everything, in GB; what torch takes in this script's imports is in it."""
    with tempfile.TemporaryDirectory() as folder:
        row, scores, tiles = scored_slide(Path(folder))
        draw_heatmap(row, scores, tiles, METHOD, Heatmap(), Path(folder) / f"{METHOD}.png")
    return _peak_kb() / KB_OF_A_GB


def scored_slide(folder: Path) -> tuple[SlideRow, Path, Path]:
    """Receipts and stores of a slide of 20,000 tiles, with scores in which two regions and scattered tiles stand out."""
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
    about = {"slide_id": "s", "dimensions": dimensions, "mpp": (0.5, 0.5), "tile_px_level0": (side, side), "bounds": None}
    write_receipt(tiles, {**about, **same, "reader": "auto", "settings": {"tiling": tiling}})
    found = InstanceScores(METHOD, values, "log odds", "log_odds", comparable=True)
    write_scores(store_path(scores), coords, [found], {})
    said = {"unit": "log_odds", "kind": "log odds", "comparable": True, "zero": 0.0, "reason": ""}
    content = {"probs": [0.1, 0.9], "threshold": 0.5, "predicted": 1, "target": 1, "classes": ["normal", "tumour"]}
    content |= {"role": "test", "protocol": "held_out", "bag_instances": TILES, "methods": {METHOD: said}}
    write_receipt(scores, {"slide_id": "s", "tiles": same, **content})
    return SlideRow("s", Path("gone.svs"), label="tumour"), scores, tiles


def in_child(part: str) -> float:
    """What a process of its own finds."""
    done = subprocess.run([sys.executable, __file__, "--child", part], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _peak_kb() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def broken(figures: dict[str, float]) -> Iterator[str]:
    """What misses its promise."""
    for name, value in figures.items():
        if not value <= PROMISED[name]:
            yield f"{name} is {value:.3f}, promised at most {PROMISED[name]:g}"


PARTS: dict[str, Callable[[], dict[str, float]]] = {"inversion": inversion, "drawing": drawing}
CHILDREN: dict[str, Callable[[], float]] = {"memory": memory, "drawing_memory": drawing_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_threads(THREADS)
    if args.child:
        print(json.dumps(CHILDREN[args.child]()))
        return
    figures: dict[str, float] = {}
    for name in [args.only] if args.only else PARTS:
        figures |= PARTS[name]()
    faults = list(broken(figures))
    print(*faults, sep="\n")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
