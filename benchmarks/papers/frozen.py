"""Colon and breast images as slides: frozen features of the default encoder, and newer aggregators with default settings."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import benchmarks.papers.runs as run_files
from benchmarks.papers import breast, colon
from benchmarks.papers.cohorts import FoldModels, extract_features
from benchmarks.papers.histology import CLASSES, TASK
from benchmarks.papers.runs import Run
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Encoder, Model, Split, TileSettings, Tiling, Tissue, parse_model
from wsi_mil.receipts import fingerprint
from wsi_mil.records import SlideRow

MPP = 0.5
"""µm per pixel assumed for the images of both data sets, so that tiles are cut without resampling."""
TILES = TileSettings(tiling=Tiling(mpp=MPP, tile_px=64, overlap=32, min_tissue=0.0), tissue=Tissue(method="none"))
FOLDS = {"colon": (10, 5), "breast": (4, 5)}
"""Number of folds and of repeats, as published."""

EARLY_STOPPING = {
    **{"epochs": 60, "select": "loss", "min_epochs": 0, "min_val_bags": 1},
    **{"schedule": "constant", "instance_dropout": 0.0},
}
"""Training settings of models without a published recipe: early stopping, as for the models of the papers."""
MODELS: dict[str, dict[str, Any]] = {
    "embedding_mean": {"model": "embedding_pool", "pool": "mean", "train": EARLY_STOPPING},
    "instance_max": {"model": "instance_pool", "pool": "max", "train": EARLY_STOPPING},
    "gated": {"model": "abmil", "train": EARLY_STOPPING},
    "mhim": {"model": "mhim", "base": "gated", "recipe": "published"},
    "clam_sb": {"model": "clam"},
    "clam_mb": {"model": "clam", "branches": "multi"},
    "dtfd": {"model": "dtfd"},
    "dsmil": {"model": "dsmil", "recipe": "published"},
    "transmil": {"model": "transmil", "recipe": "published", "landmarks": 64},
    "noisy_and": {"model": "kraus_pool", "pool": "noisy_and"},
    "gated_defaults": {"model": "abmil"},
    "dsmil_defaults": {"model": "dsmil"},
    "transmil_defaults": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim_gated_defaults": {"model": "mhim", "base": "gated_defaults"},
    "mhim_transmil_defaults": {"model": "mhim", "base": "transmil_defaults"},
}
"""No setting is tuned on these data. The last five are trained with the defaults of the package, the others as they were
published; TransMIL's 256 landmarks are for bags of thousands, a colon image has 196 tiles.
"""


def entry(model: str, seed: int) -> Model:
    """Return a model as an entry of `models`."""
    return parse_model({**MODELS[model], "train": {**MODELS[model].get("train", {}), "seed": seed}})


@cache
def read_rows(data: Path, images: str) -> list[SlideRow]:
    """Return the rows of a cohort in which each image is a slide of another patient."""
    if images == "colon":
        paths = colon.image_paths(data / images)
        labelled = [(path, int(len(colon.read_nuclei(path)["epithelial"]) > 0)) for path in paths]
    else:
        labelled = breast.image_paths(data / images)
    return [SlideRow(p.stem, p, label=CLASSES[label], patient_id=p.stem, mpp=MPP) for p, label in labelled]


@dataclass(frozen=True)
class FrozenRun:
    """All folds of one model in one repeat of the cross-validation.

    Attributes:
        images: "colon" or "breast".
        model: name in `MODELS`.
        seed: seed of split and training.
    """

    images: str
    model: str
    seed: int

    @property
    def cohort(self) -> dict[str, Any]:
        """Everything that determines the features, as plain JSON."""
        settings = {"tile": TILES.model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}
        return {"images": self.images, "mpp": MPP, **settings}

    @property
    def folder(self) -> Path:
        """Folder of tiles and features, not committed."""
        return run_files.CACHE / "frozen" / f"{self.images}-{fingerprint(self.cohort)[:8]}"

    @property
    def split(self) -> Split:
        """Settings of the split: a tenth of the images that are not held out selects the epoch, as in the papers."""
        return Split(folds=FOLDS[self.images][0], validation=0.1, seed=self.seed)

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        base = MODELS[self.model].get("base")
        models = {name: entry(name, self.seed).model_dump(mode="json") for name in (base, self.model) if name}
        return {"cohort": self.cohort, "split": self.split.model_dump(mode="json"), "models": models}

    def fold_models(self, splits: Splits) -> FoldModels:
        """Return its models, with those of its base."""
        base = MODELS[self.model].get("base")
        base_models = FrozenRun(self.images, base, self.seed).fold_models(splits) if base else None
        name = f"frozen/{self.images}-{self.model}"
        own_entry = entry(self.model, self.seed)
        return FoldModels(name, own_entry, self.as_json(), splits, self.folder / "features", CLASSES, base_models)

    def work(self, data: Path) -> dict[str, Any]:
        """Return the predictions of each fold's model for its test images."""
        rows = read_rows(data, self.images)
        extract_features(rows, TILES, Encoder(), self.folder)
        splits = draw_splits(rows, TASK, self.split)
        models = self.fold_models(splits)
        predictions = [models.predictions(number) for number in range(splits.n_folds)]
        return {"folds": [{"epoch_kept": card.epoch, "images": images} for images, card in predictions]}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each model and repeat, repeat by repeat, of the data sets that are available."""
    available = [images for images in FOLDS if (data / images).is_dir()]
    if fast:
        selected = [FrozenRun("colon", model, 0) for model in ("gated", "noisy_and") if "colon" in available]
    else:
        selected = [FrozenRun(i, model, seed) for i in available for seed in range(FOLDS[i][1]) for model in MODELS]
    return [Run(f"frozen/{r.images}/{r.model}/seed-{r.seed}", r.as_json(), r.seed, lambda r=r: r.work(data)) for r in selected]
