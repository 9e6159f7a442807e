"""A small cohort with features and folds, and settings that train on it within seconds."""

from pathlib import Path

import numpy as np
import torch

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import BaseModelSettings, Split, Training, parse_base
from wsi_mil.models import MILModel, create_model
from wsi_mil.records import SlideRow
from wsi_mil.store import FeatureStore
from wsi_mil.tasks import Classes
from wsi_mil.train import fit
from wsi_mil.train.epochs import Epoch

CPU = torch.device("cpu")
CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
UNREGULARISED = {"schedule": "constant", "instance_dropout": 0.0, "min_epochs": 0, "min_val_bags": 1}
"""Training at a constant rate on all instances; one validation bag of each class is enough to select an epoch."""
SETTINGS = parse_base(
    {
        "model": "abmil",
        "embed_dim": 16,
        "attention_dim": 8,
        "dropout": 0.1,
        "train": {"lr": 0.005, "epochs": 30, **UNREGULARISED},
    }
)
STORE_ATTRIBUTES = {
    "encoder": "e",
    "weights_hash": "h",
    "mpp": 0.5,
    "tile_px": 224,
    "tile_px_level0": [224, 224],
    "slide_mpp": [0.5, 0.5],
    "coords_digest": "c",
    "slide_hash": "s",
}
"""Attributes of the feature stores, but for their fingerprint."""


def create_network(settings: BaseModelSettings = SETTINGS) -> MILModel:
    """Return an untrained network for 12 features and two classes, initialised from seed 0."""
    torch.manual_seed(0)
    return create_model(settings, feature_dim=12, n_classes=2)


def fit_bags(
    train: list[LabelledBag], val: list[LabelledBag], settings: Training, network: MILModel | None = None
) -> tuple[list[Epoch], int]:
    """Train `network`, or a new one, in place; return the training curve and the index of the epoch that was kept."""
    return fit(network or create_network(), BagSet.of(train), BagSet.of(val), settings, task=Classes.numbered(2))


def write_features(folder: Path, bags: list[LabelledBag], **attributes: object) -> None:
    """Write feature stores and receipts as `extract` does."""
    for item in bags:
        fingerprint = f"{item.bag.slide_id} {item.bag.features.shape}"
        attrs = {**STORE_ATTRIBUTES, "fingerprint": fingerprint, **attributes}
        with FeatureStore(folder / f"{item.bag.slide_id}.zarr", coords=item.bag.coords, batch_size=64, attributes=attrs) as store:
            store.begin(item.bag.features.shape[1])
            store.append_shard(item.bag.features, np.ones(len(item.bag.coords), bool))


def splits_of(bags: list[LabelledBag], folds: int = 3, classes: tuple[str, ...] = CLASSES) -> Splits:
    """Split bags into folds. Patients have two slides each, but one in every third group of four bags."""
    rows = [
        SlideRow(
            b.bag.slide_id, Path("x"), label=classes[b.label], patient_id=f"p{i // 4}{b.label}{i % 4 // 2 * (i // 4 % 3 == 0)}"
        )
        for i, b in enumerate(bags)
    ]
    return draw_splits(rows, Classes(classes), Split(folds=folds))


def quick(settings: dict[str, object], **train: object) -> dict[str, object]:
    """Return settings of a model with a training of four epochs, unless they set another length."""
    own = settings.get("train", {})
    assert isinstance(own, dict)
    length = {} if "updates" in own else {"epochs": 4}
    return {**settings, "train": {"lr": 0.005, **length, "patience": 9, "min_epochs": 0, **own, **train}}


def weights(folder: Path) -> bytes:
    """Return the bytes of a checkpoint's weights."""
    return (folder / "model.safetensors").read_bytes()
