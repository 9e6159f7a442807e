from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import wsi_mil.train.loop
import wsi_mil.train.mean_linear
import wsi_mil.train.stage
from tests.train.cohort import CLASSES, CPU, SETTINGS, STORE_ATTRIBUTES, TASK, quick, splits_of, weights, write_features
from wsi_mil.bags import LabelledBag
from wsi_mil.checkpoints import read_checkpoint
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import Model, parse_model
from wsi_mil.devices import memory_bytes
from wsi_mil.errors import ConfigError, DivergedError, EmptyBagError, StoreMismatchError
from wsi_mil.models import MILModel
from wsi_mil.records import Bag, Role
from wsi_mil.store import FeatureStore
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, predict_outputs, train_fold
from wsi_mil.train.loop import n_sampled
from wsi_mil.train.resume import STATE_FILE

AUTO_TRANSMIL = {"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4, "exact_up_to": 30, "train": {"epochs": 3}}
"""TransMIL whose kind of attention depends on the largest training bag."""
EACH_TRAINING = pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SETTINGS, id="selected by AUROC"),
        pytest.param(parse_model({"model": "abmil", "embed_dim": 16, "train": {"updates": 40, "min_epochs": 0}}), id="updates"),
        pytest.param(parse_model({"model": "abmil", "embed_dim": 16, "train": {"epochs": 3, "select": "last"}}), id="last"),
        pytest.param(parse_model({"model": "dsmil", "embed_dim": 16, "train": {"epochs": 3}}), id="dsmil"),
        pytest.param(parse_model({"model": "mean_linear", "statistics": "mean_std"}), id="mean_linear"),
        pytest.param(parse_model(AUTO_TRANSMIL), id="attention set by the bags"),
        pytest.param(parse_model({**AUTO_TRANSMIL, "position_start": "random", "attention": "exact"}), id="random start"),
    ],
)
"""One model for each setting whose effect depends on the training or validation bags."""


def test_the_same_seed_gives_the_same_weights(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    for name in ("a", "b"):
        train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), SETTINGS, tmp_path / name, CPU)
    for file in ("model.safetensors", "config.json", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@EACH_TRAINING
def test_nothing_of_the_test_patients_reaches_fitting_stopping_or_the_threshold(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Model
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    seen: set[str] = set()

    def record_slides(name: str, ids: Callable[[tuple], list[str]], module: ModuleType = wsi_mil.train.stage) -> None:
        original = getattr(module, name)

        def record(*args: object, **kwargs: object) -> object:
            seen.update(ids(args))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, record)

    record_slides("read_bag_of", lambda args: [path.stem for path in args[1]])
    record_slides("feature_attributes", lambda args: [args[0].stem])
    record_slides("common_encoder", lambda args: [path.stem for path in args[0]])
    record_slides("feature_dim", lambda args: [args[0].stem])
    record_slides("n_tiles", lambda args: [args[0].stem])
    record_slides("fit", lambda args: [b.bag.slide_id for part in args[1:3] for b in part])
    record_slides("statistics_of_bag", lambda args: [path.stem for path in args[1]], wsi_mil.train.mean_linear)
    loop = wsi_mil.train.loop
    for module in (wsi_mil.train.stage, loop):
        record_slides("predict_outputs", lambda args: [b.bag.slide_id for b in args[1]], module)
    record_slides("stored_tensor", lambda args: [args[0].slide_id], loop)
    record_slides("finite_logits", lambda args: [args[1].slide_id], loop)
    for fold in range(3):
        seen.clear()
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), settings, tmp_path / f"m{fold}", CPU)
        tested = {splits.patients[s] for s in splits.slides(fold, Role.TEST)}
        assert seen == set(splits.slides(fold, Role.TRAIN)) | set(splits.slides(fold, Role.VAL))
        assert tested and not tested & {splits.patients[s] for s in seen}


@EACH_TRAINING
def test_class_names_whose_order_flips_change_no_figure(random_bags: Callable, tmp_path: Path, settings: Model) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    renamed = Classes(("z", "a"))
    first = train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), settings, tmp_path / "a", CPU)
    second = train_fold(Fold(splits_of(bags, classes=renamed.names), 0, tmp_path / "f", renamed), settings, tmp_path / "b", CPU)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert first.threshold == second.threshold and first.validation == second.validation


