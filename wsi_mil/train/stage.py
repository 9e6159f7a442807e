"""Stage `train`: fit a model on the training part of a fold; its validation part selects epoch and threshold."""

import logging
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import BagSet, common_encoder, read_bag_of
from wsi_mil.checkpoints import ModelCard, file_hash, read_card, read_checkpoint, write_checkpoint
from wsi_mil.cohort.splits import Splits, missing_strata, protocol_roles
from wsi_mil.config import MHIM, TEACHERS, BagUnit, BaseModelSettings, CurveLog, LinearTraining, Model, Protocol, TransMIL
from wsi_mil.covariates import Cells, Coding, SlideCovariates
from wsi_mil.devices import memory_bytes
from wsi_mil.errors import ConfigError, StoreMismatchError
from wsi_mil.files import exclusive, write_table
from wsi_mil.models import (
    WRITE_MATRICES_OUT,
    Clinical,
    MeanLinear,
    MILModel,
    create_mhim,
    create_model,
    exact_step_bytes,
    outputs_of,
)
from wsi_mil.receipts import fingerprint, store_path
from wsi_mil.records import Bag
from wsi_mil.runtime.memory import free_bytes
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.store import feature_attributes, feature_dim, n_tiles
from wsi_mil.tasks import Task, Truth
from wsi_mil.train.covariates import CodedBags, fit_covariates, log_coding
from wsi_mil.train.curves import columns, open_curve
from wsi_mil.train.epochs import Epoch, for_task, with_selection
from wsi_mil.train.keeping import BagSizes, Keep, bytes_to_keep, log_reading
from wsi_mil.train.linear import Trial
from wsi_mil.train.loop import fit, n_sampled, predict_outputs
from wsi_mil.train.mean_linear import COLUMNS, Described, fit_mean, log_fit, rows_of
from wsi_mil.train.resume import TrainingState
from wsi_mil.version import __version__

log = logging.getLogger(__name__)

STAGE_VERSION = 5
KEEP_NOTHING = Keep(0)
Part = TypeVar("Part", BagSet, Described, CodedBags)


@dataclass(frozen=True)
class Fold:
    """Slides, features and task of one training.

    Attributes:
        splits: roles of the labelled slides.
        number: number of the fold.
        features: folder with the receipts of `extract`.
        task: task to learn.
        unit: whether a bag is a slide or a patient.
        protocol: which part selects epoch and threshold.
        statistics: folder for the mean and variance of each slide's features, which folds and targets share; None: they are
            computed anew. Models that see tiles do without.
        covariates: of the slides, for models that use them.
    """

    splits: Splits
    number: int
    features: Path
    task: Task
    unit: BagUnit = "slide"
    protocol: Protocol = "held_out"
    statistics: Path | None = None
    covariates: SlideCovariates | None = None


