"""Trained models of all folds, and predictions of the folds that held a slide's patient out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from wsi_mil.bags import blank_bag, finite_logits, read_bag_of
from wsi_mil.checkpoints import ModelCard, read_checkpoint, require_same_encoder
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import BagUnit, Protocol
from wsi_mil.covariates import Coding, SlideCovariates
from wsi_mil.errors import ConfigError, StoreMismatchError
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
    """Models of all folds of one entry of `models`, on the features of one entry of `encoders`.

    Attributes:
        folder: folder with the checkpoints of the folds.
        splits: roles of slides in training, from which follows which folds may predict a slide.
        task: the task the models were trained for.
        device: device of the models.
        unit: whether a bag is a slide or a patient.
        covariates: of the slides that are predicted, if the models were trained with covariates.
    """

    def __init__(
        self,
        folder: Path,
        splits: Splits,
        task: Task,
        device: torch.device,
        *,
        unit: BagUnit = "slide",
        covariates: SlideCovariates | None = None,
    ):
        self.folder = folder
        self.splits = splits
        self.task = task
        self.device = device
        self.unit = unit
        self.covariates = covariates

    @cached_property
    def folds(self) -> list[FoldModel]:
        """Models of the folds, in order.

        Raises:
            StoreMismatchError: trained for another task (other classes, or another order of them), on other bags, or on other
                splits: a model must not predict slides that it was trained on.
            ConfigError: the slides have other covariates than the models were trained with.
        """
        loaded = []
        for fold in range(self.splits.n_folds):
            path = self.folder / f"fold-{fold}"
            model, card = read_checkpoint(path, self.device)
            if card.task != self.task:
                raise StoreMismatchError(path, f"trained on {card.task}, expected {self.task}; train it again")
            if card.unit != self.unit:
                reason = f"trained with one bag per {card.unit}, expected one per {self.unit}; train it again"
                raise StoreMismatchError(path, reason)
            if card.trained_on != self.splits.fingerprint(fold, self.unit):
                raise StoreMismatchError(path, f"was not trained on fold {fold} of these splits; train it again")
            self._require_covariates(path, card.coding)
            loaded.append(FoldModel(model, card))
        return loaded

    def _require_covariates(self, path: Path, coding: Coding | None) -> None:
        """Raise if covariates of the slides are not those of the model: a column that is not there would be coded as missing."""
        if self.covariates is None or coding is None:
            return
        given = self.covariates.settings
        differences = []
        for kind, ours, trained in (
            ("numbers", given.numbers, [code.column for code in coding.numbers]),
            ("categories", given.categories, [code.column for code in coding.categories]),
        ):
            if set(ours) != set(trained):
                differences.append(f"{kind}: [{', '.join(trained)}], found {kind}: [{', '.join(ours)}]")
        if differences:
            expected = "; ".join(differences)
            raise ConfigError([f"{path} was trained with other covariates: expected {expected}; give the target the same"])

    @property
    def protocol(self) -> Protocol:
        """Protocol by which epoch and threshold were selected."""
        return self.folds[0].card.protocol

    @property
    def metadata(self) -> dict[str, object]:
        """Facts about the models to write beside their figures.

        `unchosen_folds` lists the folds with too few validation bags to select an epoch.
        """
        cards = [member.card for member in self.folds]
        unselected = [card.fold for card in cards if card.select == "last" != card.settings.train.select]
        return {"protocol": self.protocol, "n_folds": len(cards), "unchosen_folds": unselected}

    def read_bag(self, bag_id: str, receipts: Sequence[Path]) -> Bag:
        """Return the bag of one or more slides, whose features must match those that the models were trained on.

        The covariates are those of the first slide. Of models that see nothing else, the bag is blank.

        Raises:
            StoreMismatchError: features of another encoder, scale or length.
            EmptyBagError: there is no valid tile.
        """
        card = self.folds[0].card
        covariates = self.covariates.of(receipts[0].stem) if self.covariates is not None else None
        if not card.settings.has_instances:
            return blank_bag(bag_id, card.feature_dim, covariates)
        for receipt in receipts:
            path = store_path(receipt)
            require_same_encoder(card, read_attributes(path), path)
            if feature_dim(receipt) != card.feature_dim:
                reason = f"features of length {feature_dim(receipt)}, but {self.folder} expects {card.feature_dim}"
                raise StoreMismatchError(path, f"{reason}; use features of the encoder it was trained on, or train again")
        return replace(read_bag_of(bag_id, receipts), covariates=covariates)

    @torch.inference_mode()
    def predict(self, bag: Bag, folds: tuple[int, ...], *, at_mean: bool = False) -> SlidePrediction:
        """Return the prediction of the models of `folds` for a bag: their mean, and that of each model.

        Args:
            bag: the bag.
            folds: which models.
            at_mean: whether its covariates are replaced by their mean in each model's training part.

        Raises:
            NotFiniteError: features or logits are not finite.
        """
        members = [self.folds[fold] for fold in folds]
        models = [member.model.at_mean() if at_mean else member.model for member in members]
        logits = [finite_logits(model, bag) for model in models]
        outputs = [self.task.with_fitted(m.card.task).outputs(own) for m, own in zip(members, logits, strict=True)]
        return self.task.prediction(folds, np.concatenate(outputs), [member.card.threshold for member in members])
