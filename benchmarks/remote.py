#!/usr/bin/env python3
"""Measure reading a remote slide in place, compared with a local copy, over loopback and with added latency.

python benchmarks/remote.py [--slide SLIDE] [--delays 0 0.03] [--threads 2]

SLIDE is any slide that tiffslide opens; without one, a slide of 108 megapixels is made. For each mode and delay (seconds
before each response of the server), `tile` is run and all tiles are read as `extract` does, without encoding. The server
counts the bytes; copies are not reused. The last line is one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conftest import tissue_image, write_aperio
from tests.servers import Files, file_server
from wsi_mil.config import REMOTE_VARIABLE, TileSettings
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.slides import open_slide, read_tiles, remove_copies
from wsi_mil.store import read_grid
from wsi_mil.tile import tile_slide

MODES = ("local", "in place", "copy")
TINY = {"side": (1200, 900), "delays": [0.0, 0.001], "threads": 1}


def measure(path: Path, files: Files, mode: str, folder: Path, threads: int) -> dict[str, float]:
    """Return seconds, megabytes and requests of `tile` and of reading all tiles."""
    staging = "scratch" if mode == "copy" else "none"
    os.environ[REMOTE_VARIABLE] = json.dumps({"staging": staging, "scratch": str(folder), "timeout_s": 300})
    remove_copies()
    row = SlideRow("s", path if mode == "local" else f"{files.url}/{path.name}")
    receipt = folder / mode / "s.json"
    receipt.unlink(missing_ok=True)  # a slide that is tiled is skipped
    figures = {}
    for stage in ("tile", "read"):
        files.sent.clear()
        files.requests.clear()
        start = time.perf_counter()
        if stage == "tile":
            tile_slide(row, TileSettings(), receipt, threads=threads)
        else:
            grid = read_grid(store_path(receipt))
            with open_slide(row.path, read_receipt(receipt)["reader"]) as slide:
                n_tiles = sum(len(batch.tiles) for batch in read_tiles(slide, grid, mpp=0.5, threads=threads))
        figures[f"{stage}_s"] = time.perf_counter() - start
        figures[f"{stage}_mb"] = files.sent.total() / 1e6
        figures[f"{stage}_requests"] = files.requests.total()
    return {**figures, "tiles": n_tiles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, help="slide that tiffslide opens; a synthetic one by default")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.0, 0.03], help="seconds before each response")
    parser.add_argument("--threads", type=int, default=2)
    parser.set_defaults(side=(12000, 9000))
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = args.slide or write_aperio(folder / "served" / "made.svs", tissue_image(*args.side), levels=(1, 4, 16))
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        columns = ("tile, s", "MB", "requests", "read, s", "MB", "requests", "tiles/s")
        print(f"{'mode':<10}{'delay, ms':>10}" + "".join(f"{name:>10}" for name in columns))
        with file_server(path.parent) as files:
            for delay in args.delays:
                files.delay_s = delay
                for mode in MODES if delay == args.delays[0] else MODES[1:]:
                    f = measure(path, files, mode, folder, args.threads)
                    print(
                        f"{mode:<10}{1000 * delay:>10.0f}{f['tile_s']:>10.1f}{f['tile_mb']:>10.1f}{f['tile_requests']:>10.0f}"
                        f"{f['read_s']:>10.1f}{f['read_mb']:>10.1f}{f['read_requests']:>10.0f}{f['tiles'] / f['read_s']:>10.0f}"
                    )
                    name = f"{mode.replace(' ', '_')}_{1000 * delay:.0f}ms"
                    figures |= {f"{name}_{key}": round(value, 2) for key, value in f.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
