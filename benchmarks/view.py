#!/usr/bin/env python3
"""Measure speed and memory of `wsi-mil view`, on a synthetic cohort of 200 slides and on a large slide.

python benchmarks/view.py [--slide LARGE_SLIDE] [--slides 200] [--in-flight 8] [--tiles 400]

Without --slide a slide of 400 megapixels is made from the demo's texture. The first view of the cohort page and of the large
slide's page is timed in Chromium from the click to the last tile: the median of five, each in a new tab with an empty cache,
after another page has started the browser. Random tiles of random levels, of slide and heatmap alternately, are requested
over --in-flight connections at once, after the slide was opened. Memory is the peak of the server, a process of its own.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import yaml
from read import SIDE_BLOCKS, write_slide

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_run import CLASSES, ENCODER, TILING, write_run
from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.targets import NAME, block_of, targets_of
from wsi_mil.cohort import read_sheet
from wsi_mil.config import TileSettings, Tiling, Tissue
from wsi_mil.receipts import read_receipt
from wsi_mil.results import Results
from wsi_mil.view.deepzoom import TILE_PX, Pyramid

MODEL, LARGE, MPP = "abmil", "large", 0.5
ENTRY = f"{ENCODER}/{MODEL}"
VISIBLE_IMAGES_ARE_LOADED = (
    "[...document.images].filter(i => { const at = i.getBoundingClientRect();"
    " return at.top < innerHeight && at.left < innerWidth; }).every(i => i.complete)"
)
VIEWS = {
    "cohort_first_view_s": ("/", "#slides tbody tr:nth-child(5) img"),
    "slide_first_view_s": (f"/slides/{LARGE}", "main:not([aria-busy=true])"),
}
ROUNDS = 5
TINY = {"slides": 9, "tiles": 12, "in_flight": 2, "side_blocks": 64, "rounds": 1}
LAYER = f"/slides/{LARGE}/layers/{NAME}/{ENTRY}/attention/auto"


def write_results(folder: Path, large: Path, n: int) -> Results:
    """Run all stages on a cohort of small slides and a large one; return the results folder."""
    names = [f"slide_{i:03d}" for i in range(n - 1)]
    small = [write_aperio(folder / f"{name}.svs", tissue_image(1600, 1120, seed=i)) for i, name in enumerate(names)]
    slides = [*zip(names, small, strict=True), (LARGE, large.resolve())]
    rows = [
        {"slide_id": slide_id, "path": str(path), "label": CLASSES[i % 2], "patient_id": f"p{i}", "mpp": str(MPP)}
        for i, (slide_id, path) in enumerate(slides)
    ]
    sheet = read_sheet(write_cohort(folder, rows), targets_of(*CLASSES))
    assert not sheet.faults, sheet.faults
    results = Results(folder / "results")
    tile = TileSettings(tiling=Tiling(mpp=MPP, min_tissue=0), tissue=Tissue(method="none"))
    write_run(results, [row.for_target(NAME) for row in sheet.rows], tile, [MODEL], ("attention", "evidence"))
    config = {"cohort": "cohort.csv", "targets": block_of(*CLASSES), "models": {MODEL: {"model": "abmil"}}}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    receipt = read_receipt(results.tiles_receipt(TILING, LARGE))
    pixels = receipt["dimensions"][0] * receipt["dimensions"][1]
    print(f"{n} slides; {large.name}: {pixels / 1e9:.1f} gigapixels, {receipt['n_tiles']:,} scored tiles")
    return results


@contextmanager
def server_of(results: Path) -> Iterator[tuple[str, int]]:
    """Start `wsi-mil view`; yield its address and process id."""
    command = [sys.executable, "-m", "wsi_mil", "view", str(results), "--port=8900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(word for word in server.stdout.readline().split() if word.startswith("http")).rstrip("/"), server.pid
        finally:
            server.terminate()


def get(connection: HTTPConnection, path: str) -> float:
    """Return the milliseconds of a request."""
    start = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200 and content, (path, answer.status)
    return 1000 * (time.perf_counter() - start)


def tile_paths(version: str, dimensions: tuple[int, int], n: int) -> list[str]:
    """Return URLs of random tiles of the six finest levels, of slide and heatmap alternately."""
    pyramid, rng = Pyramid(dimensions), random.Random(0)
    paths = []
    for i in range(n):
        level = rng.randint(max(0, pyramid.max_level - 5), pyramid.max_level)
        column, row = (rng.randrange(-(-side // TILE_PX)) for side in pyramid.size(level))
        slide_tile, heat = f"/slides/{LARGE}/image/{version}/{level}/{column}_{row}.jpg", f"{level}/{column}_{row}.png"
        paths.append(f"{LAYER}/viridis/0/{heat}" if i % 2 else slide_tile)
    return paths


def tile_figures(address: str, *, n: int, in_flight: int) -> dict[str, float]:
    """Return milliseconds per tile with `in_flight` requests at once."""
    host = address.removeprefix("http://")
    connection = HTTPConnection(host, timeout=30)
    connection.request("GET", f"/slides/{LARGE}")
    page = connection.getresponse().read().decode()
    image = json.loads(re.search(r'id="slide-data">(.*?)</script>', page, re.DOTALL)[1])["image"]
    paths = tile_paths(image["version"], tuple(image["dimensions"]), n)
    for path in paths[:2]:
        get(connection, path)

    def get_part(part: list[str]) -> list[float]:
        own = HTTPConnection(host, timeout=30)
        return [get(own, path) for path in part]

    with ThreadPoolExecutor(in_flight) as pool:
        start = time.perf_counter()
        times = [ms for part in pool.map(get_part, [paths[i::in_flight] for i in range(in_flight)]) for ms in part]
        seconds = time.perf_counter() - start
    median, p95 = np.percentile(times, [50, 95])
    return {"tile_median_ms": float(median), "tile_p95_ms": float(p95), "tiles_per_s": len(times) / seconds}


def first_views(address: str, rounds: int) -> dict[str, float]:
    """Return the seconds until a page and all visible images are loaded, medians over rounds."""
    from playwright.sync_api import sync_playwright

    seconds: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=args)
        browser.new_page().goto(f"{address}/slides/slide_000")
        for _ in range(rounds):
            for name, (path, selector) in VIEWS.items():
                context = browser.new_context(viewport={"width": 1280, "height": 800})
                page = context.new_page()
                start = time.perf_counter()
                page.goto(address + path)
                page.wait_for_selector(selector)
                while not page.evaluate(VISIBLE_IMAGES_ARE_LOADED):
                    time.sleep(0.005)
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                context.close()
        browser.close()
    return {name: float(np.median(times)) for name, times in seconds.items()}


def peak_mb(pid: int) -> float:
    """Return the peak memory of a process in MB."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, help="a large slide, about 10 gigapixels")
    parser.add_argument("--slides", type=int, default=200, help="slides of the cohort")
    parser.add_argument("--in-flight", type=int, default=8, help="requests at once")
    parser.add_argument("--tiles", type=int, default=400, help="tiles requested")
    parser.set_defaults(side_blocks=SIDE_BLOCKS, rounds=ROUNDS)
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        large = args.slide or write_slide(Path(folder) / "made.svs", args.side_blocks)
        results = write_results(Path(folder), large, args.slides)
        with server_of(results.folder) as (address, pid):
            if shutil.which("chromium"):
                figures |= first_views(address, args.rounds)
            else:
                print("first views are skipped: no Chromium is installed")
            figures |= tile_figures(address, n=args.tiles, in_flight=args.in_flight)
            figures["server_mb"] = peak_mb(pid)
    limits = {"cohort_first_view_s": 1, "slide_first_view_s": 1, "tile_median_ms": 50, "tile_p95_ms": 200, "server_mb": 1000}
    print(f"{os.cpu_count()} cores, {args.in_flight} tiles in flight")
    for name, value in figures.items():
        print(f"  {name:20s} {value:8.2f}" + (f"   at most {limits[name]}" if name in limits else ""))
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
