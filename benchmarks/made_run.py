"""A finished run on made slides, for the benchmarks of report and viewer: each file by the stage that writes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wsi_mil.cohort import write_status
from wsi_mil.cohort.splits import draw_splits, write_splits
from wsi_mil.cohort.status import cohort_statuses
from wsi_mil.config import Encoder, Explain, Method, Predict, Split, Statistics, TileSettings, Truth, parse_model
from wsi_mil.ensemble import Ensemble
from wsi_mil.evaluate import Sources, evaluate_cohort
from wsi_mil.explain.stage import explain_slide
from wsi_mil.extract import extract_slide
from wsi_mil.predict import predict_cohort, write_metrics, write_predictions
from wsi_mil.records import SlideRow, Status
from wsi_mil.results import Results
from wsi_mil.statistics import write_statistics
from wsi_mil.tasks import Classes
from wsi_mil.tile import tile_slide
from wsi_mil.train import Fold, train_fold

CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
TARGET, ENCODER, TILING, FOLDS, DIM = "tumour", "enc", "default", 2, 16
MODEL = {"model": "abmil", "embed_dim": 8, "attention_dim": 4, "train": {"updates": None, "epochs": 1, "patience": 1}}
"""A model as good as untrained, whose scores vary from tile to tile."""


@dataclass(frozen=True)
class Noise:
    """Features of a batch: noise that its tiles determine."""

    tiles: np.ndarray

    def result(self) -> np.ndarray:
        seed = int(self.tiles[:, ::7, ::7].sum())
        return np.random.default_rng(seed).normal(size=(len(self.tiles), DIM)).astype(np.float16)

    def seconds(self) -> float:
        return 0.0


class NoiseEncoder:
    """An encoder that costs next to nothing, and gives scores that compress as badly as possible."""

    dim = DIM

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, np.uint8)

    def begin(self, tiles: np.ndarray) -> Noise:
        return Noise(tiles.copy())


def write_run(
    results: Results, rows: Sequence[SlideRow], tile: TileSettings, models: Sequence[str], methods: tuple[Method, ...]
) -> None:
    """Run all stages up to `evaluate` and `statistics` on labelled slides; no heatmaps are drawn."""
    features = results.features(ENCODER)
    for row in rows:
        tiles, receipt = results.tiles_receipt(TILING, row.slide_id), results.features_receipt(ENCODER, row.slide_id)
        tile_slide(row, tile, tiles)
        status = extract_slide(tiles, row, Encoder(batch_size=512), receipt, dtype="float32", encoder=NoiseEncoder, threads=1)
        assert status == Status.OK, row
    ids = [row.slide_id for row in rows]
    write_status(results.cohort_status, cohort_statuses(ids, results.folder / "features", [ENCODER]))
    write_splits(results.target(TARGET).splits, draw_splits(rows, TASK, Split(folds=FOLDS)))
    write_statistics(ids, features, Statistics(), results.statistics(ENCODER), threads=1)
    for name in models:
        _write_model(results, rows, name, Explain(methods=methods, curve_points=0))


def _write_model(results: Results, rows: Sequence[SlideRow], name: str, explain: Explain) -> None:
    """Train, predict, explain and evaluate one entry of `models`."""
    splits, features = draw_splits(rows, TASK, Split(folds=FOLDS)), results.features(ENCODER)
    target = results.target(TARGET)
    for fold in range(FOLDS):
        part = Fold(splits, fold, features, TASK)
        train_fold(part, parse_model(MODEL), target.checkpoint(ENCODER, name, fold), torch.device("cpu"))
    ensemble = Ensemble(target.model(ENCODER, name), splits, TASK, torch.device("cpu"))
    predictions = predict_cohort(rows, features, ensemble, include_train=False)
    write_predictions(target.predictions(ENCODER, name), predictions, TASK, ensemble.protocol)
    write_metrics(target.metrics(ENCODER, name), predictions, TASK, Predict(), ensemble.metadata)
    for row in rows:
        receipt = target.scores_receipt(ENCODER, name, row.slide_id)
        explain_slide(row, [results.features_receipt(ENCODER, row.slide_id)], ensemble, explain, receipt)
    sources = Sources(target.scores(ENCODER, name), results.tiles(TILING), None, TASK, Truth())
    evaluate_cohort(rows, sources, Predict(bootstrap=100), target.explanations(ENCODER, name))
