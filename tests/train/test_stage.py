import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import wsi_mil.train.loop
import wsi_mil.train.stage
from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.checkpoints import read_checkpoint
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import BaseModelSettings, Model, Split, Training, parse_base, parse_model
from wsi_mil.devices import memory_bytes
from wsi_mil.errors import ConfigError, DivergedError, EmptyBagError, StoreError, StoreMismatchError
from wsi_mil.metrics import auroc
from wsi_mil.models import ClassLoss, MILModel, create_model
from wsi_mil.records import Bag, Role, SlideRow
from wsi_mil.store import FeatureStore
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, fit, predict_outputs, train_fold
from wsi_mil.train.epochs import planned
from wsi_mil.train.loop import n_sampled, sample_instances
from wsi_mil.train.resume import FILE

CPU = torch.device("cpu")
CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
PLAIN = {"schedule": "constant", "instance_dropout": 0.0, "min_epochs": 0, "min_val_bags": 1}
"""Training in which nothing but the gradient moves the weights, and a few validation bags choose."""
SETTINGS = parse_base(
    {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "dropout": 0.1, "train": {"lr": 0.005, "epochs": 30, **PLAIN}}
)

ABOUT = {
    "encoder": "e",
    "weights_hash": "h",
    "mpp": 0.5,
    "tile_px": 224,
    "tile_px_level0": [224, 224],
    "slide_mpp": [0.5, 0.5],
    "coords_digest": "c",
    "slide_hash": "s",
}
"""Attributes of the stores."""


SETTLED = {"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4, "exact_up_to": 30, "train": {"epochs": 3}}
"""TransMIL whose attention the largest training bag decides."""
EACH = pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SETTINGS, id="chosen by loss"),
        pytest.param(parse_model({"model": "abmil", "embed_dim": 16, "train": {"updates": 40, "min_epochs": 0}}), id="updates"),
        pytest.param(parse_model({"model": "abmil", "embed_dim": 16, "train": {"epochs": 3, "select": "last"}}), id="last"),
        pytest.param(parse_model({"model": "dsmil", "embed_dim": 16, "train": {"epochs": 3}}), id="dsmil"),
        pytest.param(parse_model(SETTLED), id="settled by the bags"),
        pytest.param(parse_model({**SETTLED, "position_start": "random", "attention": "exact"}), id="random start"),
    ],
)
"""A training for each setting that decides by the bags, or by the validation part."""


def model(settings: BaseModelSettings = SETTINGS) -> MILModel:
    torch.manual_seed(0)
    return create_model(settings, feature_dim=12, n_classes=2)


def fitted(train: list[LabelledBag], val: list[LabelledBag], settings: Training, watched: MILModel | None = None) -> tuple:
    """History and index of the best epoch."""
    return fit(watched or model(), BagSet.of(train), BagSet.of(val), settings, task=Classes.numbered(2))


def write_features(folder: Path, bags: list[LabelledBag], **attributes: object) -> None:
    """Stores as `extract` writes them."""
    for item in bags:
        about = {**ABOUT, "fingerprint": f"{item.bag.slide_id} {item.bag.features.shape}", **attributes}
        with FeatureStore(folder / f"{item.bag.slide_id}.zarr", coords=item.bag.coords, batch_size=64, attributes=about) as store:
            store.begin(item.bag.features.shape[1])
            store.append_shard(item.bag.features, np.ones(len(item.bag.coords), bool))


def splits_of(bags: list[LabelledBag], folds: int = 3, classes: tuple[str, ...] = CLASSES) -> Splits:
    """Two slides a patient, but for every third."""
    rows = [
        SlideRow(
            b.bag.slide_id, Path("x"), label=classes[b.label], patient_id=f"p{i // 4}{b.label}{i % 4 // 2 * (i // 4 % 3 == 0)}"
        )
        for i, b in enumerate(bags)
    ]
    return draw_splits(rows, Classes(classes), Split(folds=folds))


def test_fit_learns_four_bags_by_heart(random_bags: Callable) -> None:
    bags, learned = random_bags(4), model()
    fitted(bags, bags, Training(epochs=100, patience=100, lr=0.01, **PLAIN), learned)
    assert predict_outputs(learned, bags, Classes.numbered(2))[[0, 1, 2, 3], [0, 1, 0, 1]].min() > 0.9


def test_fit_finds_what_new_bags_share(random_bags: Callable) -> None:
    learned = model()
    fitted(random_bags(24), random_bags(8, seed=1), SETTINGS.train, learned)
    fresh = random_bags(20, seed=2)
    assert auroc(np.array([b.label for b in fresh]), predict_outputs(learned, fresh, Classes.numbered(2))) > 0.95


