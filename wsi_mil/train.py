"""Stage `train`: fit one model on one fold's training part; epoch and threshold from its validation part alone."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsi_mil.bags import LabelledBag, bag_tensor
from wsi_mil.checkpoints import ModelCard, write_checkpoint
from wsi_mil.cohort import write_table
from wsi_mil.config import Model, Training
from wsi_mil.errors import StoreMismatchError
from wsi_mil.metrics import accuracies, auroc, predicted_class, youden_threshold
from wsi_mil.models import MILModel, create_model
from wsi_mil.progress import ProgressMeter
from wsi_mil.records import Role
from wsi_mil.splits import Splits
from wsi_mil.store import read_attributes, read_bag, store_path

log = logging.getLogger(__name__)

ENCODER_KEYS = ("encoder", "weights_hash", "mpp", "tile_px")
"""Attributes of a feature store that must be the same for every bag that a model sees."""


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve."""

    epoch: int
    train_loss: float
    val_loss: float
    val_auroc: float


def train_fold(
    splits: Splits, fold: int, features: Path, settings: Model, classes: tuple[str, ...], folder: Path, device: torch.device
) -> ModelCard:
    """Train one fold and write its checkpoint and `history.csv` into `folder`.

    Args:
        splits: roles of the labelled slides.
        fold: which fold.
        features: folder with the receipts of `extract`.
        settings: entry of `models`.
        classes: class names; their order is the order of the logits.
        folder: where the checkpoint goes.
        device: where to compute.
    """
    train, val = (_labelled_bags(splits, fold, role, features, classes) for role in (Role.TRAIN, Role.VAL))
    encoder = _common_encoder([store_path(_receipt(features, b.bag.slide_id)) for b in (*train, *val)])
    feature_dim = train[0].bag.features.shape[1]
    torch.manual_seed(settings.train.seed)
    model = create_model(settings, feature_dim=feature_dim, n_classes=len(classes)).to(device)
    history, best = fit(model, train, val, settings.train, n_classes=len(classes))
    probs = evaluate(model, val)
    truth = np.array([b.label for b in val])
    threshold = youden_threshold(truth == 1, probs[:, 1]) if len(classes) == 2 else None
    predicted = np.array([predicted_class(p, threshold) for p in probs])
    figures = {"loss": history[best].val_loss, "auroc": auroc(truth, probs), **accuracies(truth, predicted, len(classes))}
    card = ModelCard(settings, classes, feature_dim, encoder, threshold, fold, best + 1, figures)
    write_table(folder / "history.csv", list(Epoch.__annotations__), [vars(epoch).values() for epoch in history])
    write_checkpoint(folder, model, card)
    return card


def fit(
    model: MILModel, train: Sequence[LabelledBag], val: Sequence[LabelledBag], settings: Training, *, n_classes: int
) -> tuple[list[Epoch], int]:
    """Train in place, one bag a step, and leave the weights of the epoch with the least validation loss.

    An epoch counts as better only by `min_improvement`: once the validation bags are told apart, a smaller and smaller
    loss comes from larger weights, while attention drifts away from the evidence.

    Returns:
        The curve, and the index of the epoch that was kept.
    """
    device = next(model.parameters()).device
    weights = _class_weights(train, n_classes, balanced=settings.class_weights).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    order = np.random.default_rng(settings.seed)
    history: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(model.state_dict())
    with ProgressMeter("train", total=settings.epochs, unit="epochs") as meter:
        for number in range(settings.epochs):
            train_loss = _train_epoch(model, [train[i] for i in order.permutation(len(train))], optimizer, weights)
            history.append(Epoch(number + 1, train_loss, *_validate(model, val, weights)))
            log.info("epoch %d: training loss %.4f, validation loss %.4f, AUROC %.3f", *vars(history[-1]).values())
            meter.advance(1)
            if number == 0 or history[-1].val_loss < history[best].val_loss - settings.min_improvement:
                best, best_state = number, copy.deepcopy(model.state_dict())
            elif number - best >= settings.patience:
                break
    model.load_state_dict(best_state)
    return history, best


@torch.inference_mode()
def evaluate(model: MILModel, bags: Sequence[LabelledBag]) -> np.ndarray:
    """Class probabilities `(n_bags, n_classes)`, float64; leaves the model's mode as it was."""
    was_training = model.training
    model.eval()
    logits = torch.cat([model(bag_tensor(b.bag, model)).logits for b in bags])
    model.train(was_training)
    return torch.softmax(logits.double(), dim=1).cpu().numpy()


def _train_epoch(model: MILModel, bags: Sequence[LabelledBag], optimizer: torch.optim.Optimizer, weights: Tensor) -> float:
    model.train()
    total = 0.0
    for item in bags:
        label = torch.tensor([item.label], device=weights.device)
        loss = model.training_loss(bag_tensor(item.bag, model), label, weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach())
    return total / len(bags)


def _validate(model: MILModel, bags: Sequence[LabelledBag], weights: Tensor) -> tuple[float, float]:
    """Mean class-weighted log loss, and AUROC."""
    probs, truth = evaluate(model, bags), np.array([b.label for b in bags])
    of_truth = np.clip(probs[np.arange(len(truth)), truth], 1e-12, 1)
    return float((-np.log(of_truth) * weights.cpu().numpy()[truth]).mean()), auroc(truth, probs)


def _class_weights(bags: Sequence[LabelledBag], n_classes: int, *, balanced: bool) -> Tensor:
    """`n / (n_classes · n_c)`, so that every class weighs the same and the mean over bags is 1."""
    counts = np.bincount([b.label for b in bags], minlength=n_classes)
    if not balanced:
        return torch.ones(n_classes)
    return torch.tensor(len(bags) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


def _labelled_bags(splits: Splits, fold: int, role: Role, features: Path, classes: tuple[str, ...]) -> list[LabelledBag]:
    slides = splits.slides(fold, role)
    return [LabelledBag(read_bag(_receipt(features, s)), classes.index(splits.labels[s])) for s in slides]


def _receipt(features: Path, slide_id: str) -> Path:
    return features / f"{slide_id}.json"


def _common_encoder(stores: list[Path]) -> dict[str, object]:
    """The encoder and scale of all stores.

    Raises:
        StoreMismatchError: not the same for all.
    """
    found = [{key: read_attributes(path)[key] for key in ENCODER_KEYS} for path in stores]
    for path, have in zip(stores, found, strict=True):
        if have != found[0]:
            raise StoreMismatchError(path, f"made with {have}, but {stores[0]} with {found[0]}; run `extract` again")
    return dict(found[0])
