#!/usr/bin/env python3
"""How fast is `wsi-mil view`, and how much memory does it take? On a made cohort of 200 slides and on a large slide.

python benchmarks/view.py [--slide LARGE_SLIDE] [--slides 200] [--in-flight 8] [--tiles 400]

Without --slide a slide of 400 megapixels is made from the demo's texture. The first view of the cohort page and of the large
slide's page is timed in Chromium from the click to the last tile: the median of five, each in a new tab with nothing cached,
after another page has started the browser. Tiles are asked for at random places of random levels, slide and heatmap in turn,
by as many connections at once as --in-flight says, after the slide was opened once. Memory is the most that the server, a
process of its own, has held.
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
from read import write_slide

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conftest import tissue_image, write_aperio
from tests.heatmap_files import Made
from tests.view.made import Results
from wsi_mil.slides import open_slide, slide_hash
from wsi_mil.view.deepzoom import TILE_PX, Pyramid

ENTRY, LARGE, TILE = "enc/abmil", "large", 224
SEEN_IMAGES_ARE_THERE = (
    "[...document.images].filter(i => { const at = i.getBoundingClientRect();"
    " return at.top < innerHeight && at.left < innerWidth; }).every(i => i.complete)"
)
VIEWS = {
    "cohort_first_view_s": ("/", "#slides tbody tr:nth-child(5) img"),
    "slide_first_view_s": (f"/slides/{LARGE}", "main:not([aria-busy=true])"),
}
ROUNDS = 5
LAYER = f"/slides/{LARGE}/layers/{ENTRY}/attention/auto"


def write_cohort_of(results: Results, n: int) -> dict[str, float]:
    """Small slides with scores; all of them are one file, so that making them takes seconds. Probabilities by slide_id."""
    rng = np.random.default_rng(0)
    path = write_aperio(results.folder / "small.svs", tissue_image(1600, 1120))
    coords = np.stack(np.meshgrid(np.arange(0, 1376, TILE), np.arange(0, 896, TILE)), axis=-1).reshape(-1, 2)
    probs = {f"slide_{i:03d}": float(rng.random()) for i in range(n)}
    for i, (slide_id, prob) in enumerate(probs.items()):
        write_scored(results, slide_id, path, coords, prob, rng)
        results.rows.append(
            {"slide_id": slide_id, "path": path.name, "label": ("normal", "tumour")[i % 2], "patient_id": f"p{i}"}
        )
    return probs


def write_scored(results: Results, slide_id: str, path: Path, coords: np.ndarray, prob: float, rng: np.random.Generator) -> None:
    """What `tile` and `explain` leave of a slide."""
    with open_slide(path, mpp=0.5) as slide:
        dimensions = slide.dimensions
    values = rng.exponential(size=len(coords)).astype(np.float32)
    made = Made(coords, values, dimensions, TILE, slide_id=slide_id, method="attention", prob=prob, slide_hash=slide_hash(path))
    made.tiles |= {"status": "ok", "reason": "", "n_tiles": len(coords), "reader": "auto"}
    results.write_tiles(made)
    results.write_scores(made, {"evidence": values[::-1].copy()}, ENTRY)


def write_results(folder: Path, large: Path, n: int) -> Results:
    """A finished run: small slides and a large one, scored on a grid that covers half of it."""
    results, rng = Results(folder), np.random.default_rng(1)
    probs = write_cohort_of(results, n - 1)
    with open_slide(large, mpp=0.5) as slide:
        width, height = slide.dimensions
    coords = np.stack(np.meshgrid(np.arange(0, width // 2, TILE), np.arange(0, height - TILE, TILE)), axis=-1).reshape(-1, 2)
    write_scored(results, LARGE, large, coords, 0.9, rng)
    results.rows.append({"slide_id": LARGE, "path": str(large.resolve()), "label": "tumour", "patient_id": "pl"})
    results.write_predictions({**probs, LARGE: 0.9}, ENTRY)
    results.write_status(dict.fromkeys((*probs, LARGE), ("ok", "")))
    results.catalogue()
    config = {"cohort": "cohort.csv", "classes": ["normal", "tumour"], "models": {"abmil": {"model": "abmil"}}}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    print(f"{n} slides; {large.name}: {width * height / 1e9:.1f} gigapixels, {len(coords):,} scored tiles")
    return results


@contextmanager
def server_of(results: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of `wsi-mil view`."""
    command = [sys.executable, "-m", "wsi_mil", "view", str(results), "--port=8900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(word for word in server.stdout.readline().split() if word.startswith("http")).rstrip("/"), server.pid
        finally:
            server.terminate()


def get(connection: HTTPConnection, path: str) -> float:
    """Milliseconds that an answer takes."""
    start = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200 and content, (path, answer.status)
    return 1000 * (time.perf_counter() - start)


def tile_paths(version: str, dimensions: tuple[int, int], n: int) -> list[str]:
    """Random tiles of the six finest levels, slide and heatmap in turn."""
    pyramid, rng = Pyramid(dimensions), random.Random(0)
    paths = []
    for i in range(n):
        level = rng.randint(max(0, pyramid.max_level - 5), pyramid.max_level)
        column, row = (rng.randrange(-(-side // TILE_PX)) for side in pyramid.size(level))
        slide_tile, heat = f"/slides/{LARGE}/image/{version}/{level}/{column}_{row}.jpg", f"{level}/{column}_{row}.png"
        paths.append(f"{LAYER}/viridis/0/{heat}" if i % 2 else slide_tile)
    return paths


def tile_figures(address: str, *, n: int, in_flight: int) -> dict[str, float]:
    """Milliseconds a tile while `in_flight` are asked for at once."""
    host = address.removeprefix("http://")
    connection = HTTPConnection(host, timeout=30)
    connection.request("GET", f"/slides/{LARGE}")
    page = connection.getresponse().read().decode()
    image = json.loads(re.search(r'id="slide-data">(.*?)</script>', page, re.DOTALL)[1])["image"]
    paths = tile_paths(image["version"], tuple(image["dimensions"]), n)
    for path in paths[:2]:
        get(connection, path)

    def some(part: list[str]) -> list[float]:
        own = HTTPConnection(host, timeout=30)
        return [get(own, path) for path in part]

    with ThreadPoolExecutor(in_flight) as pool:
        start = time.perf_counter()
        times = [ms for part in pool.map(some, [paths[i::in_flight] for i in range(in_flight)]) for ms in part]
        seconds = time.perf_counter() - start
    median, p95 = np.percentile(times, [50, 95])
    return {"tile_median_ms": float(median), "tile_p95_ms": float(p95), "tiles_per_s": len(times) / seconds}


def first_views(address: str) -> dict[str, float]:
    """Seconds until a page and all that is seen of it is there."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=args)
        browser.new_page().goto(f"{address}/slides/slide_000")
        for _ in range(ROUNDS):
            for name, (path, there) in VIEWS.items():
                context = browser.new_context(viewport={"width": 1280, "height": 800})
                page = context.new_page()
                start = time.perf_counter()
                page.goto(address + path)
                page.wait_for_selector(there)
                while not page.evaluate(SEEN_IMAGES_ARE_THERE):
                    time.sleep(0.005)
                found.setdefault(name, []).append(time.perf_counter() - start)
                context.close()
        browser.close()
    return {name: float(np.median(times)) for name, times in found.items()}


def peak_mb(pid: int) -> float:
    """The most that a process has held."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, help="a large slide, best of 10 gigapixels")
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=400)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        large = args.slide or write_slide(Path(folder) / "made.svs")
        results = write_results(Path(folder), large, args.slides)
        with server_of(results.results) as (address, pid):
            if shutil.which("chromium"):
                figures |= first_views(address)
            else:
                print("no Chromium: first views are not timed")
            figures |= tile_figures(address, n=args.tiles, in_flight=args.in_flight)
            figures["server_mb"] = peak_mb(pid)
    limits = {"cohort_first_view_s": 1, "slide_first_view_s": 1, "tile_median_ms": 50, "tile_p95_ms": 200, "server_mb": 1000}
    print(f"{os.cpu_count()} cores, {args.in_flight} tiles in flight")
    for name, value in figures.items():
        print(f"  {name:20s} {value:8.2f}" + (f"   at most {limits[name]}" if name in limits else ""))
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
