"""Colon images as bags of their nuclei at one scale and at two: frozen features of the default encoder, default training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import benchmarks.papers.runs as run_files
from benchmarks.papers import frozen
from benchmarks.papers.colon import SIDE_PX, SPLIT, read_colon
from benchmarks.papers.histology import TASK, Image, folds
from benchmarks.papers.runs import Run
from benchmarks.trained import Recipe, trained
from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import Encoder, Split
from wsi_mil.encoders.encoder import create_encoder
from wsi_mil.files import exclusive
from wsi_mil.receipts import fingerprint
from wsi_mil.records import Bag, Role
from wsi_mil.train import predict_outputs

SCALES = {"27": (SIDE_PX,), "81": (3 * SIDE_PX,), "27-81": (SIDE_PX, 3 * SIDE_PX)}
"""Sides of the patches of a nucleus in pixels; features of two sides stand side by side."""
MODELS = {name: frozen.MODELS[name] for name in ("gated_defaults", "mhim_gated_defaults")}
DRAWS = 5
BATCH = 64

Features = NDArray[np.float16]


@cache
def features_of(data: Path, side_px: int) -> list[Features]:
    """Return the features of each image's nuclei, `(n, d)`, from patches of a side; extract them first if they are missing."""
    images = read_colon(data / "colon", side_px)
    encoder = Encoder()
    path = run_files.CACHE / "colon_nuclei" / f"{side_px}-{fingerprint(encoder.model_dump(mode='json'))[:8]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path):
        if not path.exists():
            network = create_encoder(encoder, device=torch.device("cpu"), dtype=torch.float32)
            each = {image.name: _encoded(network.encode, image.patches) for image in images}
            part = path.with_suffix(".part.npz")
            np.savez(part, **each)
            part.rename(path)
    with np.load(path) as stored:
        return [stored[image.name] for image in images]


def _encoded(encode: Any, patches: NDArray[np.uint8]) -> Features:
    return np.concatenate([encode(patches[at : at + BATCH]) for at in range(0, len(patches), BATCH)])


@dataclass(frozen=True)
class NucleiRun:
    """All folds of one model at one choice of scales, in one draw of the folds.

    Attributes:
        scales: name in `SCALES`.
        model: name in `MODELS`.
        seed: seed of split and training.
    """

    scales: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        return f"colon_nuclei/{self.scales}/{self.model}/draw-{self.seed}"

    @property
    def split(self) -> Split:
        """Settings of the split, those of `colon`; each draw has folds of its own."""
        return SPLIT.model_copy(update={"seed": self.seed})

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        settings = {"encoder": Encoder().model_dump(mode="json"), "split": self.split.model_dump(mode="json")}
        return {**settings, "sides": list(SCALES[self.scales]), "model": self.model, "entries": MODELS}

    def work(self, data: Path) -> dict[str, Any]:
        """Return the predictions of each fold's model for its test images."""
        images = read_colon(data / "colon")
        of_side = [features_of(data, side) for side in SCALES[self.scales]]
        bags = [_bag(image, [features[row] for features in of_side]) for row, image in enumerate(images)]
        return {"folds": [self._fold(images, bags, number) for number in range(self.split.folds)]}

    def _fold(self, images: Sequence[Image], bags: Sequence[LabelledBag], number: int) -> dict[str, Any]:
        splits = folds(images, self.split)
        train, val, test = (_of_role(bags, set(splits.slides(number, role))) for role in (Role.TRAIN, Role.VAL, Role.TEST))
        model = trained(self.model, Recipe(MODELS), (train, val), self.seed)
        probs = predict_outputs(model, BagSet.of(test), TASK)[:, 1]
        return {"images": {i.bag.slide_id: {"label": i.label, "prob": float(p)} for i, p in zip(test, probs, strict=True)}}


def _bag(image: Image, features: Sequence[Features]) -> LabelledBag:
    return LabelledBag(Bag(image.name, np.concatenate(features, axis=1), image.coords), image.label)


def _of_role(bags: Sequence[LabelledBag], names: set[str]) -> list[LabelledBag]:
    return [item for item in bags if item.bag.slide_id in names]


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each draw, choice of scales and model, draw by draw."""
    if fast:
        return []
    each = [NucleiRun(scales, model, draw) for draw, scales, model in product(range(DRAWS), SCALES, MODELS)]
    return [Run(r.name, r.as_json(), r.seed, lambda r=r: r.work(data)) for r in each]