def test_fit_keeps_the_epoch_with_the_least_validation_loss(random_bags: Callable) -> None:
    learned, val = model(), random_bags(6, seed=1)
    history, best = fitted(random_bags(10), val, Training(epochs=12, patience=12, lr=0.05, min_improvement=0, **PLAIN), learned)
    assert best == int(np.argmin([e.val_loss for e in history]))
    probs = predict_outputs(learned, val, Classes.numbered(2))
    assert np.mean([-np.log(probs[i, b.label]) for i, b in enumerate(val)]) == pytest.approx(history[best].val_loss, rel=1e-5)


def test_an_epoch_that_is_hardly_better_is_not_kept(random_bags: Callable) -> None:
    train, val = random_bags(24), random_bags(8, seed=1)
    settings = Training(epochs=60, patience=60, lr=0.01, min_improvement=0.05, **PLAIN)
    history, best = fitted(train, val, settings)
    losses = [e.val_loss for e in history]
    assert min(losses) < losses[best] and min(losses[best:]) >= losses[best] - 0.05
    assert all(loss > losses[best] + 0.05 for loss in losses[:best][-1:]) or best == 0


def test_fit_stops_when_patience_is_over(random_bags: Callable) -> None:
    flipped = [LabelledBag(b.bag, 1 - b.label) for b in random_bags(6, seed=1)]
    history, best = fitted(random_bags(12), flipped, Training(epochs=40, patience=3, lr=0.01, **PLAIN))
    assert len(history) == best + 1 + 3 < 40


def test_evaluating_changes_neither_weights_nor_mode(random_bags: Callable) -> None:
    watched = model().train()
    before = {k: v.clone() for k, v in watched.state_dict().items()}
    first, second = (predict_outputs(watched, random_bags(3), Classes.numbered(2)) for _ in range(2))
    assert watched.training and np.array_equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in watched.state_dict().items())


def test_the_same_seed_gives_the_same_weights(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    for name in ("a", "b"):
        train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), SETTINGS, tmp_path / name, CPU)
    for file in ("model.safetensors", "config.json", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_checkpoint_rebuilds_the_model(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    card = train_fold(Fold(splits, 1, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    rebuilt, read = read_checkpoint(tmp_path / "m", CPU)
    assert read == card and not rebuilt.training and not any(p.requires_grad for p in rebuilt.parameters())
    val = [b for b in bags if b.bag.slide_id in splits.slides(1, Role.VAL)]
    assert auroc(np.array([b.label for b in val]), predict_outputs(rebuilt, val, Classes.numbered(2))) == pytest.approx(
        card.validation["auroc"]
    )


@EACH
def test_nothing_of_the_test_patients_reaches_fitting_stopping_or_the_threshold(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Model
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    seen: set[str] = set()

    def recorded(name: str, ids: Callable[[tuple], list[str]], module: ModuleType = wsi_mil.train.stage) -> None:
        original = getattr(module, name)

        def record(*args: object, **kwargs: object) -> object:
            seen.update(ids(args))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, record)

    recorded("read_bag_of", lambda args: [path.stem for path in args[1]])
    recorded("read_attributes", lambda args: [args[0].stem])
    recorded("common_encoder", lambda args: [path.stem for path in args[0]])
    recorded("feature_dim", lambda args: [args[0].stem])
    recorded("n_tiles", lambda args: [args[0].stem])
    recorded("fit", lambda args: [b.bag.slide_id for part in args[1:3] for b in part])
    loop = wsi_mil.train.loop
    for module in (wsi_mil.train.stage, loop):
        recorded("predict_outputs", lambda args: [b.bag.slide_id for b in args[1]], module)
    recorded("bag_tensor", lambda args: [args[0].slide_id], loop)
    recorded("finite_logits", lambda args: [args[1].slide_id], loop)
    for fold in range(3):
        seen.clear()
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), settings, tmp_path / f"m{fold}", CPU)
        tested = {splits.patients[s] for s in splits.slides(fold, Role.TEST)}
        assert seen == set(splits.slides(fold, Role.TRAIN)) | set(splits.slides(fold, Role.VAL))
        assert tested and not tested & {splits.patients[s] for s in seen}


@EACH
def test_class_names_whose_order_flips_change_no_figure(random_bags: Callable, tmp_path: Path, settings: Model) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    renamed = ("z", "a")
    first = train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), settings, tmp_path / "a", CPU)
    second = train_fold(
        Fold(splits_of(bags, classes=renamed), 0, tmp_path / "f", Classes(renamed)), settings, tmp_path / "b", CPU
    )
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert first.threshold == second.threshold and first.validation == second.validation


