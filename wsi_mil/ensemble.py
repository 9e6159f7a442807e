"""The trained folds of one model, and what those that may speak for a slide say about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wsi_mil.bags import finite_logits, read_bag_of
from wsi_mil.checkpoints import ModelCard, read_checkpoint, refuse_other_encoder
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import BagUnit, Protocol
from wsi_mil.errors import StoreMismatchError
from wsi_mil.models import MILModel
from wsi_mil.receipts import store_path
from wsi_mil.records import Bag, SlidePrediction
from wsi_mil.store import feature_dim, read_attributes
from wsi_mil.tasks import Task


@dataclass(frozen=True)
class FoldModel:
    """A trained model, frozen and in eval mode, with its card."""

    model: MILModel
    card: ModelCard


class Ensemble:
    """Every fold of one model entry on one encoder entry.

    Attributes:
        splits: what the models were trained on, and so for which slides they may speak.
        unit: whether a bag is a slide or a patient.
    """

    def __init__(self, folder: Path, splits: Splits, task: Task, device: torch.device, *, unit: BagUnit = "slide"):
        self.folder, self.splits, self.task, self.device, self.unit = folder, splits, task, device, unit

    @cached_property
    def folds(self) -> list[FoldModel]:
        """The models, fold by fold.

        Raises:
            StoreMismatchError: trained on other classes, on the same in another order, on bags of another kind, or on
                other splits: a model must not speak for slides that it has seen.
        """
        loaded = []
        for fold in range(self.splits.n_folds):
            path = self.folder / f"fold-{fold}"
            model, card = read_checkpoint(path, self.device)
            if card.task != self.task:
                raise StoreMismatchError(path, f"trained on {card.task}, asked for {self.task}")
            if card.unit != self.unit:
                raise StoreMismatchError(path, f"trained on bags of a {card.unit}, asked for bags of a {self.unit}")
            if card.trained_on != self.splits.fingerprint(fold, self.unit):
                raise StoreMismatchError(path, f"was not trained on fold {fold} of these splits; train it again")
            loaded.append(FoldModel(model, card))
        return loaded

    @property
    def protocol(self) -> Protocol:
        """How epoch and threshold were chosen."""
        return self.folds[0].card.protocol

    @property
    def about(self) -> dict[str, object]:
        """What the figures should say of the models: `unchosen_folds` had too few validation bags to choose an epoch by."""
        cards = [member.card for member in self.folds]
        unchosen = [card.fold for card in cards if card.select == "last" != card.settings.train.select]
        return {"protocol": self.protocol, "n_folds": len(cards), "unchosen_folds": unchosen}

    def read_bag(self, bag_id: str, receipts: Sequence[Path]) -> Bag:
        """The bag of one or more slides, which must have been made as those the models were trained on.

        Raises:
            StoreMismatchError: made otherwise, or of another length.
            EmptyBagError: not one valid tile.
        """
        card = self.folds[0].card
        for receipt in receipts:
            path = store_path(receipt)
            refuse_other_encoder(card, read_attributes(path), path)
            if feature_dim(receipt) != card.feature_dim:
                reason = f"features of {feature_dim(receipt)} numbers a tile, but {self.folder} takes {card.feature_dim}"
                raise StoreMismatchError(path, f"{reason}; bring features of the encoder that it was trained on, or train anew")
        return read_bag_of(bag_id, receipts)

    @torch.inference_mode()
    def predict(self, bag: Bag, folds: tuple[int, ...]) -> SlidePrediction:
        """Return what the models of `folds` predict together, and each of them alone.

        Raises:
            NotFiniteError: features or logits that are no numbers.
        """
        chosen = [self.folds[fold] for fold in folds]
        logits = torch.cat([finite_logits(member.model, bag) for member in chosen])
        return self.task.prediction(folds, self.task.outputs(logits), [member.card.threshold for member in chosen])
