from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import wsi_mil.train
from wsi_mil.bags import LabelledBag
from wsi_mil.checkpoints import read_checkpoint
from wsi_mil.config import Split, Training, parse_model
from wsi_mil.errors import StoreMismatchError
from wsi_mil.metrics import auroc
from wsi_mil.models import MILModel, create_model
from wsi_mil.records import Role, SlideRow
from wsi_mil.splits import Splits, draw_splits
from wsi_mil.store import FeatureStore
from wsi_mil.train import evaluate, fit, train_fold

CPU = torch.device("cpu")
CLASSES = ("normal", "tumour")
SETTINGS = parse_model(
    {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "dropout": 0.1, "train": {"lr": 0.005, "epochs": 30}}
)


def model() -> MILModel:
    torch.manual_seed(0)
    return create_model(SETTINGS, feature_dim=12, n_classes=2)


def write_features(folder: Path, bags: list[LabelledBag], **attributes: object) -> None:
    """Stores as `extract` writes them."""
    for item in bags:
        about = {"fingerprint": item.bag.slide_id, "encoder": "e", "weights_hash": "h", "mpp": 0.5, "tile_px": 224}
        about |= {"tile_px_level0": [224, 224], "slide_mpp": [0.5, 0.5], **attributes}
        with FeatureStore(folder / f"{item.bag.slide_id}.zarr", coords=item.bag.coords, batch_size=64, attributes=about) as store:
            store.begin(12)
            store.append_shard(item.bag.features, np.ones(len(item.bag.coords), bool))


def splits_of(bags: list[LabelledBag], folds: int = 3, classes: tuple[str, ...] = CLASSES) -> Splits:
    """Two slides a patient, but for every third."""
    rows = [
        SlideRow(
            b.bag.slide_id, Path("x"), label=classes[b.label], patient_id=f"p{i // 4}{b.label}{i % 4 // 2 * (i // 4 % 3 == 0)}"
        )
        for i, b in enumerate(bags)
    ]
    return draw_splits(rows, classes, Split(folds=folds))


def test_fit_learns_four_bags_by_heart(random_bags: Callable) -> None:
    bags, fitted = random_bags(4), model()
    fit(fitted, bags, bags, Training(epochs=100, patience=100, lr=0.01), n_classes=2)
    assert evaluate(fitted, bags)[[0, 1, 2, 3], [0, 1, 0, 1]].min() > 0.9


def test_fit_finds_what_new_bags_share(random_bags: Callable) -> None:
    fitted = model()
    fit(fitted, random_bags(24), random_bags(8, seed=1), SETTINGS.train, n_classes=2)
    fresh = random_bags(20, seed=2)
    assert auroc(np.array([b.label for b in fresh]), evaluate(fitted, fresh)) > 0.95


def test_fit_keeps_the_epoch_with_the_least_validation_loss(random_bags: Callable) -> None:
    fitted, val = model(), random_bags(6, seed=1)
    history, best = fit(fitted, random_bags(10), val, Training(epochs=12, patience=12, lr=0.05, min_improvement=0), n_classes=2)
    assert best == int(np.argmin([e.val_loss for e in history]))
    probs = evaluate(fitted, val)
    assert np.mean([-np.log(probs[i, b.label]) for i, b in enumerate(val)]) == pytest.approx(history[best].val_loss, rel=1e-5)


def test_an_epoch_that_is_hardly_better_is_not_kept(random_bags: Callable) -> None:
    train, val = random_bags(24), random_bags(8, seed=1)
    settings = Training(epochs=60, patience=60, lr=0.01, min_improvement=0.05)
    history, best = fit(model(), train, val, settings, n_classes=2)
    losses = [e.val_loss for e in history]
    assert min(losses) < losses[best] and min(losses[best:]) >= losses[best] - 0.05
    assert all(loss > losses[best] + 0.05 for loss in losses[:best][-1:]) or best == 0


def test_fit_stops_when_patience_is_over(random_bags: Callable) -> None:
    flipped = [LabelledBag(b.bag, 1 - b.label) for b in random_bags(6, seed=1)]
    history, best = fit(model(), random_bags(12), flipped, Training(epochs=40, patience=3, lr=0.01), n_classes=2)
    assert len(history) == best + 1 + 3 < 40


def test_evaluating_changes_neither_weights_nor_mode(random_bags: Callable) -> None:
    watched = model().train()
    before = {k: v.clone() for k, v in watched.state_dict().items()}
    first, second = (evaluate(watched, random_bags(3)) for _ in range(2))
    assert watched.training and np.array_equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in watched.state_dict().items())


def test_the_same_seed_gives_the_same_weights(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    for name in ("a", "b"):
        train_fold(splits_of(bags), 0, tmp_path / "f", SETTINGS, CLASSES, tmp_path / name, CPU)
    for file in ("model.safetensors", "config.json", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_checkpoint_rebuilds_the_model(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    card = train_fold(splits, 1, tmp_path / "f", SETTINGS, CLASSES, tmp_path / "m", CPU)
    rebuilt, read = read_checkpoint(tmp_path / "m", CPU)
    assert read == card and not rebuilt.training and not any(p.requires_grad for p in rebuilt.parameters())
    val = [b for b in bags if b.bag.slide_id in splits.slides(1, Role.VAL)]
    assert auroc(np.array([b.label for b in val]), evaluate(rebuilt, val)) == pytest.approx(card.validation["auroc"])


def test_nothing_of_the_test_patients_reaches_fitting_stopping_or_the_threshold(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    splits = splits_of(bags)
    seen: set[str] = set()

    def recorded(name: str, ids: Callable[[tuple], list[str]]) -> None:
        original = getattr(wsi_mil.train, name)

        def record(*args: object, **kwargs: object) -> object:
            seen.update(ids(args))
            return original(*args, **kwargs)

        monkeypatch.setattr(wsi_mil.train, name, record)

    recorded("read_bag", lambda args: [args[0].stem])
    recorded("read_attributes", lambda args: [args[0].stem])
    recorded("fit", lambda args: [b.bag.slide_id for part in args[1:3] for b in part])
    recorded("evaluate", lambda args: [b.bag.slide_id for b in args[1]])
    recorded("bag_tensor", lambda args: [args[0].slide_id])
    for fold in range(3):
        seen.clear()
        train_fold(splits, fold, tmp_path / "f", SETTINGS, CLASSES, tmp_path / f"m{fold}", CPU)
        tested = {splits.patients[s] for s in splits.slides(fold, Role.TEST)}
        assert seen == set(splits.slides(fold, Role.TRAIN)) | set(splits.slides(fold, Role.VAL))
        assert tested and not tested & {splits.patients[s] for s in seen}


def test_class_names_whose_order_flips_change_no_figure(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    renamed = ("z", "a")
    first = train_fold(splits_of(bags), 0, tmp_path / "f", SETTINGS, CLASSES, tmp_path / "a", CPU)
    second = train_fold(splits_of(bags, classes=renamed), 0, tmp_path / "f", SETTINGS, renamed, tmp_path / "b", CPU)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert first.threshold == second.threshold and first.validation == second.validation


def test_features_of_two_encoders_are_not_mixed(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags[:20])
    write_features(tmp_path / "f", bags[20:], mpp=0.25)
    with pytest.raises(StoreMismatchError, match=r"'mpp': 0\.25.*'mpp': 0\.5"):
        for fold in range(3):
            train_fold(splits_of(bags), fold, tmp_path / "f", SETTINGS, CLASSES, tmp_path / "m", CPU)