def test_features_of_two_encoders_are_not_mixed(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags[:20])
    write_features(tmp_path / "f", bags[20:], mpp=0.25)
    with pytest.raises(StoreMismatchError, match=r"'mpp': 0\.25.*'mpp': 0\.5"):
        for fold in range(3):
            train_fold(Fold(splits_of(bags), fold, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)


def quick(settings: dict[str, object], **train: object) -> dict[str, object]:
    given = settings.get("train", {})
    assert isinstance(given, dict)
    length = {} if "updates" in given else {"epochs": 4}
    return {**settings, "train": {"lr": 0.005, **length, "patience": 9, "min_epochs": 0, **given, **train}}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_accumulated_gradients_make_one_update_of_their_mean(random_bags: Callable) -> None:
    bags = random_bags(4)
    settings = parse_base({"model": "abmil", "embed_dim": 16, "dropout": 0.0, "attention_bias": False})
    by_two = model(settings)
    training = Training(epochs=1, accumulate=3, lr=0.01, weight_decay=0, class_weights=False, **PLAIN)
    fitted(bags, bags, training, by_two)
    expected = model(settings)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0)
    order = np.random.default_rng(0).permutation(4)
    for group in (order[:3], order[3:]):
        losses = [
            expected.training_loss(
                torch.from_numpy(bags[i].bag.features).float()[None], torch.tensor([bags[i].label]), ClassLoss(torch.ones(2))
            )
            for i in group
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    for a, b in zip(by_two.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_progress_reaches_one_with_the_last_update(random_bags: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, watched, seen = random_bags(5), model(), []
    monkeypatch.setattr(watched, "after_update", seen.append)
    fitted(bags, bags, Training(epochs=2, accumulate=2, **PLAIN), watched)
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_step_sees_no_more_instances_than_asked_for_and_at_least_one(n: int) -> None:
    rng = np.random.default_rng(0)
    assert sample_instances(n, Training(instance_dropout=0), rng) is None
    for settings, most in (
        (Training(max_instances=10, instance_dropout=0), 10),
        (Training(instance_dropout=0.5), n - round(n / 2)),
    ):
        drawn = sample_instances(n, settings, rng)
        kept = np.arange(n) if drawn is None else drawn.numpy()
        assert len(kept) == max(1, min(n, most)) and np.array_equal(kept, np.unique(kept)) and kept.max() < n
    assert (
        len(
            set(sample_instances(40, Training(max_instances=10, instance_dropout=0), rng).tolist())
            | set(sample_instances(40, Training(max_instances=10, instance_dropout=0), rng).tolist())
        )
        > 10
    )


def test_all_instances_are_seen_in_validation(random_bags: Callable) -> None:
    bags = random_bags(6)
    settings = Training(epochs=1, max_instances=2, **PLAIN)
    learned = model()
    history, _ = fitted(bags, bags, settings, learned)
    probs = predict_outputs(learned, bags, Classes.numbered(2))
    assert np.mean([-np.log(p[b.label]) for p, b in zip(probs, bags, strict=True)]) == pytest.approx(
        history[0].val_loss, rel=1e-5
    )


def test_autocast_trains_in_bfloat16_and_keeps_float32_weights(random_bags: Callable) -> None:
    bags, exact, rough = random_bags(6), model(), model()
    fitted(bags, bags, Training(epochs=2, **PLAIN), exact)
    fitted(bags, bags, Training(epochs=2, precision="bfloat16", **PLAIN), rough)
    pairs = list(zip(exact.parameters(), rough.parameters(), strict=True))
    assert all(b.dtype == torch.float32 for _, b in pairs) and any(not torch.equal(a, b) for a, b in pairs)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0.1, atol=2e-3)


def test_the_epoch_can_be_chosen_by_auroc_and_ties_by_loss(random_bags: Callable) -> None:
    settings = Training(epochs=12, patience=12, lr=0.02, min_improvement=0, select="auroc", **PLAIN)
    history, best = fitted(random_bags(10), random_bags(10, seed=1), settings)
    assert best == max(range(12), key=lambda i: (history[i].val_auroc, -history[i].val_loss))


def test_no_stopping_before_min_epochs(random_bags: Callable) -> None:
    flipped = [LabelledBag(b.bag, 1 - b.label) for b in random_bags(6, seed=1)]
    history, _ = fitted(random_bags(12), flipped, Training(epochs=40, patience=3, lr=0.01, **{**PLAIN, "min_epochs": 20}))
    assert len(history) == 20


@pytest.mark.parametrize(
    ("n_bags", "accumulate", "min_epochs", "epochs"),
    [(16, 1, 0, 40), (16, 2, 0, 80), (15, 2, 0, 80), (1600, 1, 0, 1), (1600, 1, 20, 20)],
)
def test_updates_are_rounded_up_to_whole_epochs_and_no_fewer_than_the_least(
    n_bags: int, accumulate: int, min_epochs: int, epochs: int
) -> None:
    settings = planned(Training(updates=640, accumulate=accumulate, min_epochs=min_epochs), n_bags)
    assert settings.epochs == epochs and planned(settings, 7) == settings
    assert planned(Training(epochs=3, min_epochs=20), n_bags).epochs == 3


def test_fit_makes_as_many_updates_as_it_is_told(random_bags: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, watched, seen = random_bags(5), model(), []
    monkeypatch.setattr(watched, "after_update", seen.append)
    history, _ = fitted(bags, bags, Training(updates=12, min_epochs=0), watched)
    assert len(seen) == 15 and seen[-1] == 1 and len(history) == 3
    assert [e.lr for e in history] == pytest.approx([2e-4, 1.5e-4, 0.5e-4])


def test_the_last_epoch_is_kept_where_nothing_chooses(random_bags: Callable) -> None:
    learned, bags = model(), random_bags(16)
    history, best = fitted(bags, bags, Training(epochs=6, patience=1, select="last", lr=0.05, **PLAIN), learned)
    assert best == 5 and len(history) == 6 and history[best].val_loss > min(e.val_loss for e in history)
    probs = predict_outputs(learned, bags, Classes.numbered(2))
    kept = np.mean([-np.log(max(p[b.label], 1e-12)) for p, b in zip(probs, bags, strict=True)])
    assert kept == pytest.approx(history[-1].val_loss, rel=1e-4)


@pytest.mark.parametrize("is_warned", [False, True])
def test_too_few_validation_bags_of_a_class_choose_no_epoch_and_log_and_card_say_so(
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
    said = [r.getMessage() for r in caplog.records]
    assert any(f"fewer than {least} of a class" in text and "the last one is kept" in text for text in said) == is_warned
    assert card.select == read_checkpoint(tmp_path / "m", CPU)[1].select == ("last" if is_warned else "loss")
    assert (card.epoch == 9) == is_warned


@pytest.mark.parametrize(("spare", "kind"), [(0, "exact"), (-1, "nystrom")])
def test_the_largest_training_bag_decides_the_attention_and_the_checkpoint_keeps_it(
    random_bags: Callable, tmp_path: Path, spare: int, kind: str
) -> None:
    bags = random_bags(24)
    splits = splits_of(bags)
    train, test = splits.slides(0, Role.TRAIN), splits.slides(0, Role.TEST)
    sizes = {b.bag.slide_id: len(b.bag.features) for b in bags}
    largest = max(sizes[s] for s in train)
    huge = next(b for b in bags if b.bag.slide_id == test[0]).bag
    bags = [b if b.bag is not huge else LabelledBag(longer(huge, largest + 9), b.label) for b in bags]
    write_features(tmp_path / "f", bags)
    settings = parse_model({**SETTLED, "exact_up_to": largest + spare})
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
    bags = [LabelledBag(longer(b.bag, 50), b.label) if b is large else b for b in bags]
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


def longer(bag: Bag, n: int) -> Bag:
    """Its instances over and over."""
    rows = np.arange(n) % len(bag.features)
    return Bag(bag.slide_id, bag.features[rows], bag.coords[rows])


def test_a_checkpoint_of_an_earlier_version_says_what_trains_anew(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    card = tmp_path / "m" / "config.json"
    content = json.loads(card.read_text())
    for version in (None, 1, 99):
        card.write_text(
            json.dumps({**content, "version": version} if version else {k: content[k] for k in content if k != "version"})
        )
        with pytest.raises(StoreError, match=r"config\.json: a model of another version.*`snakemake models`, or `wsi-mil train`"):
            read_checkpoint(tmp_path / "m", CPU)


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


def test_as_published_the_test_part_chooses_and_the_card_says_so(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits, chosen_by = splits_of(bags), []
    original = wsi_mil.train.loop.predict_outputs
    for module in (wsi_mil.train.loop, wsi_mil.train.stage):
        monkeypatch.setattr(
            module,
            "predict_outputs",
            lambda m, part, task: chosen_by.append({b.bag.slide_id for b in part}) or original(m, part, task),
        )
    card = train_fold(Fold(splits, 0, tmp_path / "f", TASK, protocol="as_published"), SETTINGS, tmp_path / "m", CPU)
    assert card.protocol == "as_published" and read_checkpoint(tmp_path / "m", CPU)[1].protocol == "as_published"
    assert all(ids == set(splits.slides(0, Role.TEST)) for ids in chosen_by)


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
    with pytest.raises(StoreMismatchError, match="this base was trained on something else: fold 1, here 0"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "base")
    assert not (tmp_path / "m").exists()


def test_a_loss_that_is_no_number_stops_with_epoch_and_bag_and_keeps_the_last_good_state(
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
    assert [p.name for p in (tmp_path / "m").iterdir()] == [FILE]


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
    with FeatureStore(
        tmp_path / "f" / "s03.zarr", coords=np.zeros((0, 2), np.int64), batch_size=64, attributes={**ABOUT, "fingerprint": "x"}
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


def test_weights_of_another_size_are_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold = Fold(splits_of(bags), 0, tmp_path / "f", TASK)
    for name, settings in (("a", SETTINGS), ("b", parse_model(quick({"model": "abmil", "embed_dim": 17})))):
        train_fold(fold, settings, tmp_path / name, CPU)
    (tmp_path / "a" / "model.safetensors").write_bytes(weights(tmp_path / "b"))
    with pytest.raises(StoreMismatchError, match=r"weights of another model or size .* size mismatch"):
        read_checkpoint(tmp_path / "a", CPU)


def test_weights_with_a_byte_that_is_another_are_refused_and_those_without_a_hash_are_read(
    random_bags: Callable, tmp_path: Path
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    file, card = tmp_path / "m" / "model.safetensors", tmp_path / "m" / "config.json"
    damaged = bytearray(file.read_bytes())
    damaged[-20] ^= 0x10
    file.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"model\.safetensors: not the weights that .*config\.json was written for; train"):
        read_checkpoint(tmp_path / "m", CPU)
    content = json.loads(card.read_text())
    del content["weights_hash"]
    card.write_text(json.dumps(content))  # as earlier versions wrote it
    read_checkpoint(tmp_path / "m", CPU)


def test_a_validation_bag_that_is_no_number_stops_and_nothing_is_kept_of_the_epoch(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    splits = splits_of(bags)
    damaged = splits.slides(1, Role.VAL)[0]
    next(b for b in bags if b.bag.slide_id == damaged).bag.features[1, 1] = np.inf
    write_features(tmp_path / "f", bags)
    with pytest.raises(DivergedError, match=rf"in epoch 1 on bag '{damaged}'; its features are not finite.*Nothing was kept"):
        train_fold(Fold(splits, 1, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    assert not (tmp_path / "m").exists()


def test_weights_that_became_no_numbers_are_not_kept(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    kept = {name: value for name, value in load_file(tmp_path / "m" / FILE).items() if name.startswith("model/")}
    assert kept and all(torch.isfinite(value).all() for value in kept.values())


def test_a_tie_of_aurocs_is_no_gain_to_wait_for(random_bags: Callable) -> None:
    settings = Training(epochs=60, patience=4, lr=0.01, min_improvement=0, select="auroc", **PLAIN)
    history, best = fitted(random_bags(24), random_bags(8, seed=1), settings)
    gained = max(e.val_auroc for e in history)
    first = next(i for i, e in enumerate(history) if e.val_auroc == gained)
    assert len(history) == first + 1 + 4 < 60
    assert best == min((i for i, e in enumerate(history) if e.val_auroc == gained), key=lambda i: history[i].val_loss)


def test_a_base_of_other_features_or_kind_or_for_a_model_that_has_none_is_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    write_features(tmp_path / "g", random_bags(24, seed=5), fingerprint="other")
    splits = splits_of(bags)
    fold, pool = Fold(splits, 0, tmp_path / "f", TASK), parse_model(quick({"model": "instance_pool", "embed_dim": 8}))
    train_fold(Fold(splits, 0, tmp_path / "g", TASK), SETTINGS, tmp_path / "base", CPU)
    train_fold(fold, pool, tmp_path / "pool", CPU)
    mhim = parse_model({"model": "mhim", "base": "abmil"})
    with pytest.raises(StoreMismatchError, match="this base was trained on something else: features"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "base")
    with pytest.raises(ConfigError, match="is instance_pool, but mhim stands on abmil, transmil, dsmil"):
        train_fold(fold, mhim, tmp_path / "m", CPU, base=tmp_path / "pool")
    with pytest.raises(ConfigError, match="model abmil stands on no other; only mhim does"):
        train_fold(fold, SETTINGS, tmp_path / "m", CPU, base=tmp_path / "base")
