#!/usr/bin/env python3
"""Measure the speed of reading tiles, compared with an OpenSlide loop and with decoding raw JPEG tiles, on the same threads.

python benchmarks/read.py [SLIDE ...] [--tile LARGE_SLIDE] [--threads 2] [--tiles 2000] [--rounds 5]

SLIDE is any slide in JPEG tiles; without one, a slide of 400 megapixels is made from the demo's texture. `read_tiles` is
timed on 256-px tiles aligned with the tiles of the file, on 224-px tiles at an odd offset, and at twice the µm per pixel;
the OpenSlide loop reads the same footprints and resizes them with Pillow. --tile times `wsi-mil tile` on a slide, in a
process of its own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile

from wsi_mil.config import Tiling
from wsi_mil.demo.texture import read_texture, texture_path
from wsi_mil.geometry import Mpp
from wsi_mil.records import TileGrid
from wsi_mil.slides import Slide, open_slide, read_tiles
from wsi_mil.tile.grid import tile_grid
from wsi_mil.tissue import TissueMask

BLOCK, SIDE_BLOCKS, MPP = 256, 80, 0.25
TINY = {"side_blocks": 64, "tiles": 40, "rounds": 1, "threads": 1}
ODD_OFFSET = (37, 21)
OVERVIEW_MPP, MIN_COLOUR = 16.0, 12
"""A pixel of the overview is tissue if its channels differ by more than `MIN_COLOUR` grey levels."""


def write_slide(path: Path, side_blocks: int = SIDE_BLOCKS, texture: np.ndarray | None = None) -> Path:
    """Write an Aperio slide at 0.25 µm, a square of tissue on glass.

    Args:
        path: file to write.
        side_blocks: its width and height in blocks of 256 pixels, a multiple of 64 unless the square may shift between levels;
            by default 20,480 × 20,480 pixels.
        texture: uint8 `[height, width, 3]` that the tissue's blocks are cut from; None: the demo's, downloaded if needed.
    """
    texture = read_texture(texture_path(None)).image if texture is None else texture
    rng = np.random.default_rng(0)

    def blocks(step: int) -> Iterator[np.ndarray]:
        n = side_blocks // step
        for row in range(n):
            for column in range(n):
                block = np.full((BLOCK, BLOCK, 3), 243, np.uint8)
                if n // 4 <= row < 3 * n // 4 and column < 3 * n // 4:
                    y, x = (int(rng.integers(side - BLOCK)) for side in texture.shape[:2])
                    block = texture[y : y + BLOCK, x : x + BLOCK].copy()
                yield block

    side = side_blocks * BLOCK
    text = f"Aperio Image Library v12\r\n{side}x{side} [0,0 {side}x{side}] (256x256) JPEG/RGB Q=80|AppMag = 40|MPP = {MPP}"
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for number, step in enumerate((1, 4, 16)):
            options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 80}, "description": text}
            tif.write(
                blocks(step), shape=(side // step, side // step, 3), dtype=np.uint8, tile=(BLOCK, BLOCK), metadata=None,
                subfiletype=int(number > 0), **options,
            )  # fmt: skip
    return path


def grids(path: Path, n: int) -> dict[str, tuple[TileGrid, float]]:
    """Return tissue tiles in neighbouring rows, with their mpp: aligned, at an odd offset, and at twice the mpp."""
    with open_slide(path, mpp=MPP) as slide:
        mask = TissueMask.whole(np.ptp(slide.read_overview(OVERVIEW_MPP).image, axis=2) > MIN_COLOUR)
        dimensions = slide.dimensions
    cases = (("native", 256, MPP, (0, 0)), ("offset", 224, MPP, ODD_OFFSET), ("half", 256, 2 * MPP, (0, 0)))
    grid_of = {}
    for name, tile_px, mpp, shift in cases:
        grid = tile_grid(dimensions, mask, Tiling(tile_px=tile_px, mpp=mpp, min_tissue=0.2), Mpp(MPP, MPP))
        start = max(0, (len(grid.coords) - n) // 2)
        coords = grid.coords[start : start + n] + np.array(shift)
        grid_of[name] = (TileGrid(coords, grid.tissue_fraction[start : start + n], tile_px, grid.tile_px_level0), mpp)
    return grid_of


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_all(slide: Slide, grid: TileGrid, mpp: float, threads: int) -> None:
    """Read all tiles with `read_tiles`."""
    for batch in read_tiles(slide, grid, mpp=mpp, threads=threads):
        assert batch.readable.all()


def openslide_loop(slide: openslide.OpenSlide, grid: TileGrid, threads: int) -> None:
    """Read all tiles with OpenSlide and resize them with Pillow."""
    size = (grid.tile_px, grid.tile_px)

    def read(corner: np.ndarray) -> np.ndarray:
        image = slide.read_region((int(corner[0]), int(corner[1])), 0, grid.tile_px_level0).convert("RGB")
        return np.asarray(image if image.size == size else image.resize(size))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, grid.coords, chunksize=8):
            pass


def decode_only(path: Path, grid: TileGrid, threads: int) -> None:
    """Decode the JPEG tiles of level 0 that the aligned tiles consist of; an upper bound on the speed."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
    n_columns = -(-page.imagewidth // page.tilewidth)

    def read(corner: np.ndarray) -> np.ndarray:
        index = corner[1] // page.tilelength * n_columns + corner[0] // page.tilewidth
        with path.open("rb") as file:
            file.seek(page.dataoffsets[index])
            data = file.read(page.databytecounts[index])
        return imagecodecs.jpeg8_decode(data, tables=page.jpegtables)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, grid.coords, chunksize=8):
            pass


