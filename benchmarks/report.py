#!/usr/bin/env python3
"""Measure size and time of the report, on a synthetic cohort of 200 slides.

python benchmarks/report.py [--slides 200] [--tiles 8000] [--models 2] [--page PAGE]

Each slide has its own thumbnail of 1024 px with the demo's texture, a tissue outline of 400 corners, a picture of its mask,
a grid of --tiles tiles, and random scores by two methods of each model. The outputs of the other stages are written first,
then `write_report` is timed; --page keeps the page.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.heatmap_files import Made
from tests.statistics.conftest import write_features
from tests.test_report import CLASSES, figures_of, write_explanations
from wsi_mil.annotations import feature_collection
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.config import Config, Statistics, parse_settings
from wsi_mil.demo.synthesis import synthetic_slide
from wsi_mil.demo.texture import read_texture, texture_path
from wsi_mil.files import write_table
from wsi_mil.receipts import store_path, write_receipt
from wsi_mil.records import InstanceScores, Role, SlideRow, Status, TileGrid
from wsi_mil.report import write_report
from wsi_mil.statistics import write_statistics
from wsi_mil.store import write_grid, write_scores

MAX_MB = 25.0
TINY = {"slides": 4, "tiles": 60, "models": 1}
TEXTURE = read_texture(texture_path(None))
METHODS = ("attention", "sparse_inversion")
SIDE, THUMBNAIL = (24_576, 16_384), (1024, 683)
"""(width, height) of the slides, level-0 pixels, and of their thumbnails; most of a slide is tissue."""

TILE = 224


def slides_of(n: int) -> list[SlideRow]:
    """Return `n` slides, each of another patient, half of them of either class."""
    return [SlideRow(f"s{i}", Path("gone.svs"), CLASSES[i % 2], f"p{i}") for i in range(n)]


def write_tiles(results: Path, row: SlideRow, made: Made, rng: np.random.Generator) -> None:
    """Write the outputs of `tile` for a slide."""
    receipt = results / "tiles" / "default" / f"{row.slide_id}.json"
    slide = synthetic_slide(TEXTURE, THUMBNAIL, has_lesion=False, rng=rng).image
    grid = TileGrid(made.coords, np.ones(len(made.coords), np.float32), TILE, made.box)
    write_grid(store_path(receipt), grid, slide, {})
    status = {"status": "ok", "reason": "", "warnings": [], "tissue_share": 0.6, "n_tiles": len(made.coords)}
    write_receipt(receipt, {**made.tile_receipt(), **status})
    Image.fromarray(slide).save(receipt.with_suffix(".png"))
    tissue = {"classification": {"name": "Tissue"}}
    ring = shapely.Point(SIDE[0] / 2, SIDE[1] / 2).buffer(6000, quad_segs=100)
    receipt.with_suffix(".geojson").write_text(feature_collection([ring], [tissue]))


def write_model(results: Path, name: str, rows: list[SlideRow], made: Made, rng: np.random.Generator) -> None:
    """Write the outputs of `explain`, `predict` and `evaluate` for a model."""
    table = []
    for i, row in enumerate(rows):
        receipt = results / "scores" / name / f"{row.slide_id}.json"
        values = [rng.normal(size=len(made.coords)).astype(np.float32) for _ in METHODS]
        scores = [InstanceScores(m, v, "", "log_odds", False, True, 0.0) for m, v in zip(METHODS, values, strict=True)]
        write_scores(store_path(receipt), made.coords, scores, {})
        content = {**made.scores_receipt(), "slide_id": row.slide_id}
        write_receipt(receipt, {**content, "methods": dict.fromkeys(METHODS, content["methods"][made.method])})
        p = float(np.clip(0.3 + 0.4 * (row.label == CLASSES[1]) + rng.normal(scale=0.15), 0, 1))
        line = {"slide_id": row.slide_id, "patient_id": row.patient_id, "label": row.label, "fold": str(i % 2), "role": "test"}
        line |= {"prob_normal": f"{1 - p:.6f}", "prob_tumour": f"{p:.6f}", "threshold": "0.5", "predicted": CLASSES[p >= 0.5]}
        table.append({**line, "protocol": "held_out", "bag": row.slide_id})
    write_table(results / "predictions" / f"{name}.csv", list(table[0]), [line.values() for line in table])
    write_receipt(results / "metrics" / f"{name}.json", {"protocol": "held_out", "n_slides": len(rows), **figures_of(table)})
    write_explanations(results, name, methods={key: {"n_curves": 0, "comparable": True} for key in METHODS})


def write_results(results: Path, n_slides: int, n_tiles: int, n_models: int) -> tuple[list[SlideRow], Config]:
    """Write all outputs that the report is made from; return the slides and the configuration."""
    rng = np.random.default_rng(0)
    rows = slides_of(n_slides)
    columns = SIDE[0] // TILE
    coords = TILE * np.stack([np.arange(n_tiles) % columns, np.arange(n_tiles) // columns], axis=1)
    models = [f"m{k}" for k in range(n_models)]
    annotation = results / "truth.geojson"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text(feature_collection([shapely.Point(9000, 8000).buffer(3000, quad_segs=100)], [{}]))
    rows = [SlideRow(row.slide_id, row.path, row.label, row.patient_id, annotation=annotation) for row in rows]
    for row in rows:
        made = Made(coords, np.zeros(n_tiles), SIDE, TILE, slide_id=row.slide_id, method="attention")
        write_tiles(results, row, made, rng)
    for name in models:
        write_model(results, f"enc/{name}", rows, made, rng)
    write_features(results / "features" / "enc", {row.slide_id: rng.normal(size=(200, 16)) for row in rows})
    ids = [row.slide_id for row in rows]
    write_statistics(ids, results / "features/enc", Statistics(), results / "statistics/enc.json", threads=1)
    write_status(results / "cohort_status.csv", [SlideStatus(s, Status.OK, "", "", {"enc": n_tiles}) for s in ids])
    roles = tuple({s: Role.TEST if i % 2 == fold else Role.TRAIN for i, s in enumerate(ids)} for fold in (0, 1))
    patients = {row.slide_id: row.patient_id for row in rows}
    write_splits(results / "splits.csv", Splits(patients, {row.slide_id: row.label for row in rows}, roles))
    content = {"cohort": "c.csv", "classes": CLASSES, "results": results, "encoders": {"enc": {}}}
    content |= {"models": {key: {"model": "abmil"} for key in models}, "explain": {"methods": METHODS}}
    return rows, parse_settings(Config, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=200, help="slides of the cohort")
    parser.add_argument("--tiles", type=int, default=8000, help="tiles per slide")
    parser.add_argument("--models", type=int, default=2, help="entries of `models`")
    parser.add_argument("--page", type=Path, help="file to keep the page in")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    with tempfile.TemporaryDirectory() as folder:
        rows, config = write_results(Path(folder, "results"), args.slides, args.tiles, args.models)
        page = args.page or Path(folder, "index.html")
        start = time.perf_counter()
        write_report(rows, config, page)
        seconds = round(time.perf_counter() - start, 1)
        figures = {"slides": args.slides, "tiles": args.tiles, "models": args.models}
        figures |= {"megabytes": round(page.stat().st_size / 1e6, 2), "at_most": MAX_MB, "seconds": seconds}
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
