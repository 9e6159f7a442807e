"""Stage `train`: fit one model on one fold's training part; epoch and threshold from its validation part alone."""

import copy
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil import __version__
from wsi_mil.bags import BagSet, LabelledBag, bag_tensor, common_encoder, finite_logits, read_bag_of
from wsi_mil.checkpoints import ModelCard, file_hash, read_card, read_checkpoint, write_checkpoint
from wsi_mil.cohort.splits import Splits, missing_classes, parts_of
from wsi_mil.config import MHIM, TEACHERS, BagUnit, BaseModelSettings, Model, Protocol, Training, TransMIL
from wsi_mil.epochs import Epoch, epochs_of, is_better, is_over, planned, with_choice
from wsi_mil.errors import ConfigError, DivergedError, NotFiniteError, StoreMismatchError
from wsi_mil.files import exclusive, write_table
from wsi_mil.metrics import accuracies, auroc, predicted_class, youden_threshold
from wsi_mil.models import MILModel, create_mhim, create_model
from wsi_mil.optimizers import create_optimizer, learning_rate
from wsi_mil.receipts import fingerprint, store_path
from wsi_mil.records import Bag
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.store import feature_dim, n_tiles, read_attributes
from wsi_mil.training_state import Snapshot, TrainingState, generator_from

log = logging.getLogger(__name__)

STAGE_VERSION = 3


@dataclass(frozen=True)
class Fold:
    """What one training may see.

    Attributes:
        splits: roles of the labelled slides.
        number: which fold.
        features: folder with the receipts of `extract`.
        classes: class names; their order is the order of the logits.
        unit: whether a bag is a slide or a patient.
        protocol: which part chooses epoch and threshold.
    """

    splits: Splits
    number: int
    features: Path
    classes: tuple[str, ...]
    unit: BagUnit = "slide"
    protocol: Protocol = "held_out"


