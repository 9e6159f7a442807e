"""Tile and extract the slides of an experiment, and train and apply the models of all folds."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import benchmarks.papers.runs as run_files
from wsi_mil.bags import BagSet, read_bag_of
from wsi_mil.checkpoints import ModelCard, read_checkpoint
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import Encoder, Model, TileSettings
from wsi_mil.devices import fast_dtype
from wsi_mil.encoders.encoder import create_encoder
from wsi_mil.errors import ConfigError
from wsi_mil.extract import extract_slide
from wsi_mil.files import exclusive
from wsi_mil.receipts import fingerprint, read_receipt
from wsi_mil.records import Role, SlideRow, Status
from wsi_mil.tasks import Classes
from wsi_mil.tile import tile_slide
from wsi_mil.train import Fold, Keep, predict_outputs, train_fold

CPU = torch.device("cpu")
KEEP = Keep(2)
"""Features that may be kept in memory during training: 2 GB."""

log = logging.getLogger(__name__)


def extract_features(rows: Sequence[SlideRow], settings: TileSettings, encoder: Encoder, folder: Path) -> None:
    """Tile and extract slides into a folder, except those that have features already.

    Several processes may do this at once: each processes the slides in another order, so that they rarely wait for each
    other.

    Raises:
        ConfigError: a slide without features, with the reason in its receipt.
    """
    dtype = fast_dtype(encoder.dtype, CPU)

    @cache
    def network() -> Any:
        return create_encoder(encoder, device=CPU, dtype=dtype)

    faults = []
    for number, row in enumerate(random.SystemRandom().sample(rows, len(rows)), start=1):
        tiles, features = (folder / stage / f"{row.slide_id}.json" for stage in ("tiles", "features"))
        with exclusive(tiles):
            if not features.exists():
                tile_slide(row, settings, tiles)
                name = str(dtype).removeprefix("torch.")
                extract_slide(tiles, row, encoder, features, dtype=name, encoder=network, threads=1)
                log.warning("%s: features of slide %d of %d", folder.name, number, len(rows))
        receipt = read_receipt(features)
        if receipt["status"] != Status.OK:
            faults.append(f"{features}: status {receipt['status']}, expected ok: {receipt['reason']}; delete it to try again")
    if faults:
        raise ConfigError(faults)


@dataclass(frozen=True)
class FoldModels:
    """Models of an entry of `models` for all folds of one split.

    Attributes:
        name: name of its folder in `CACHE`.
        entry: the entry of `models`.
        settings: everything that determines the weights, as plain JSON.
        splits: roles of the slides in each fold.
        features: folder of the receipts of `extract`.
        classes: class names, in order.
        base: models of the base of MHIM, or None.
    """

    name: str
    entry: Model
    settings: Mapping[str, Any]
    splits: Splits
    features: Path
    classes: tuple[str, ...]
    base: "FoldModels | None" = None

    def checkpoint(self, number: int) -> Path:
        """Return the checkpoint of a fold; train it first if it is missing, after its base."""
        folder = run_files.CACHE / f"{self.name}-{fingerprint(dict(self.settings))[:8]}" / f"fold-{number}"
        base = None if self.base is None else self.base.checkpoint(number)
        with exclusive(folder.with_name(f"{folder.name}-is-trained")):
            if not (folder / "config.json").exists():
                fold = Fold(self.splits, number, self.features, Classes(self.classes))
                train_fold(fold, self.entry, folder, CPU, base=base, keep=KEEP)
        return folder

    def predictions(self, number: int) -> tuple[dict[str, dict[str, Any]], ModelCard]:
        """Return predictions of a fold's model for its test slides, {slide: {"label": index, "prob": of class 1}}."""
        model, card = read_checkpoint(self.checkpoint(number), CPU)
        slides = self.splits.slides(number, Role.TEST)
        labels = [self.classes.index(self.splits.labels[slide]) for slide in slides]
        bags = BagSet(labels, lambda at: read_bag_of(slides[at], [self.features / f"{slides[at]}.json"]), keep_bytes=0)
        probs = predict_outputs(model, bags, Classes.numbered(2))[:, 1]
        return {s: {"label": label, "prob": float(p)} for s, label, p in zip(slides, labels, probs, strict=True)}, card