def train_fold(
    fold: Fold,
    settings: Model,
    folder: Path,
    device: torch.device,
    *,
    base: Path | None = None,
    keep: Keep = KEEP_NOTHING,
    log_to: CurveLog = "none",
) -> ModelCard:
    """Train a model on one fold and write its checkpoint and `history.csv` to `folder`; an interrupted training resumes.

    Args:
        fold: slides, their features and roles.
        settings: entry of `models`.
        folder: folder of the checkpoint.
        device: device to train on.
        base: for MHIM, the checkpoint of its base model on the same fold.
        keep: how much of the features stays in memory between epochs, training bags first.
        log_to: where the training curve is shown while training goes on, besides in `history.csv`.

    Raises:
        ConfigError: a part of the fold lacks a stratum, the base model is missing or of the wrong kind, exact attention takes
            more memory than there is, or the package for `log_to` is not installed.
        StoreMismatchError: features of different encoders, or a base model that was trained on other data or settings.
        EmptyBagError: a bag without instances.
        DivergedError: the loss is not finite; the state of the last finite epoch is kept.
        NotFiniteError: features of a bag are not finite, of a linear model.
    """
    faults = missing_strata(fold.splits, fold.number, fold.task, fold.protocol)
    if faults:
        raise ConfigError(faults)
    members = [fold.splits.bags(fold.number, roles, fold.unit) for roles in protocol_roles(fold.protocol)]
    fold = replace(fold, task=fold.task.fitted(_truth(members[0], fold)))
    receipts = [fold.features / f"{slide}.json" for part in members for slides in part.values() for slide in slides]
    card = _initial_card(fold, settings, receipts, base)
    card = replace(card, architecture=_with_attention(card, members[0], fold, device))
    card = replace(card, coding=_coding(members, fold, card.architecture))
    if base is not None:
        read_card(base).require_base_of(card, base)
    with exclusive(folder):
        state = TrainingState(folder, _fingerprint(fold, card, members, base, device))
        if isinstance(settings.train, LinearTraining):
            fit_one = _fit_linear if settings.has_instances else _fit_clinical
            model, card = fit_one(settings.train, card, fold, members, folder)
        else:
            torch.manual_seed(settings.train.seed)
            model = _create(settings, card, base, device)
            train, val = _bag_sets(members, fold, card.feature_dim, keep, device)
            names = columns(card.task.figure_name)
            with open_curve(folder, log_to, names) as curve:
                history, best = fit(model, train, val, settings.train, task=fold.task, state=state, curve=curve)
            select = with_selection(for_task(settings.train, fold.task, len(train)), fold.task.rarest(val.truth)).select
            card = replace(card, select=select, epoch=history[best].epoch)
            model = model.deployed
            card = _trained_card(card, (train, val), partial(predict_outputs, model), history[best])
            write_table(folder / "history.csv", names, [vars(epoch).values() for epoch in history])
        write_checkpoint(folder, model, card)
        state.remove()
    return card


def _fit_linear(
    settings: LinearTraining, card: ModelCard, fold: Fold, members: list[dict[str, list[str]]], folder: Path
) -> tuple[MILModel, ModelCard]:
    """Fit the linear model of the mean of the features; of its card, `epoch` is the number of the penalty."""
    model = create_model(card.architecture, feature_dim=card.feature_dim, outputs=outputs_of(card.task)).eval()
    assert isinstance(model, MeanLinear)
    with ProgressMeter("train", total=sum(map(len, members)), unit="bags") as meter:
        train, val = (_described(part, fold, meter) for part in members)
    fitted = fit_mean(model, train, val, settings, fold.task)
    names = [name.format(figure=card.task.figure_name) for name in COLUMNS]
    write_table(folder / "history.csv", names, rows_of(fitted))
    card = replace(card, select=settings.select, epoch=fitted.chosen + 1)
    card = _trained_card(card, (train, val), lambda part, task: part.outputs(model, task), fitted.trials[fitted.chosen])
    return model, card


def _fit_clinical(
    settings: LinearTraining, card: ModelCard, fold: Fold, members: list[dict[str, list[str]]], folder: Path
) -> tuple[MILModel, ModelCard]:
    """Fit the linear model of covariates; of its card, `epoch` is the number of the penalty."""
    model = card.create_model().eval()
    assert isinstance(model, Clinical)
    train, val = (_coded_bags(part, fold, card) for part in members)
    fitted = fit_covariates(model, train, val, settings, fold.task)
    log_fit(fitted, fold.task)
    names = [name.format(figure=card.task.figure_name) for name in COLUMNS]
    write_table(folder / "history.csv", names, rows_of(fitted))
    card = replace(card, select=settings.select, epoch=fitted.chosen + 1)
    card = _trained_card(card, (train, val), lambda part, task: part.outputs(model, task), fitted.trials[fitted.chosen])
    return model, card


def _coding(members: list[dict[str, list[str]]], fold: Fold, architecture: BaseModelSettings) -> Coding | None:
    """Coding of covariates from the training part; None if the model uses none."""
    if not architecture.uses_covariates:
        return None
    if fold.covariates is None:
        raise ConfigError(
            [f"model {architecture.model} needs covariates: give --target the key covariates, as in docs/targets.md"]
        )
    train, val = (_cells(part, fold) for part in members)
    coding = Coding.fitted(fold.covariates.settings, train)
    log_coding(coding, train, val)
    return coding


