#!/usr/bin/env python3
"""Measure size and time of the report, on a made cohort of 200 slides.

python benchmarks/report.py [--slides 200] [--tiles 8000] [--models 2] [--page PAGE]

Each slide is another image of tissue, from which --tiles tiles are cut, with a lesion's annotation; scores by two methods of each
model are noise, the worst case for compression. All stages but `heatmap` are run first, then `write_report` is timed; --page
keeps the page.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_run import CLASSES, ENCODER, write_run
from tests.conftest import write_aperio
from tests.targets import block_of
from wsi_mil.annotations import feature_collection
from wsi_mil.config import Config, TileSettings, Tiling, Tissue, parse_settings
from wsi_mil.demo.synthesis import synthetic_slide
from wsi_mil.demo.texture import read_texture, texture_path
from wsi_mil.records import SlideRow
from wsi_mil.report import write_report
from wsi_mil.results import Results

MAX_MB = 25.0
TINY = {"slides": 8, "tiles": 60, "models": 1}
METHODS = ("attention", "evidence")
SIZE, MPP = (1536, 1024), 8.0
"""(width, height) of the slides, pixels, and their µm per pixel: small files of slides as wide as real ones."""


def write_slides(folder: Path, n: int) -> list[SlideRow]:
    """Write slides and annotations; each slide is of another patient, half of them are of either class."""
    texture, rng = read_texture(texture_path(None)), np.random.default_rng(0)
    annotation = folder / "truth.geojson"
    folder.mkdir(parents=True)
    annotation.write_text(feature_collection([shapely.Point(560, 500).buffer(180, quad_segs=100)], [{}]))
    rows = []
    for i in range(n):
        path = write_aperio(folder / f"s{i}.svs", synthetic_slide(texture, SIZE, has_lesion=False, rng=rng).image, mpp=MPP)
        rows.append(SlideRow(f"s{i}", path, CLASSES[i % 2], f"p{i}", annotation=annotation if i % 2 else None))
    return rows


def write_results(folder: Path, n_slides: int, n_tiles: int, n_models: int) -> tuple[list[SlideRow], Config]:
    """Run the stages that the report is made from; return the slides and the configuration."""
    rows, models = write_slides(folder / "slides", n_slides), [f"m{k}" for k in range(n_models)]
    tile_px = max(8, math.isqrt(SIZE[0] * SIZE[1] // n_tiles))
    tiling = Tiling(mpp=MPP, tile_px=tile_px, min_tissue=0, max_tiles=n_tiles)
    write_run(Results(folder / "results"), rows, TileSettings(tiling=tiling, tissue=Tissue(method="none")), models, METHODS)
    content = {"cohort": "c.csv", "targets": block_of(*CLASSES), "results": folder / "results", "encoders": {ENCODER: {}}}
    content |= {"models": {key: {"model": "abmil"} for key in models}, "explain": {"methods": METHODS}}
    return rows, parse_settings(Config, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=200, help="slides of the cohort")
    parser.add_argument("--tiles", type=int, default=8000, help="tiles per slide")
    parser.add_argument("--models", type=int, default=2, help="entries of `models`")
    parser.add_argument("--pages", type=Path, help="folder to keep the pages in")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    with tempfile.TemporaryDirectory() as folder:
        rows, config = write_results(Path(folder), args.slides, args.tiles, args.models)
        pages = args.pages or Path(folder, "report")
        start = time.perf_counter()
        write_report(rows, config, pages)
        seconds = round(time.perf_counter() - start, 1)
        figures = {"slides": args.slides, "tiles": args.tiles, "models": args.models}
        figures |= {"megabytes": round((pages / "index.html").stat().st_size / 1e6, 2), "at_most": MAX_MB, "seconds": seconds}
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
