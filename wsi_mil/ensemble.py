"""The trained folds of one model, and what those that may speak for a slide say about it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from wsi_mil.bags import bag_tensor
from wsi_mil.checkpoints import ModelCard, read_checkpoint, refuse_other_encoder
from wsi_mil.errors import StoreMismatchError
from wsi_mil.metrics import predicted_class
from wsi_mil.models import MILModel
from wsi_mil.records import Bag, SlidePrediction
from wsi_mil.store import read_attributes, read_bag, store_path


@dataclass(frozen=True)
class FoldModel:
    """A trained model, frozen and in eval mode, with its card."""

    model: MILModel
    card: ModelCard


class Ensemble:
    """Every fold of one model entry on one encoder entry."""

    def __init__(self, folder: Path, n_folds: int, classes: tuple[str, ...], device: torch.device):
        self.folder, self.n_folds, self.classes, self.device = folder, n_folds, classes, device

    @cached_property
    def folds(self) -> list[FoldModel]:
        """The models, fold by fold.

        Raises:
            StoreMismatchError: trained on other classes, or on the same in another order.
        """
        loaded = []
        for fold in range(self.n_folds):
            path = self.folder / f"fold-{fold}"
            model, card = read_checkpoint(path, self.device)
            if card.classes != self.classes:
                raise StoreMismatchError(path, f"trained on classes {list(card.classes)}, asked for {list(self.classes)}")
            loaded.append(FoldModel(model, card))
        return loaded

    def read_bag(self, receipt: Path) -> Bag:
        """A slide's bag, which must have been made as those the models were trained on."""
        path = store_path(receipt)
        refuse_other_encoder(self.folds[0].card, read_attributes(path), path)
        return read_bag(receipt)

    @torch.inference_mode()
    def predict(self, bag: Bag, folds: tuple[int, ...]) -> SlidePrediction:
        """Mean over `folds` of probabilities and thresholds, and the class that follows."""
        chosen = [self.folds[fold] for fold in folds]
        logits = torch.cat([member.model(bag_tensor(bag, member.model)).logits for member in chosen])
        probs = torch.softmax(logits.double(), dim=1).mean(dim=0).cpu().numpy()
        thresholds = [member.card.threshold for member in chosen if member.card.threshold is not None]
        threshold = float(np.mean(thresholds)) if thresholds else None
        return SlidePrediction(folds, tuple(float(p) for p in probs), threshold, predicted_class(probs, threshold))