def _coded_bags(part: dict[str, list[str]], fold: Fold, card: ModelCard) -> CodedBags:
    assert card.coding is not None
    return CodedBags(card.coding.design(_cells(part, fold)), _truth(part, fold))


def _cells(part: dict[str, list[str]], fold: Fold) -> list[Cells]:
    """Covariates of bags, those of the first slide of each."""
    assert fold.covariates is not None
    return [fold.covariates.of(slides[0]) for slides in part.values()]


def _described(part: dict[str, list[str]], fold: Fold, meter: ProgressMeter) -> Described:
    receipts = {bag: [fold.features / f"{slide}.json" for slide in slides] for bag, slides in part.items()}
    return Described.read(receipts, _truth(part, fold), fold.statistics, meter)


def _initial_card(fold: Fold, settings: Model, receipts: list[Path], base: Path | None) -> ModelCard:
    """Return the model card before training.

    Raises:
        StoreMismatchError: features of different encoders or lengths, or a base trained on other data or settings.
    """
    encoder = common_encoder(receipts)
    dims = [feature_dim(receipt) for receipt in receipts]
    for receipt, dim in zip(receipts, dims, strict=True):
        if dim != dims[0]:
            reason = f"features of length {dim}, but {dims[0]} in {store_path(receipts[0])}; run `extract` again"
            raise StoreMismatchError(store_path(receipt), reason)
    card = ModelCard(
        settings=settings,
        architecture=_architecture(settings, base),
        task=fold.task,
        feature_dim=dims[0],
        encoder=encoder,
        fold=fold.number,
        unit=fold.unit,
        protocol=fold.protocol,
        trained_on=fold.splits.fingerprint(fold.number, fold.unit),
        features=fingerprint({"features": [feature_attributes(store_path(receipt))["fingerprint"] for receipt in receipts]}),
    )
    return card


def _architecture(settings: Model, base: Path | None) -> BaseModelSettings:
    if not isinstance(settings, MHIM):
        if base is not None:
            raise ConfigError([f"--base {base}: model {settings.model} has no base model; leave --base out (only mhim needs it)"])
        return settings
    if base is None:
        raise ConfigError([f"model mhim needs the trained model of its base {settings.base!r}: add --base FOLDER"])
    card = read_card(base)
    if card.settings.model not in TEACHERS:
        expected = ", ".join(TEACHERS)
        raise ConfigError([f"--base {base}: expected the base of mhim to be one of {expected}, found {card.settings.model}"])
    return card.architecture


def _with_attention(card: ModelCard, training: dict[str, list[str]], fold: Fold, device: torch.device) -> BaseModelSettings:
    """Resolve `attention: auto` of TransMIL by the size of the largest training bag."""
    if not isinstance(card.architecture, TransMIL):
        return card.architecture
    largest = max(sum(n_tiles(fold.features / f"{slide}.json") for slide in slides) for slides in training.values())
    settled = card.architecture.settled(largest)
    if settled.attention == "exact" and isinstance(card.settings, TransMIL):
        _require_memory(card.settings, largest, device)
    return settled


def _require_memory(settings: TransMIL, largest: int, device: torch.device) -> None:
    """Raise where exact attention to the largest training bag takes more memory than the device has."""
    available = memory_bytes(device)

    def needed(n: int) -> int:
        seen = n_sampled(n, settings.train)
        return exact_step_bytes(seen, dim=settings.embed_dim, heads=settings.heads, device_type=device.type)

    if available is None or needed(largest) <= available:
        return
    fitting = max(1, bisect_right(range(largest), available, key=needed) - 1)
    is_asked_for, is_quadratic = settings.attention == "exact", device.type in WRITE_MATRICES_OUT
    key = "attention: exact" if is_asked_for else f"exact_up_to: {settings.exact_up_to}"
    cure = "exact_up_to" if is_quadratic else "train.max_instances"
    besides = "attention to auto and " if is_asked_for and is_quadratic else ""
    raise ConfigError(
        [
            f"model transmil, {key}: exact attention takes about {needed(largest) / 1e9:,.1f} GB in an update on the largest"
            f" training bag, of {largest:,} tiles, but there are {available / 1e9:,.1f} GB ({device.type}); set {besides}{cure}"
            f" to {fitting} or less"
        ]
    )


