#!/usr/bin/env python3
"""What does it cost to read a slide where it lies? In place against a copy, over loopback and over a distance.

python benchmarks/remote.py [--slide SLIDE] [--delays 0 0.03] [--threads 2]

SLIDE is any slide that tiffslide opens; without one, a slide of 108 megapixels is made. For each way and delay (seconds before
each answer of the server) it runs `tile`, and reads every tile as `extract` does, without encoding; bytes are counted by the
server, copies are made anew. The last line is one JSON object.
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

WAYS = ("local", "in place", "copy")


def measured(path: Path, files: Files, way: str, work: Path, threads: int) -> dict[str, float]:
    """Seconds and megabytes of `tile` and of reading all tiles."""
    staging = "scratch" if way == "copy" else "none"
    os.environ[REMOTE_VARIABLE] = json.dumps({"staging": staging, "scratch": str(work), "timeout_s": 300})
    remove_copies()
    row = SlideRow("s", path if way == "local" else f"{files.url}/{path.name}")
    receipt, found = work / way / "s.json", {}
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
        found[f"{stage}_s"] = time.perf_counter() - start
        found[f"{stage}_mb"] = files.sent.total() / 1e6
        found[f"{stage}_requests"] = files.requests.total()
    return {**found, "tiles": n_tiles}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slide", type=Path)
    options.add_argument("--delays", type=float, nargs="+", default=[0.0, 0.03])
    options.add_argument("--threads", type=int, default=2)
    asked = options.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        path = asked.slide or write_aperio(work / "served" / "made.svs", tissue_image(12000, 9000), levels=(1, 4, 16))
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        columns = ("tile, s", "MB", "requests", "read, s", "MB", "requests", "tiles/s")
        print(f"{'way':<10}{'delay, ms':>10}" + "".join(f"{name:>10}" for name in columns))
        with file_server(path.parent) as files:
            for delay in asked.delays:
                files.delay_s = delay
                for way in WAYS if delay == asked.delays[0] else WAYS[1:]:
                    f = measured(path, files, way, work, asked.threads)
                    print(
                        f"{way:<10}{1000 * delay:>10.0f}{f['tile_s']:>10.1f}{f['tile_mb']:>10.1f}{f['tile_requests']:>10.0f}"
                        f"{f['read_s']:>10.1f}{f['read_mb']:>10.1f}{f['read_requests']:>10.0f}{f['tiles'] / f['read_s']:>10.0f}"
                    )
                    name = f"{way.replace(' ', '_')}_{1000 * delay:.0f}ms"
                    figures |= {f"{name}_{key}": round(value, 2) for key, value in f.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
