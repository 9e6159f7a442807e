"""Slides of an experiment through `tile` and `extract`, and an entry of `models` through all its folds."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import benchmarks.papers.runs as kept
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
from wsi_mil.train import Fold, predict_outputs, train_fold

CPU = torch.device("cpu")
KEEP_BYTES = 2 * 10**9
"""Of features in memory while a model is trained."""

log = logging.getLogger(__name__)


def extract_features(rows: Sequence[SlideRow], settings: TileSettings, encoder: Encoder, folder: Path) -> None:
    """Tiles and features of slides below a folder; what is there is not made again.

    Several processes may do it at once: each goes through the slides in an order of its own, so that they seldom meet.

    Raises:
        ConfigError: a slide without features, with what its receipt says.
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
            faults.append(f"{features}: {receipt['status']}, expected ok: {receipt['reason']}; remove it to make it again")
    if faults:
        raise ConfigError(faults)


@dataclass(frozen=True)
class Trained:
    """An entry of `models` in all folds of one draw.

    Attributes:
        name: of its folder below `KEPT`.
        entry: the model.
        settings: everything that decides its weights, plain JSON.
        splits: who is trained on, who is held out.
        features: folder of the receipts.
        classes: in their order.
        base: what it stands on, or None.
    """

    name: str
    entry: Model
    settings: Mapping[str, Any]
    splits: Splits
    features: Path
    classes: tuple[str, ...]
    base: "Trained | None" = None

    def checkpoint(self, number: int) -> Path:
        """The trained model of a fold; trained where it is not there, after its base."""
        folder = kept.KEPT / f"{self.name}-{fingerprint(dict(self.settings))[:8]}" / f"fold-{number}"
        base = None if self.base is None else self.base.checkpoint(number)
        with exclusive(folder.with_name(f"{folder.name}-is-trained")):
            if not (folder / "config.json").exists():
                fold = Fold(self.splits, number, self.features, Classes(self.classes))
                train_fold(fold, self.entry, folder, CPU, base=base, keep_bytes=KEEP_BYTES)
        return folder

    def said(self, number: int) -> tuple[dict[str, dict[str, Any]], ModelCard]:
        """What a fold's model says of the slides that it has not seen: {slide: {"label": index, "prob": of class 1}}."""
        model, card = read_checkpoint(self.checkpoint(number), CPU)
        slides = self.splits.slides(number, Role.TEST)
        labels = [self.classes.index(self.splits.labels[slide]) for slide in slides]
        bags = BagSet(labels, lambda at: read_bag_of(slides[at], [self.features / f"{slides[at]}.json"]), keep_bytes=0)
        probs = predict_outputs(model, bags, Classes.numbered(2))[:, 1]
        return {s: {"label": label, "prob": float(p)} for s, label, p in zip(slides, labels, probs, strict=True)}, card
