"""Colon images: when to stop. One training of 200 epochs for each fold, from which rules of stopping are read off.

The rules choose by the validation part alone. The training is that of `colon` until its early stopping.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.papers import colon
from benchmarks.papers.histology import Fold, Image, bag_set
from benchmarks.papers.runs import Run
from wsi_mil.bags import BagSet
from wsi_mil.models import MILModel
from wsi_mil.records import Role
from wsi_mil.tasks import Classes
from wsi_mil.train import fit, predict_outputs
from wsi_mil.train.epochs import Epoch

EPOCHS, PUBLISHED, PATIENCE = 200, 100, 20
WINDOWS = {"51-100": (51, 100), "101-200": (101, 200)}
"""First and last epoch of the weights that are averaged."""
TO_THE_END = {"epochs": EPOCHS, "patience": EPOCHS, "select": "last"}
TASK = Classes.numbered(2)


@dataclass(frozen=True)
class Validated:
    """One epoch, as a rule of stopping sees it: loss and share of errors of the validation part."""

    loss: float
    error: float


def kept(curve: Sequence[Validated], measure: Callable[[Validated], float], *, epochs: int, patience: int) -> int:
    """Return the index of the epoch that early stopping keeps: the first lowest until `patience` epochs are not lower.

    Args:
        curve: epochs in order.
        measure: what is to be low.
        epochs: maximum number of epochs.
        patience: number of epochs without a lower value after which the training ends.
    """
    best = 0
    for number, epoch in enumerate(curve[:epochs]):
        if number - best > patience:
            break
        if measure(epoch) < measure(curve[best]):
            best = number
    return best


RULES: dict[str, Callable[[Sequence[Validated]], int]] = {
    "loss": lambda curve: kept(curve, lambda e: e.loss, epochs=PUBLISHED, patience=PATIENCE),
    "error and loss": lambda curve: kept(curve, lambda e: e.error + e.loss, epochs=PUBLISHED, patience=PATIENCE),
    "loss, 200 epochs": lambda curve: kept(curve, lambda e: e.loss, epochs=EPOCHS, patience=EPOCHS),
    "error and loss, 200 epochs": lambda curve: kept(curve, lambda e: e.error + e.loss, epochs=EPOCHS, patience=EPOCHS),
    "epoch 100": lambda _: PUBLISHED - 1,
    "epoch 200": lambda _: EPOCHS - 1,
}
"""Index of the epoch that each rule keeps."""


class Recorder:
    """Follows a training: figures of the validation part, probabilities of the test part, sums of weights.

    Args:
        model: the model that is trained.
        val: images of the validation part.
        test: images of the test part.
    """

    def __init__(self, model: MILModel, val: Sequence[Image], test: Sequence[Image]) -> None:
        self.model, self.val, self.test = model, bag_set(val), bag_set(test)
        self.labels = np.array([image.label for image in val])
        self.curve: list[Validated] = []
        self.probs: list[list[float]] = []
        self.sums: dict[str, dict[str, Tensor]] = {name: {} for name in WINDOWS}

    def __call__(self, epochs: Sequence[Epoch], /) -> None:
        """Record the epoch that has just ended."""
        for epoch in epochs:
            error = float(np.mean((self._probs(self.val) >= 0.5) != self.labels))
            self.curve.append(Validated(epoch.val_loss, error))
            self.probs.append(self._probs(self.test).tolist())
            for name, (first, last) in WINDOWS.items():
                if first <= epoch.epoch <= last:
                    self._add(self.sums[name])

    def averaged(self, window: str) -> list[float]:
        """Return the test probabilities of the mean weights of a window's epochs."""
        first, last = WINDOWS[window]
        mean = {key: value / (last - first + 1) for key, value in self.sums[window].items()}
        self.model.load_state_dict({**self.model.state_dict(), **mean})
        return [float(prob) for prob in self._probs(self.test)]

    def _add(self, sums: dict[str, Tensor]) -> None:
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                sums[key] = sums[key] + value.double() if key in sums else value.double()

    def _probs(self, bags: BagSet) -> NDArray[np.float64]:
        return predict_outputs(self.model, bags, TASK)[:, 1]


def record(fold: Fold, images: Sequence[Image]) -> dict[str, Any]:
    """Train a fold to the end; return what each rule keeps, and the probabilities that it predicts."""
    model = fold.untrained()
    val, test = (fold.images(images, role) for role in (Role.VAL, Role.TEST))
    recorder = Recorder(model, val, test)
    settings = fold.entry.train.model_copy(update=TO_THE_END)
    fit(model, *fold.bags(images), settings, task=TASK, curve=recorder)
    chosen = {name: rule(recorder.curve) for name, rule in RULES.items()}
    probs: dict[str, list[float]] = {name: recorder.probs[at] for name, at in chosen.items()}
    for name, (first, last) in WINDOWS.items():
        probs[f"mean weights of epochs {name}"] = recorder.averaged(name)
        probs[f"mean probability of epochs {name}"] = np.mean(recorder.probs[first - 1 : last], axis=0).tolist()
    return {"kept": {name: at + 1 for name, at in chosen.items()}, "images": {n: _by_image(test, p) for n, p in probs.items()}}


def _by_image(images: Sequence[Image], probs: Sequence[float]) -> Mapping[str, Mapping[str, float]]:
    return {image.name: {"label": image.label, "prob": float(p)} for image, p in zip(images, probs, strict=True)}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each fold of the attention model's first cross-validation."""
    if fast:
        return []
    return [_run(colon.fold_of("attention", number), data) for number in range(colon.SPLIT.folds)]


def _run(fold: Fold, data: Path) -> Run:
    settings = {**fold.as_json(), "epochs": EPOCHS, "windows": {name: list(ends) for name, ends in WINDOWS.items()}}
    name = f"colon_stopping/{fold.model}/fold-{fold.number}"
    return Run(name, settings, fold.number, lambda: record(fold, colon.read_colon(data / "colon")))