def compare(path: Path, *, tiles: int, threads: int, rounds: int) -> dict[str, float]:
    """Return speeds relative to the OpenSlide loop and to decoding alone, medians over rounds."""
    grid_of = grids(path, tiles)
    ratios: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for _, (name, (grid, mpp)) in product(range(rounds), grid_of.items()):
        with open_slide(path, mpp=MPP) as slide, openslide.OpenSlide(path) as other:
            own_s = seconds(lambda: read_all(slide, grid, mpp, threads))  # noqa: B023, called at once
            loop_s = seconds(lambda: openslide_loop(other, grid, threads))  # noqa: B023
        ratios.setdefault(f"{name}_vs_openslide", []).append(loop_s / own_s)
        rates.setdefault(name, []).append(len(grid.coords) / own_s)
        if name == "native":
            decode_s = seconds(lambda: decode_only(path, grid, threads))  # noqa: B023
            ratios.setdefault("native_vs_ceiling", []).append(decode_s / own_s)
    for name, values in rates.items():
        print(f"  {name:8s} {len(grid_of[name][0].coords)} tiles, {statistics.median(values):6.0f} tiles/s")
    return {name: round(statistics.median(values), 2) for name, values in ratios.items()}


def peak_mb(path: Path, threads: int) -> float:
    """Return the peak memory in MB of a process that reads all tissue tiles of a slide; compare it between slides."""
    code = (
        f"import re, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; import read\n"
        f"grid, mpp = read.grids(Path({str(path)!r}), 10**9)['offset']\n"
        f"read.read_all(read.open_slide(Path({str(path)!r}), mpp=read.MPP), grid, mpp, {threads})\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"  # getrusage includes the parent
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return round(int(done.stdout.split()[-1]) / 1024)


def measure_tile(path: Path, threads: int) -> dict[str, float]:
    """Return wall seconds and peak memory of `wsi-mil tile` with default settings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wsi_mil", "tile", f"--tiles={folder}", f"--threads={threads}"]
        row = json.dumps({"slide_id": "large", "path": str(path)})
        elapsed = seconds(lambda: subprocess.run([*command, f"--row={row}", "--settings={}"], check=True) and None)
        receipt = json.loads(Path(folder, "large.json").read_text(encoding="utf-8"))
    width, height = receipt["dimensions"]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{path.name}: {width * height / 1e9:.1f} gigapixels, {receipt['n_tiles']} tiles: {elapsed:.1f} s, {memory:.0f} MB")
    return {"tile_10gp_s": round(elapsed, 1), "tile_10gp_mb": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="*", type=Path, help="slides in JPEG tiles; a synthetic one if none is given")
    parser.add_argument("--tile", type=Path, help="a slide for `wsi-mil tile`, about 10 gigapixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=2000, help="tiles per slide")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each measurement")
    parser.set_defaults(side_blocks=SIDE_BLOCKS)
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    figures: dict[str, object] = {}
    if args.tile:  # first, because the peak of later child processes would hide its memory
        figures |= measure_tile(args.tile, args.threads)
    with tempfile.TemporaryDirectory() as folder:
        for path in args.slides or [write_slide(Path(folder) / "made.svs", args.side_blocks)]:
            print(f"{path.name}, {args.threads} threads on {os.cpu_count()} cores")
            ratios = compare(path, tiles=args.tiles, threads=args.threads, rounds=args.rounds)
            figures[path.stem] = {**ratios, "peak_mb": peak_mb(path, args.threads)}
            print(f"  {figures[path.stem]}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