def train_fold(
    fold: Fold, settings: Model, folder: Path, device: torch.device, *, base: Path | None = None, keep_bytes: int = 0
) -> ModelCard:
    """Train one fold and write its checkpoint and `history.csv` into `folder`; an interrupted training goes on.

    Args:
        fold: slides, their features and roles.
        settings: entry of `models`.
        folder: where the checkpoint goes.
        device: where to compute.
        base: for MHIM the checkpoint of its base on the same fold.
        keep_bytes: features that may be kept in memory; half of it for each part.

    Raises:
        ConfigError: a part of the fold lacks a class.
        StoreMismatchError: features of two encoders, or a base that was trained on something else.
        EmptyBagError: a bag without instances.
        DivergedError: the loss is no number any more; the state of the last good epoch is kept.
    """
    faults = missing_classes(fold.splits, fold.number, fold.classes, fold.protocol)
    if faults:
        raise ConfigError(faults)
    parts = parts_of(fold.protocol)
    members = [fold.splits.bags(fold.number, roles, fold.unit) for roles in parts]
    receipts = [fold.features / f"{slide}.json" for part in members for slides in part.values() for slide in slides]
    card = _blank_card(fold, settings, receipts, base)
    card = replace(card, architecture=_settled(card.architecture, members[0], fold))
    with exclusive(folder):
        torch.manual_seed(settings.train.seed)
        model = _create(settings, card, base, device)
        state = TrainingState(folder, _fingerprint(fold, card, members, base, device))
        train, val = (_bag_set(part, fold, keep_bytes // 2) for part in members)
        history, best = fit(model, train, val, settings.train, n_classes=len(fold.classes), state=state)
        select = with_choice(settings.train, val.labels, len(fold.classes)).select
        done = _finished_card(replace(card, select=select), model.deployed, val, history[best])
        write_table(folder / "history.csv", list(Epoch.__annotations__), [vars(epoch).values() for epoch in history])
        write_checkpoint(folder, model.deployed, done)
        state.remove()
    return done


def fit(
    model: MILModel, train: BagSet, val: BagSet, settings: Training, *, n_classes: int, state: TrainingState | None = None
) -> tuple[list[Epoch], int]:
    """Train in place, a bag a step, and leave the weights of the best epoch by the validation part, or of the last.

    An epoch counts as better only by `min_improvement`: once the validation bags are told apart, a smaller and smaller
    loss comes from larger weights, while attention drifts away from the evidence. Where a class has fewer validation bags
    than `min_val_bags`, the choice would be drawn by lot: the last epoch is kept, and a warning says so.

    Returns:
        The curve, and the index of the epoch that was kept.

    Raises:
        DivergedError: a loss that is no finite number; names epoch and bag.
    """
    device = next(model.parameters()).device
    settings = _planned(settings, train, val, n_classes)
    weights = class_weights(train.labels, n_classes, balanced=settings.class_weights).to(device)
    optimizer, state = create_optimizer(model, settings), state or TrainingState(None)
    resumed = state.load(model, optimizer)
    history = [Epoch(**line) for line in resumed.history] if resumed else []
    best, best_weights = (resumed.best, resumed.best_weights) if resumed else (0, _weights(model))
    rng = generator_from(resumed.order if resumed else None, settings.seed)
    if resumed:
        log.info("going on after epoch %d of an interrupted training", len(history))
    with ProgressMeter("train", total=epochs_of(settings), unit="epochs", already=len(history)) as meter:
        while not is_over(history, best, settings):
            number, lr = len(history), learning_rate(settings, len(history))
            train_loss = _train_epoch(model, train, optimizer, settings, weights, number=number, rng=rng)
            history.append(Epoch(number + 1, train_loss, *_validate(model, val, weights, number), lr))
            log.info("epoch %d: training loss %.4f, validation loss %.4f, AUROC %.3f", *list(vars(history[-1]).values())[:4])
            if number == 0 or is_better(history[-1], history[best], settings):
                best, best_weights = number, _weights(model)
            order = dict(rng.bit_generator.state)
            state.save(model, optimizer, Snapshot([asdict(epoch) for epoch in history], best, best_weights, order))
            meter.advance(1)
    model.deployed.load_state_dict(best_weights)
    return history, best


def _planned(settings: Training, train: BagSet, val: BagSet, n_classes: int) -> Training:
    """With its number of epochs, and `select` as these validation bags allow."""
    chosen = with_choice(planned(settings, len(train)), val.labels, n_classes)
    if chosen.select != settings.select:
        log.warning(
            "%d validation bags, fewer than %d of a class: they are too few to choose an epoch by, the last one is kept",
            len(val),
            settings.min_val_bags,
        )
    return chosen


@torch.inference_mode()
def evaluate(model: MILModel, bags: Iterable[LabelledBag]) -> NDArray[np.float64]:
    """Class probabilities `(n_bags, n_classes)`; leaves the model's mode as it was.

    Raises:
        NotFiniteError: features or logits of a bag that are no numbers.
    """
    was_training = model.training
    model.eval()
    try:
        logits = torch.cat([finite_logits(model, b.bag) for b in bags])
    finally:
        model.train(was_training)
    return torch.softmax(logits.double(), dim=1).cpu().numpy()


def class_weights(labels: list[int], n_classes: int, *, balanced: bool) -> Tensor:
    """`n / (n_classes · n_c)`, so that every class weighs the same and the mean over bags is 1."""
    counts = np.bincount(labels, minlength=n_classes)
    if not balanced:
        return torch.ones(n_classes)
    return torch.tensor(len(labels) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


def _train_epoch(
    model: MILModel,
    bags: BagSet,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    weights: Tensor,
    *,
    number: int,
    rng: np.random.Generator,
) -> float:
    """One pass over the bags in a drawn order; the mean loss."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, number)
    order = rng.permutation(len(bags))
    updates, total = -(-len(bags) // settings.accumulate), 0.0
    optimizer.zero_grad()
    for position, item in enumerate(bags.read(order)):
        chosen = drawn_instances(len(item.bag.features), settings, rng)
        loss = _loss(model, item, chosen, settings, weights)
        if not torch.isfinite(loss):
            raise DivergedError(
                epoch=number + 1, bag=item.bag.slide_id, features_are_finite=bool(np.isfinite(item.bag.features).all())
            )
        total += float(loss.detach())
        group_size = min(settings.accumulate, len(bags) - position // settings.accumulate * settings.accumulate)
        (loss / group_size).backward()  # type: ignore[no-untyped-call]
        if (position + 1) % settings.accumulate == 0 or position + 1 == len(bags):
            optimizer.step()
            optimizer.zero_grad()
            model.after_update((number * updates + position // settings.accumulate + 1) / (epochs_of(settings) * updates))
    return total / len(bags)


def _loss(model: MILModel, item: LabelledBag, chosen: Tensor | None, settings: Training, weights: Tensor) -> Tensor:
    features = bag_tensor(item.bag, model)
    if chosen is not None:
        features = features[:, chosen.to(features.device)]
    label = torch.tensor([item.label], device=weights.device)
    with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return model.training_loss(features, label, weights)


def drawn_instances(n: int, settings: Training, rng: np.random.Generator) -> Tensor | None:
    """Which instances a step sees, ascending, at least one; None: all of them."""
    kept = min(n, settings.max_instances or n)
    kept = max(1, kept - round(settings.instance_dropout * kept))
    return None if kept == n else torch.from_numpy(np.sort(rng.permutation(n)[:kept]))


def _validate(model: MILModel, bags: BagSet, weights: Tensor, number: int) -> tuple[float, float]:
    """Mean class-weighted log loss, and AUROC; nothing is kept of an epoch whose weights are no numbers."""
    try:
        probs, truth = evaluate(model, bags), np.array(bags.labels)
    except NotFiniteError as error:
        raise DivergedError(epoch=number + 1, bag=error.bag, features_are_finite=error.features_are_finite) from error
    of_truth = np.clip(probs[np.arange(len(truth)), truth], 1e-12, 1)
    return float((-np.log(of_truth) * weights.cpu().numpy()[truth]).mean()), auroc(truth, probs)


def _weights(model: MILModel) -> dict[str, Tensor]:
    return copy.deepcopy(model.deployed.state_dict())


def _blank_card(fold: Fold, settings: Model, receipts: list[Path], base: Path | None) -> ModelCard:
    """What is known of a model before it is trained.

    Raises:
        StoreMismatchError: features of two encoders or lengths, or a base trained on something else.
    """
    encoder, dims = common_encoder(receipts), [feature_dim(receipt) for receipt in receipts]
    for receipt, dim in zip(receipts, dims, strict=True):
        if dim != dims[0]:
            reason = f"features of length {dim}, but {dims[0]} in {store_path(receipts[0])}; run `extract` again"
            raise StoreMismatchError(store_path(receipt), reason)
    card = ModelCard(
        settings=settings,
        architecture=_architecture(settings, base),
        classes=fold.classes,
        feature_dim=dims[0],
        encoder=encoder,
        fold=fold.number,
        unit=fold.unit,
        protocol=fold.protocol,
        trained_on=fold.splits.fingerprint(fold.number, fold.unit),
        features=fingerprint({"features": [read_attributes(store_path(receipt))["fingerprint"] for receipt in receipts]}),
    )
    if base is not None:
        read_card(base).refuse_as_base_of(card, base)
    return card


def _architecture(settings: Model, base: Path | None) -> BaseModelSettings:
    if not isinstance(settings, MHIM):
        if base is not None:
            raise ConfigError([f"--base {base}: model {settings.model} stands on no other; only mhim does"])
        return settings
    if base is None:
        raise ConfigError([f"model mhim needs the trained model of its base {settings.base!r}: --base FOLDER"])
    card = read_card(base)
    if card.settings.model not in TEACHERS:
        raise ConfigError([f"--base {base}: is {card.settings.model}, but mhim stands on {', '.join(TEACHERS)}"])
    return card.architecture


def _settled(architecture: BaseModelSettings, training: dict[str, list[str]], fold: Fold) -> BaseModelSettings:
    """With all decided that depends on how large the training bags are."""
    if not isinstance(architecture, TransMIL):
        return architecture
    sizes = [sum(n_tiles(fold.features / f"{slide}.json") for slide in slides) for slides in training.values()]
    return architecture.settled(max(sizes))


def _create(settings: Model, card: ModelCard, base: Path | None, device: torch.device) -> MILModel:
    """A fresh model; the student of MHIM comes after its teacher, so that both draws are the seed's."""
    fresh = create_model(card.architecture, feature_dim=card.feature_dim, n_classes=len(card.classes))
    if not isinstance(settings, MHIM) or base is None:
        return fresh.to(device)
    return create_mhim(settings, base=read_checkpoint(base, device)[0], student=fresh).to(device)


def _fingerprint(
    fold: Fold, card: ModelCard, members: list[dict[str, list[str]]], base: Path | None, device: torch.device
) -> str:
    """Of everything that decides the weights."""
    return fingerprint(
        {
            "settings": card.settings.model_dump(mode="json"),
            "members": members,
            "labels": fold.splits.labels,
            "classes": list(fold.classes),
            "features": card.features,
            "base": file_hash(base) if base is not None else None,
            "versions": [STAGE_VERSION, __version__, torch.__version__],
            "machine": [device.type, torch.get_num_threads()],
        }
    )


def _bag_set(members: dict[str, list[str]], fold: Fold, keep_bytes: int) -> BagSet:
    named = list(members.items())
    labels = [fold.classes.index(fold.splits.labels[slides[0]]) for _, slides in named]

    def load(number: int) -> Bag:
        bag_id, slides = named[number]
        return read_bag_of(bag_id, [fold.features / f"{slide}.json" for slide in slides])

    return BagSet(labels, load, keep_bytes=keep_bytes)


def _finished_card(card: ModelCard, model: MILModel, val: BagSet, epoch: Epoch) -> ModelCard:
    """With threshold and figures of the part that chose the epoch."""
    probs, truth, n_classes = evaluate(model, val), np.array(val.labels), len(card.classes)
    threshold = youden_threshold(truth == 1, probs[:, 1]) if n_classes == 2 else None
    predicted = np.array([predicted_class(p, threshold) for p in probs])
    figures = {"loss": epoch.val_loss, "auroc": epoch.val_auroc, **accuracies(truth, predicted, n_classes)}
    return card.finished(threshold=threshold, epoch=epoch.epoch, validation=figures)
