"""Colon and breast images as plain slides: default encoder, frozen, and the newer aggregators with the package's defaults."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import benchmarks.papers.runs as kept
from benchmarks.papers import breast, colon
from benchmarks.papers.cohorts import Trained, extract_features
from benchmarks.papers.histology import CLASSES, TASK
from benchmarks.papers.runs import Run
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Encoder, Model, Split, TileSettings, Tiling, Tissue, parse_model
from wsi_mil.receipts import fingerprint
from wsi_mil.records import SlideRow

MPP = 0.5
"""Taken for the images of both sets, so that tiles are cut from their pixels as they are."""
TILES = TileSettings(tiling=Tiling(mpp=MPP, tile_px=64, overlap=32, min_tissue=0.0), tissue=Tissue(method="none"))
FOLDS = {"colon": (10, 5), "breast": (4, 5)}
"""Folds, and how often they are drawn, as published."""

OURS = {"epochs": 60, "min_epochs": 0, "min_val_bags": 1, "schedule": "constant", "instance_dropout": 0.0}
"""How models without a paper's recipe are trained here: early stopping, as the papers' models have it."""
MODELS: dict[str, dict[str, Any]] = {
    "embedding_mean": {"model": "embedding_pool", "pool": "mean", "train": OURS},
    "instance_max": {"model": "instance_pool", "pool": "max", "train": OURS},
    "gated": {"model": "abmil", "train": OURS},
    "mhim": {"model": "mhim", "base": "gated", "recipe": "published"},
    "clam_sb": {"model": "clam"},
    "clam_mb": {"model": "clam", "branches": "multi"},
    "dtfd": {"model": "dtfd"},
    "dsmil": {"model": "dsmil", "recipe": "published"},
    "transmil": {"model": "transmil", "recipe": "published", "landmarks": 64},
    "noisy_and": {"model": "kraus_pool", "pool": "noisy_and"},
}
"""Nothing is tuned for these sets; TransMIL's 256 landmarks are for bags of thousands, a colon image has 196 tiles."""


def entry(model: str, seed: int) -> Model:
    """As an entry of `models`."""
    return parse_model({**MODELS[model], "train": {**MODELS[model].get("train", {}), "seed": seed}})


@cache
def read_rows(data: Path, images: str) -> list[SlideRow]:
    """The set as a cohort, each image its own patient."""
    if images == "colon":
        paths = colon.image_paths(data / images)
        found = [(path, int(len(colon.read_nuclei(path)["epithelial"]) > 0)) for path in paths]
    else:
        found = breast.image_paths(data / images)
    return [SlideRow(p.stem, p, label=CLASSES[label], patient_id=p.stem, mpp=MPP) for p, label in found]


@dataclass(frozen=True)
class FrozenRun:
    """All folds of one model with one draw of the folds.

    Attributes:
        images: colon or breast.
        model: name in `MODELS`.
        seed: of the draw, and of training.
    """

    images: str
    model: str
    seed: int

    @property
    def cohort(self) -> dict[str, Any]:
        """All that decides the features, as plain JSON."""
        settings = {"tile": TILES.model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}
        return {"images": self.images, "mpp": MPP, **settings}

    @property
    def folder(self) -> Path:
        """Tiles and features; not committed."""
        return kept.KEPT / "frozen" / f"{self.images}-{fingerprint(self.cohort)[:8]}"

    @property
    def split(self) -> Split:
        """A tenth of the images that are not held out chooses the epoch, as for the network that is trained along."""
        return Split(folds=FOLDS[self.images][0], validation=0.1, seed=self.seed)

    def plain(self) -> dict[str, Any]:
        """All that decides its figures, as plain JSON."""
        base = MODELS[self.model].get("base")
        models = {name: entry(name, self.seed).model_dump(mode="json") for name in (base, self.model) if name}
        return {"cohort": self.cohort, "split": self.split.model_dump(mode="json"), "models": models}

    def trained(self, splits: Splits) -> Trained:
        """Its models, after those that they stand on."""
        base = MODELS[self.model].get("base")
        under = FrozenRun(self.images, base, self.seed).trained(splits) if base else None
        name = f"frozen/{self.images}-{self.model}"
        return Trained(name, entry(self.model, self.seed), self.plain(), splits, self.folder / "features", CLASSES, under)

    def work(self, data: Path) -> dict[str, Any]:
        """What each fold's model says of the images that it has not seen."""
        rows = read_rows(data, self.images)
        extract_features(rows, TILES, Encoder(), self.folder)
        splits = draw_splits(rows, TASK, self.split)
        models = self.trained(splits)
        said = [models.said(number) for number in range(splits.n_folds)]
        return {"folds": [{"epoch_kept": card.epoch, "images": images} for images, card in said]}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Each model with each draw of the folds is a run, draw after draw; of the sets that are there."""
    there = [images for images in FOLDS if (data / images).is_dir()]
    if fast:
        wanted = [FrozenRun("colon", model, 0) for model in ("gated", "noisy_and") if "colon" in there]
    else:
        wanted = [FrozenRun(i, model, seed) for i in there for seed in range(FOLDS[i][1]) for model in MODELS]
    return [Run(f"frozen/{r.images}/{r.model}/seed-{r.seed}", r.plain(), r.seed, lambda r=r: r.work(data)) for r in wanted]
