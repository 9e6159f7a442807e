"""A slide with scores, made by the package's own stages: tile, extract, split, train, explain."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.conftest import tissue_box, tissue_image, write_aperio, write_geojson
from tests.test_extract import MeanColour
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import Encoder, Explain, Model, Split, TileSettings, Tiling, Tissue, parse_model
from wsi_mil.ensemble import Ensemble
from wsi_mil.explain.stage import explain_slide
from wsi_mil.extract import extract_slide
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Classes
from wsi_mil.tile import tile_slide
from wsi_mil.train import Fold, train_fold

TILE_PX = 32
TILING = TileSettings(tiling=Tiling(tile_px=TILE_PX, mpp=0.5), tissue=Tissue(mpp=2.0, min_area_um2=500, max_hole_um2=500))
TASK = Classes(("normal", "tumour"))
METHODS = ("attention", "evidence", "standardised_sum")
TRAINING_SIZE = (640, 448)
N_TRAINING, N_FOLDS = 8, 2
CPU = torch.device("cpu")


@dataclass(frozen=True)
class ScoredSlide:
    """A new slide with its receipts.

    Attributes:
        row: the slide; its lesion is annotated.
        scores: receipt of `explain`, by `METHODS`.
        tiles: receipt of `tile`.
    """

    row: SlideRow
    scores: Path
    tiles: Path


def make_scored_slide(folder: Path, n_tiles: int) -> ScoredSlide:
    """Make a slide of about `n_tiles` tiles of 32 px, of which a ninth are a lesion, scored by models of eight small slides."""
    rows = [_slide(folder, f"s{number}", TRAINING_SIZE, "tumour" if number % 2 else "normal") for number in range(N_TRAINING)]
    left, top, right, bottom = tissue_box(1000, 700)
    side = TILE_PX * (n_tiles / ((right - left) * (bottom - top))) ** 0.5
    large = _slide(folder, "large", (round(1000 * side), round(700 * side)), "tumour")
    for row in (*rows, large):
        tile_slide(row, TILING, folder / "tiles" / f"{row.slide_id}.json")
        features = folder / "features" / f"{row.slide_id}.json"
        tiles = folder / "tiles" / f"{row.slide_id}.json"
        extract_slide(tiles, row, Encoder(batch_size=256), features, dtype="float32", encoder=MeanColour, threads=1)
    splits = draw_splits(rows, TASK, Split(folds=N_FOLDS))
    for number in range(N_FOLDS):
        train_fold(Fold(splits, number, folder / "features", TASK), _model(), folder / "models" / f"fold-{number}", CPU)
    scores = folder / "scores" / "large.json"
    ensemble = Ensemble(folder / "models", splits, TASK, CPU)
    explain_slide(large, [folder / "features" / "large.json"], ensemble, Explain(methods=METHODS), scores)
    return ScoredSlide(large, scores, folder / "tiles" / "large.json")


def _model() -> Model:
    return parse_model({"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"epochs": 20, "lr": 0.005}})


def _slide(folder: Path, slide_id: str, size: tuple[int, int], label: str) -> SlideRow:
    """Slide, with an annotated lesion in its middle third if it is of a tumour."""
    left, top, right, bottom = tissue_box(*size)
    third = (right - left) // 3, (bottom - top) // 3
    lesion = (left + third[0], top + third[1], left + 2 * third[0], top + 2 * third[1])
    image = tissue_image(*size, seed=sum(map(ord, slide_id)), lesion=lesion if label == "tumour" else None)
    path = write_aperio(folder / "slides" / f"{slide_id}.svs", image)
    annotation = write_geojson(folder / "slides" / f"{slide_id}.geojson", lesion) if label == "tumour" else None
    return SlideRow(slide_id, path, label=label, patient_id=slide_id, annotation=annotation)
