"""Shared by the colon and breast images: patches, their augmentation, and one fold of a cross-validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb_from_hed
from torch import nn

from benchmarks.papers.runs import load_or_train
from wsi_mil.bags import BagSet
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import BaseModelSettings, Split, parse_base
from wsi_mil.models import MILModel, create_model
from wsi_mil.models.instance_encoders import Standardise, histology_cnn
from wsi_mil.records import Bag, Role, SlideRow
from wsi_mil.tasks import Classes
from wsi_mil.train import fit, predict_outputs

CLASSES = ("negative", "positive")
TASK = Classes(CLASSES)
MEAN, STD = (0.8, 0.7, 0.8), (0.15, 0.2, 0.15)
"""Approximate intensities of H&E images."""
STAIN_SPREAD = 0.1
"""Standard deviation of the factors on haematoxylin and eosin; that of the paper is in no text available to us."""
DARKEST = 1 / 255

PLAIN = {"embed_dim": None, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "attention": {"model": "abmil", "gated": False, **PLAIN},
    "gated": {"model": "abmil", "gated": True, **PLAIN},
    "instance_max": {"model": "instance_pool", "pool": "max", **PLAIN},
    "instance_mean": {"model": "instance_pool", "pool": "mean", **PLAIN},
    "embedding_max": {"model": "embedding_pool", "pool": "max", **PLAIN},
    "embedding_mean": {"model": "embedding_pool", "pool": "mean", **PLAIN},
}
TRAIN = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 5e-4,
    "class_weights": False,
    "epochs": 100,
    "select": "loss",
    "patience": 20,
    "min_epochs": 0,
    "min_val_bags": 1,
    "min_improvement": 0.0,
    "schedule": "constant",
    "instance_dropout": 0.0,
    "precision": "bfloat16",
}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Image:
    """An image as a bag of patches.

    Attributes:
        name: name of the image.
        label: index in `CLASSES`.
        patches: uint8 `(n, side, side, 3)`.
        coords: int64 `(n, 2)`, (x, y) of the patches' top-left corners in the image; may be outside.
        positive: bool `(n,)`, which patches are positive; empty if that is not known.
    """

    name: str
    label: int
    patches: NDArray[np.uint8]
    coords: NDArray[np.int64]
    positive: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def bag(self, rng: np.random.Generator | None = None) -> Bag:
        """Return intensities from 0 to 1, float32 `(n, 3, side, side)`; augmented if a generator is given."""
        images = self.patches.astype(np.float32) / 255
        if rng is not None:
            images = rotate_and_flip(vary_stains(images, rng), rng)
        return Bag(self.name, images.transpose(0, 3, 1, 2), self.coords)  # a view, which keeps channels last in memory


def vary_stains(images: Floats, rng: np.random.Generator) -> Floats:
    """Multiply haematoxylin and eosin of a whole bag by random factors around 1.

    Args:
        images: `(n, height, width, 3)`, 0 to 1.
        rng: generator of the factors.
    """
    factors = np.append(rng.normal(1, STAIN_SPREAD, size=2), 1)
    mixed = np.linalg.inv(rgb_from_hed) @ np.diag(factors) @ rgb_from_hed
    density = -np.log(np.maximum(images, DARKEST))
    return np.exp(-np.maximum(density @ mixed.astype(np.float32), 0))


def rotate_and_flip(images: Floats, rng: np.random.Generator) -> Floats:
    """Rotate each patch by 0, 90, 180 or 270 degrees and flip it or not, at random.

    Args:
        images: `(n, side, side, 3)`.
        rng: random generator.
    """
    augmented = images.copy()
    kinds = rng.integers(8, size=len(images))
    for kind in range(1, 8):
        rows = kinds == kind
        rotated = np.rot90(images[rows], kind % 4, axes=(1, 2))
        augmented[rows] = rotated[:, :, ::-1] if kind >= 4 else rotated
    return augmented


def bag_set(images: Sequence[Image], rng: np.random.Generator | None = None) -> BagSet:
    """Return bags of images; if a generator is given, they are augmented each time they are read."""
    return BagSet([image.label for image in images], lambda number: images[number].bag(rng), keep_bytes=0)


def folds(images: Sequence[Image], split: Split) -> Splits:
    """Split images into folds, each image being its own patient."""
    rows = [SlideRow(image.name, Path(image.name), label=CLASSES[image.label], patient_id=image.name) for image in images]
    return draw_splits(rows, TASK, split)


@dataclass(frozen=True)
class Fold:
    """One fold of one model.

    Attributes:
        experiment: name of the experiment.
        model: name in `MODELS`.
        number: index of the fold.
        split: settings of the split.
        side_px: side of a patch.
    """

    experiment: str
    model: str
    number: int
    split: Split
    side_px: int

    @property
    def name(self) -> str:
        """Path of its files, without suffix."""
        return f"{self.experiment}/{self.model}/fold-{self.number}"

    @property
    def entry(self) -> BaseModelSettings:
        """Settings of the model; the seed is the fold's number, so that folds start from different weights."""
        return parse_base({**MODELS[self.model], "train": {**TRAIN, "seed": self.number}})

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        own = {"side_px": self.side_px, "stain_spread": STAIN_SPREAD, "fold": self.number}
        return {**own, "split": self.split.model_dump(mode="json"), "model": self.entry.model_dump(mode="json")}

    def images(self, images: Sequence[Image], role: Role) -> list[Image]:
        """Return the images that have a role in this fold."""
        names = set(folds(images, self.split).slides(self.number, role))
        return [image for image in images if image.name in names]

    def untrained(self) -> MILModel:
        """Return the fold's model before its training."""
        entry = self.entry
        torch.manual_seed(entry.train.seed)
        encoder, dim = histology_cnn(self.side_px)
        encoder = nn.Sequential(Standardise(MEAN, STD), *encoder).to(memory_format=torch.channels_last)
        return create_model(entry, feature_dim=dim, n_classes=2, instance_encoder=encoder)

    def bags(self, images: Sequence[Image]) -> tuple[BagSet, BagSet]:
        """Return the bags to fit on, which are augmented each time they are read, and those that select the epoch."""
        rng = np.random.default_rng([1, self.number])
        return bag_set(self.images(images, Role.TRAIN), rng), bag_set(self.images(images, Role.VAL))

    def trained_model(self, images: Sequence[Image]) -> tuple[MILModel, dict[str, Any]]:
        """Return the fold's trained model, and facts about its training."""
        entry, model = self.entry, self.untrained()

        def train(untrained: MILModel) -> dict[str, Any]:
            history, best = fit(untrained, *self.bags(images), entry.train, task=Classes.numbered(2))
            curve = {name: [round(getattr(e, name), 5) for e in history] for name in ("train_loss", "val_loss", "val_figure")}
            return {"epochs": len(history), "epoch_kept": best + 1, "curve": curve}

        return model, load_or_train(self.name, self.as_json(), model, train)

    def work(self, read: Callable[[], Sequence[Image]]) -> dict[str, Any]:
        """Return the predictions of the fold's model for its test images, and facts about its training."""
        images = read()
        model, training = self.trained_model(images)
        test = self.images(images, Role.TEST)
        probs = predict_outputs(model, bag_set(test), Classes.numbered(2))[:, 1]
        predictions = {i.name: {"label": i.label, "prob": round(float(p), 6)} for i, p in zip(test, probs, strict=True)}
        return {"images": predictions, "training": training}