def test_features_of_two_encoders_are_not_mixed(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags[:20])
    write_features(tmp_path / "f", bags[20:], mpp=0.25)
    with pytest.raises(StoreMismatchError, match=r"'mpp': 0\.25.*'mpp': 0\.5"):
        for fold in range(3):
            train_fold(Fold(splits_of(bags), fold, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)


@pytest.mark.parametrize("is_warned", [False, True])
def test_with_too_few_validation_bags_the_last_epoch_is_kept_with_a_warning_and_noted_in_the_card(
    random_bags: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_warned: bool
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    val = [splits.labels[slide] for slide in splits.slides(0, Role.VAL)]
    least = min(val.count(name) for name in CLASSES) + is_warned
    settings = parse_model(quick({"model": "abmil", "embed_dim": 16}, min_val_bags=least, patience=2, epochs=9, lr=0.05))
    with caplog.at_level("WARNING", logger="wsi_mil"):
        card = train_fold(Fold(splits, 0, tmp_path / "f", TASK), settings, tmp_path / "m", CPU)
    messages = [r.getMessage() for r in caplog.records]
    assert (
        any(f"but min_val_bags asks for {least}" in text and "the last epoch is kept" in text for text in messages) == is_warned
    )
    assert card.select == read_checkpoint(tmp_path / "m", CPU)[1].select == ("last" if is_warned else "auroc")
    assert (card.epoch == 9) == is_warned


@pytest.mark.parametrize(("spare", "kind"), [(0, "exact"), (-1, "nystrom")])
def test_the_largest_training_bag_determines_the_attention_stored_in_the_checkpoint(
    random_bags: Callable, tmp_path: Path, spare: int, kind: str
) -> None:
    bags = random_bags(24)
    splits = splits_of(bags)
    train, test = splits.slides(0, Role.TRAIN), splits.slides(0, Role.TEST)
    sizes = {b.bag.slide_id: len(b.bag.features) for b in bags}
    largest = max(sizes[s] for s in train)
    huge = next(b for b in bags if b.bag.slide_id == test[0]).bag
    bags = [b if b.bag is not huge else LabelledBag(repeated_to(huge, largest + 9), b.label) for b in bags]
    write_features(tmp_path / "f", bags)
    settings = parse_model({**AUTO_TRANSMIL, "exact_up_to": largest + spare})
    card = train_fold(Fold(splits, 0, tmp_path / "f", TASK), settings, tmp_path / "m", CPU)
    assert card.settings.attention == "auto" and card.architecture.attention == kind
    rebuilt, _ = read_checkpoint(tmp_path / "m", CPU)
    assert all((type(layer).__name__ == "ExactAttention") == (kind == "exact") for layer in rebuilt.layers)
    assert np.isfinite(predict_outputs(rebuilt, bags, Classes.numbered(2))).all()


@pytest.mark.parametrize(("key", "value"), [("exact_up_to", 300), ("attention", "exact")])
def test_exact_attention_that_no_memory_holds_says_what_it_takes_what_there_is_and_what_fits(
    random_bags: Callable, tmp_path: Path, key: str, value: object
) -> None:
    bags = random_bags(24)
    splits = splits_of(bags)
    of_slide = {b.bag.slide_id: b for b in bags}
    large = of_slide[splits.slides(0, Role.TRAIN)[0]]
    bags = [LabelledBag(repeated_to(b.bag, 50), b.label) if b is large else b for b in bags]
    write_features(tmp_path / "f", bags)
    there = memory_bytes(CPU)
    assert there is not None
    units = there // (4 * 30 * 20)  # 20 instances, half of a bag of 40 or 41, just fit; the bag of 50 shows 25 of its own
    units += -units % 8 - 8
    settings = parse_model({"model": "transmil", "embed_dim": units, "heads": 8, key: value})
    with pytest.raises(ConfigError) as caught:
        train_fold(Fold(splits, 0, tmp_path / "f", TASK), settings, tmp_path / "m", CPU)
    (fault,) = caught.value.faults
    needs = f"about {25 * 4 * 30 * units / 1e9:,.1f} GB in an update on the largest training bag, of 50 tiles"
    assert f"model transmil, {key}: {value}: exact attention takes {needs}, but there are {there / 1e9:,.1f} GB (cpu)" in fault
    fitting = max(n for n in range(50) if n_sampled(n, settings.train) <= 20)
    assert fault.endswith(f"; set train.max_instances to {fitting} or less") and fitting == 40
    assert n_sampled(50, settings.train.model_copy(update={"max_instances": fitting})) == 20


def repeated_to(bag: Bag, n: int) -> Bag:
    """Return a bag of `n` instances that repeats those of `bag`."""
    rows = np.arange(n) % len(bag.features)
    return Bag(bag.slide_id, bag.features[rows], bag.coords[rows])


def test_a_patients_slides_are_one_bag(random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    shared = next(p for p in splits.patients.values() if list(splits.patients.values()).count(p) > 1)
    slides = sorted(s for s, p in splits.patients.items() if p == shared)
    fold = next(k for k in range(3) if slides[0] in splits.slides(k, Role.TRAIN))
    sizes: dict[str, int] = {}
    original = wsi_mil.train.stage.read_bag_of

    def watched(bag_id: str, receipts: list[Path]) -> Bag:
        bag = original(bag_id, receipts)
        sizes[bag.slide_id] = len(bag.features)
        return bag

    monkeypatch.setattr(wsi_mil.train.stage, "read_bag_of", watched)
    card = train_fold(Fold(splits, fold, tmp_path / "f", TASK, unit="patient"), SETTINGS, tmp_path / "m", CPU)
    of_slide = {b.bag.slide_id: len(b.bag.features) for b in bags}
    seen = {splits.patients[s] for role in (Role.TRAIN, Role.VAL) for s in splits.slides(fold, role)}
    assert card.unit == "patient" and set(sizes) == seen
    assert sizes[shared] == sum(of_slide[s] for s in slides) and len(slides) > 1


def test_as_published_the_test_part_selects_and_the_card_has_the_protocol(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    selected_by: list[set[str]] = []
    original = wsi_mil.train.loop.predict_outputs
    for module in (wsi_mil.train.loop, wsi_mil.train.stage):
        monkeypatch.setattr(
            module,
            "predict_outputs",
            lambda m, part, task: selected_by.append({b.bag.slide_id for b in part}) or original(m, part, task),
        )
    card = train_fold(Fold(splits, 0, tmp_path / "f", TASK, protocol="as_published"), SETTINGS, tmp_path / "m", CPU)
    assert card.protocol == "as_published" and read_checkpoint(tmp_path / "m", CPU)[1].protocol == "as_published"
    assert all(ids == set(splits.slides(0, Role.TEST)) for ids in selected_by)


def test_mhim_takes_its_bases_architecture_and_is_deployed_as_its_student(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold = Fold(splits_of(bags), 0, tmp_path / "f", TASK)
    train_fold(fold, SETTINGS, tmp_path / "base", CPU)
    mhim = parse_model(quick({"model": "mhim", "base": "abmil"}))
    card = train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "base")
    student, read = read_checkpoint(tmp_path / "m", CPU)
    assert read == card and card.settings == mhim and card.architecture == SETTINGS
    assert type(student).__name__ == "ABMIL" and weights(tmp_path / "m") != weights(tmp_path / "base")


def test_mhim_without_its_base_or_with_one_of_another_fold_is_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    train_fold(Fold(splits, 1, tmp_path / "f", TASK), SETTINGS, tmp_path / "base", CPU)
    mhim, fold = parse_model({"model": "mhim", "base": "abmil"}), Fold(splits, 0, tmp_path / "f", TASK)
    with pytest.raises(ConfigError, match="needs the trained model of its base 'abmil'"):
        train_fold(fold, mhim, tmp_path / "m", CPU)
    with pytest.raises(StoreMismatchError, match="the base model was trained on other data: fold 1, expected 0"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "base")
    assert not (tmp_path / "m").exists()


def test_a_loss_that_is_not_finite_stops_with_epoch_and_bag_and_keeps_the_last_finite_state(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    calls: list[str] = []
    original = wsi_mil.train.loop._loss

    def overflowing(model: MILModel, item: LabelledBag, *args: object) -> torch.Tensor:
        calls.append(item.bag.slide_id)
        return original(model, item, *args) * (torch.inf if len(calls) == 25 else 1)

    monkeypatch.setattr(wsi_mil.train.loop, "_loss", overflowing)
    splits = splits_of(bags)
    fold, n = Fold(splits, 0, tmp_path / "f", TASK), len(splits.slides(0, Role.TRAIN))
    with pytest.raises(DivergedError) as caught:
        train_fold(fold, SETTINGS, tmp_path / "m", CPU)
    assert caught.value.epoch == (25 - 1) // n + 1 > 1 and caught.value.bag == calls[-1]
    assert f"epoch {caught.value.epoch} on bag '{calls[-1]}'" in str(caught.value) and "lower `lr`" in str(caught.value)
    assert [p.name for p in (tmp_path / "m").iterdir()] == [STATE_FILE]


def test_features_that_are_not_finite_are_named(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    bags[3].bag.features[1, 1] = np.nan
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    fold = next(k for k in range(3) if "s03" in splits.slides(k, Role.TRAIN))
    with pytest.raises(DivergedError, match="on bag 's03'; its features are not finite"):
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_a_part_without_a_class_is_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    roles = {s: Role.TEST if r is Role.VAL and splits.labels[s] == "tumour" else r for s, r in splits.roles[0].items()}
    broken = Splits(splits.patients, splits.labels, (roles,))
    with pytest.raises(ConfigError, match="fold 0 has no val slide of class 'tumour'"):
        train_fold(Fold(broken, 0, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_a_bag_without_instances_is_named(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    attributes = {**STORE_ATTRIBUTES, "fingerprint": "x"}
    with FeatureStore(
        tmp_path / "f" / "s03.zarr", coords=np.zeros((0, 2), np.int64), batch_size=64, attributes=attributes
    ) as store:
        store.begin(12)
    splits = splits_of(bags)
    fold = next(k for k in range(3) if "s03" in splits.slides(k, Role.TRAIN))
    with pytest.raises(EmptyBagError, match="s03: a bag without instances"):
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_features_of_two_lengths_are_not_mixed(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    short = [LabelledBag(Bag(b.bag.slide_id, b.bag.features[:, :7], b.bag.coords), b.label) for b in bags[20:]]
    write_features(tmp_path / "f", short)
    with pytest.raises(StoreMismatchError, match=r"features of length (7|12), but (7|12) in"):
        for fold in range(3):
            train_fold(Fold(splits_of(bags), fold, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_a_validation_bag_that_is_not_finite_stops_and_the_epoch_is_not_kept(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    splits = splits_of(bags)
    damaged = splits.slides(1, Role.VAL)[0]
    next(b for b in bags if b.bag.slide_id == damaged).bag.features[1, 1] = np.inf
    write_features(tmp_path / "f", bags)
    with pytest.raises(DivergedError, match=rf"in epoch 1 on bag '{damaged}'; its features are not finite.*Nothing was kept"):
        train_fold(Fold(splits, 1, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_weights_that_became_nan_are_not_kept(random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, splits = random_bags(24), splits_of(random_bags(24))
    write_features(tmp_path / "f", bags)
    calls: list[int] = []
    original = wsi_mil.train.loop._train_epoch

    def poisoned(model: MILModel, *args: object, **kwargs: object) -> float:
        calls.append(1)
        loss = original(model, *args, **kwargs)
        if len(calls) == 2:
            next(model.parameters()).data.fill_(torch.nan)
        return loss

    monkeypatch.setattr(wsi_mil.train.loop, "_train_epoch", poisoned)
    with pytest.raises(DivergedError, match=r"in epoch 2 .* The state after epoch 1 is kept"):
        train_fold(Fold(splits, 0, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    kept = {name: value for name, value in load_file(tmp_path / "m" / STATE_FILE).items() if name.startswith("model/")}
    assert kept and all(torch.isfinite(value).all() for value in kept.values())


def test_a_base_of_other_features_or_kind_or_for_a_model_that_has_none_is_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    write_features(tmp_path / "g", random_bags(24, seed=5), fingerprint="other")
    splits = splits_of(bags)
    fold, pool = Fold(splits, 0, tmp_path / "f", TASK), parse_model(quick({"model": "instance_pool", "embed_dim": 8}))
    train_fold(Fold(splits, 0, tmp_path / "g", TASK), SETTINGS, tmp_path / "base", CPU)
    train_fold(fold, pool, tmp_path / "pool", CPU)
    mhim = parse_model({"model": "mhim", "base": "abmil"})
    with pytest.raises(StoreMismatchError, match="the base model was trained on other data: features"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "base")
    with pytest.raises(ConfigError, match="expected the base of mhim to be one of abmil, transmil, dsmil, found instance_pool"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "pool")
    with pytest.raises(ConfigError, match="model abmil has no base model; leave --base out"):
        train_fold(fold, SETTINGS, tmp_path / "m", CPU, base=tmp_path / "base")
