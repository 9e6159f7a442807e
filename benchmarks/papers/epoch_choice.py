"""Which epoch to keep, with the package's own training: one training per fold, from which rules of choice are read off.

The slides are those of `mhim`, whose tumour is hard to find. In a second condition a fifth of the labels of training and
validation slides is wrong, so that a model may learn by heart; the test labels are right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.papers.mhim import CLASSES, FULL, TASK, Plan, prepare, split_of
from benchmarks.papers.mhim_defaults import BASES
from benchmarks.papers.runs import Run
from wsi_mil.bags import BagSet, LabelledBag, read_bag_of
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Model, Training, parse_model
from wsi_mil.metrics import auroc, brier
from wsi_mil.models import MILModel, create_model
from wsi_mil.records import Role
from wsi_mil.train import fit, predict_outputs
from wsi_mil.train.epochs import Epoch, is_better

MODELS: dict[str, dict[str, Any]] = {**BASES, "dsmil": {"model": "dsmil"}}
WRONG = {"wrong-0": 0.0, "wrong-20": 0.2}
"""Share of the labels of training and validation slides that are flipped, by name of the condition."""
SEEDS = (0, 1, 2, 3, 4)
RULES: dict[str, dict[str, Any]] = {
    "the lowest loss, by gains of 0.05": {"select": "loss", "min_improvement": 0.05},
    "the lowest loss": {"select": "loss", "min_improvement": 0.0},
    "the highest AUROC; of equal ones, the lowest loss by gains of 0.05": {"select": "auroc", "min_improvement": 0.05},
    "the highest AUROC; of equal ones, the lowest loss": {"select": "auroc", "min_improvement": 0.0},
    "the last": {"select": "last"},
}
"""Settings of `train` that choose the epoch; none of these trainings may end early, since `min_epochs` is all of them."""


@dataclass
class Recorder:
    """Follows a training: what the validation part says of each epoch, and how good the model is on the test slides.

    Attributes:
        model: the model that is trained.
        test: bags of the test slides.
        epochs: so far.
        test_figures: AUROC and Brier score of the test slides after each epoch.
    """

    model: MILModel
    test: BagSet
    epochs: list[Epoch] = field(default_factory=list)
    test_figures: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, epochs: Sequence[Epoch], /) -> None:
        """Record the epoch that has just ended."""
        self.epochs += epochs
        probs, labels = predict_outputs(self.model, self.test, TASK), np.asarray(self.test.truth.labels)
        self.test_figures.append((auroc(labels, probs), brier(labels, probs)))

    def as_json(self) -> list[dict[str, float]]:
        """Return each epoch as plain JSON."""
        pairs = zip(self.epochs, self.test_figures, strict=True)
        return [{"val_loss": e.val_loss, "val_auroc": e.val_figure, "auroc": area, "brier": score} for e, (area, score) in pairs]


def kept(curve: Sequence[Mapping[str, float]], rule: str) -> int:
    """Return the index of the epoch of `Recorder.as_json` that the package keeps by a rule in `RULES`."""
    settings = Training.model_validate(RULES[rule])
    epochs = [Epoch(at, math.nan, epoch["val_loss"], epoch["val_auroc"], math.nan) for at, epoch in enumerate(curve, start=1)]
    best = 0
    for at, epoch in enumerate(epochs):
        if at and is_better(epoch, epochs[best], settings):
            best = at
    return best


@dataclass(frozen=True)
class ChoiceRun:
    """All folds of one model, condition and seed.

    Attributes:
        plan: the cohort and its folds.
        model: name in `MODELS`.
        labels: name in `WRONG`.
        seed: seed of folds, of the wrong labels and of the training.
    """

    plan: Plan
    model: str
    labels: str
    seed: int

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        return f"epoch_choice/{self.labels}/{self.model}/seed-{self.seed}"

    def entry(self, **train: Any) -> Model:
        """Return the entry of `models`, with settings of `train` changed."""
        return parse_model({**MODELS[self.model], "train": {"seed": self.seed, **train}})

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        split = split_of(self.plan, self.seed).model_dump(mode="json")
        return {
            "cohort": self.plan.cohort,
            "split": split,
            "model": self.entry(select="last").model_dump(mode="json"),
            "wrong": WRONG[self.labels],
        }

    def work(self, data: Path) -> dict[str, Any]:
        """Return the recorded epochs of each fold."""
        splits = draw_splits(prepare(self.plan, data), TASK, split_of(self.plan, self.seed))
        return {"folds": [self._fold(splits, number) for number in range(splits.n_folds)]}

    def _fold(self, splits: Splits, number: int) -> list[dict[str, float]]:
        train, val, test = (self._bags(splits, number, role) for role in (Role.TRAIN, Role.VAL, Role.TEST))
        torch.manual_seed(self.seed)
        settings = self.entry(select="last")
        model = create_model(settings, feature_dim=train[0].bag.features.shape[1], n_classes=2)
        recorder = Recorder(model, BagSet.of(test))
        fit(model, BagSet.of(train), BagSet.of(val), settings.train, task=TASK, curve=recorder)
        return recorder.as_json()

    def labels_of(self, splits: Splits, role: Role) -> dict[str, int]:
        """Return the label of each slide; of another role than the test's, a share is flipped, by the seed alone."""
        slides = sorted(splits.labels)
        order = np.random.default_rng(self.seed).permutation(slides).tolist()
        flipped = set() if role is Role.TEST else set(order[: round(WRONG[self.labels] * len(slides))])
        return {slide: CLASSES.index(splits.labels[slide]) ^ (slide in flipped) for slide in slides}

    def _bags(self, splits: Splits, number: int, role: Role) -> list[LabelledBag]:
        labels, features = self.labels_of(splits, role), self.plan.folder / "features"
        return [LabelledBag(read_bag_of(s, [features / f"{s}.json"]), labels[s]) for s in splits.slides(number, role)]


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each seed, condition and model, seed by seed; none of a small size."""
    if fast:
        return []
    each = [ChoiceRun(FULL, model, labels, seed) for seed, labels, model in product(SEEDS, WRONG, MODELS)]
    return [Run(r.name, r.as_json(), r.seed, lambda r=r: r.work(data)) for r in each]