def _create(settings: Model, card: ModelCard, base: Path | None, device: torch.device) -> MILModel:
    """Return the untrained model; it is initialised before the base is read, so that the seed determines its weights."""
    untrained = card.create_model()
    if not isinstance(settings, MHIM) or base is None:
        return untrained.to(device)
    return create_mhim(settings, base=read_checkpoint(base, device)[0], student=untrained).to(device)


def _fingerprint(
    fold: Fold, card: ModelCard, members: list[dict[str, list[str]]], base: Path | None, device: torch.device
) -> str:
    """Return the fingerprint of everything that determines the weights."""
    return fingerprint(
        {
            "settings": card.settings.model_dump(mode="json"),
            "members": members,
            "labels": fold.splits.labels,
            **fold.task.stamp(),
            "features": card.features,
            "covariates": [_cells(part, fold) for part in members] if card.coding is not None else None,
            "base": file_hash(base) if base is not None else None,
            "versions": [STAGE_VERSION, __version__, torch.__version__],
            "machine": [device.type, torch.get_num_threads()],
        }
    )


def _bag_sets(
    members: list[dict[str, list[str]]], fold: Fold, dim: int, keep: Keep, device: torch.device
) -> tuple[BagSet, BagSet]:
    """Return training and validation bags, which are read on demand, and say in the log what is read."""
    n_instances = [[sum(n_tiles(fold.features / f"{s}.json") for s in slides) for slides in part.values()] for part in members]
    train, both = BagSizes.of(n_instances[0], dim), BagSizes.of([*n_instances[0], *n_instances[1]], dim)
    kept = bytes_to_keep(keep, both, free_bytes())
    log_reading(both, kept, keep)
    of_train = min(kept, train.n_bytes)
    pin = device.type == "cuda"
    return _bag_set(members[0], fold, of_train, pin), _bag_set(members[1], fold, kept - of_train, pin)


def _bag_set(members: dict[str, list[str]], fold: Fold, keep_bytes: int, pin: bool) -> BagSet:
    bags = list(members.items())

    def load(number: int) -> Bag:
        bag_id, slides = bags[number]
        bag = read_bag_of(bag_id, [fold.features / f"{slide}.json" for slide in slides])
        return bag if fold.covariates is None else replace(bag, covariates=fold.covariates.of(slides[0]))

    return BagSet(_truth(members, fold), load, keep_bytes=keep_bytes, pin=pin)


def _truth(members: dict[str, list[str]], fold: Fold) -> Truth:
    """Labels and patients of bags, which are those of the first slide of each."""
    first = [slides[0] for slides in members.values()]
    labels = fold.task.encode([fold.splits.labels[slide] for slide in first])
    return Truth(labels, tuple(fold.splits.patients[slide] for slide in first))


def _trained_card(
    card: ModelCard, parts: tuple[Part, Part], outputs: Callable[[Part, Task], NDArray[np.float64]], best: Epoch | Trial
) -> ModelCard:
    """Return the card with what follows from the trained model's outputs for the training and for the validation bags."""
    (train, val), task = parts, card.task
    if task.is_judged_on_training:
        task = task.calibrated(outputs(train, task), train.truth)
    of_val = outputs(val, task)
    threshold = task.threshold(of_val, val.truth)
    of_best = {"loss": best.val_loss, task.figure_name: best.val_figure}
    figures = {**of_best, **task.validation_figures(of_val, val.truth, threshold)}
    return replace(card, task=task, threshold=threshold, validation=figures)
