import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wsi_mil.train.loop
from tests.train.cohort import CPU, TASK, quick, splits_of, weights, write_features
from wsi_mil.config import CurveLog, parse_model
from wsi_mil.errors import ConfigError
from wsi_mil.train import Fold, train_fold
from wsi_mil.train.curves import EVENTS_FOLDER, open_curve
from wsi_mil.train.epochs import Epoch

ABMIL = {"model": "abmil", "embed_dim": 16, "attention_dim": 8}
Points = dict[str, list[tuple[int, float]]]


def shown(folder: Path) -> Points:
    """Points (epoch, value) of each curve, as TensorBoard reads all event files of a fold."""
    events = EventAccumulator(str(folder / EVENTS_FOLDER), purge_orphaned_data=False).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def in_history(folder: Path) -> Points:
    """Points of each column of `history.csv`."""
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in rows[0] if name != "epoch"}


def assert_same(found: Points, expected: Points) -> None:
    assert list(found) == list(expected)
    for name, points in expected.items():
        assert [epoch for epoch, _ in found[name]] == [epoch for epoch, _ in points]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-6)  # float32


@pytest.fixture
def fold(random_bags: Callable, tmp_path: Path) -> Fold:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    return Fold(splits_of(bags), 0, tmp_path / "f", TASK)


def trained(fold: Fold, folder: Path, log: CurveLog = "tensorboard", **settings: object) -> Path:
    train_fold(fold, parse_model(quick({**ABMIL, **settings})), folder, CPU, log_to=log)
    return folder


def test_event_files_have_the_curves_of_history_csv_and_the_model_is_the_same(fold: Fold, tmp_path: Path) -> None:
    plain, logged = trained(fold, tmp_path / "plain", "none"), trained(fold, tmp_path / "logged")
    assert {p.name for p in plain.iterdir()} == {"model.safetensors", "config.json", "history.csv"}
    assert set(in_history(logged)) == {"train_loss", "val_loss", "val_auroc", "lr"} and len(in_history(logged)["lr"]) == 4
    assert_same(shown(logged), in_history(logged))
    for name in ("model.safetensors", "config.json", "history.csv"):
        assert (plain / name).read_bytes() == (logged / name).read_bytes()


def test_a_resumed_training_shows_each_epoch_once(fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = wsi_mil.train.loop._train_epoch, []

    def killed(*args: object, number: int, **kwargs: object) -> float:
        calls.append(number)
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return original(*args, number=number, **kwargs)

    whole = trained(fold, tmp_path / "whole")
    monkeypatch.setattr(wsi_mil.train.loop, "_train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(fold, tmp_path / "cut", "none")
    with pytest.raises(KeyboardInterrupt):
        trained(fold, tmp_path / "cut")
    assert [epoch for epoch, _ in shown(tmp_path / "cut")["val_loss"]] == [1, 2, 3], "with those before it was turned on"
    cut = trained(fold, tmp_path / "cut")
    assert calls == [0, 1, 2, 2, 3, 3], "it was killed twice"
    assert shown(cut) == shown(whole) and weights(cut) == weights(whole)
    assert len(list((cut / EVENTS_FOLDER).iterdir())) == 1


def test_another_training_of_a_fold_leaves_no_earlier_curve(fold: Fold, tmp_path: Path) -> None:
    folder = trained(fold, tmp_path / "m", train={"epochs": 6})
    trained(fold, folder)
    assert len(shown(folder)["lr"]) == 4
    assert_same(shown(folder), in_history(folder))
    trained(fold, folder, "none")
    assert not (folder / EVENTS_FOLDER).exists(), "a curve of another training would stand beside history.csv"


def test_an_epoch_can_be_read_as_soon_as_it_ends(tmp_path: Path) -> None:
    names = ["epoch", "train_loss", "val_loss", "val_c", "lr"]
    with open_curve(tmp_path, "tensorboard", names) as curve:
        for number in (1, 2):
            curve([Epoch(number, 0.5, 0.75, 0.125 * number, 0.25)])
            assert shown(tmp_path)["val_c"] == [(n, 0.125 * n) for n in range(1, number + 1)]


def test_the_curve_of_mhim_is_that_of_its_own_training(fold: Fold, tmp_path: Path) -> None:
    base = trained(fold, tmp_path / "base", train={"epochs": 2})
    student, settings = tmp_path / "student", parse_model(quick({"model": "mhim", "base": "b"}))
    train_fold(fold, settings, student, CPU, base=base, log_to="tensorboard")
    assert len(shown(base)["lr"]) == 2 and len(shown(student)["lr"]) == 4
    assert_same(shown(student), in_history(student))


def test_without_tensorboard_the_extra_is_named(fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"train.log: tensorboard needs the package tensorboard, which is not installed"):
        trained(fold, tmp_path / "m")
    trained(fold, tmp_path / "m", "none")
