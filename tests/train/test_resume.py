import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wsi_mil.train.loop
import wsi_mil.train.stage
from tests.train.cohort import CPU, TASK, quick, splits_of, weights, write_features
from wsi_mil.config import parse_model
from wsi_mil.train import Fold, train_fold
from wsi_mil.train.resume import STATE_FILE

TRANSMIL = {"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4, "attention_dropout": 0.2}
TRAINED = {
    "instance": {"model": "instance_pool", "embed_dim": 16},
    "embedding": {"model": "embedding_pool", "embed_dim": 16},
    "abmil": {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"optimizer": "adamw", "instance_dropout": 0.2}},
    "dsmil": {"model": "dsmil", "embed_dim": 16, "dropout": 0.2, "train": {"max_instances": 10}},
    "clam": {"model": "clam", "embed_dim": 16, "attention_dim": 8, "k": 3, "train": {"optimizer": "adam"}},
    "dtfd": {"model": "dtfd", "distil": "maxmins", "embed_dim": 16, "attention_dim": 8},
    "kraus": {"model": "kraus_pool", "embed_dim": 16},
    "transmil": {**TRANSMIL, "train": {"accumulate": 2, "optimizer": "radam_lookahead"}},
    "nystrom": {**TRANSMIL, "exact_up_to": 2, "position_start": "random", "train": {"select": "auroc", "min_val_bags": 1}},
    "updates": {"model": "abmil", "embed_dim": 16, "train": {"updates": 45, "select": "last"}},
}


@pytest.mark.parametrize("base", [*TRAINED, "mhim"])
def test_an_interrupted_training_resumes_after_its_last_epoch_and_gives_the_same_model(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold, teacher = Fold(splits_of(bags), 0, tmp_path / "f", TASK), None
    settings = parse_model(quick(TRAINED.get(base, {"model": "mhim", "base": "b", "momentum": 0.9})))
    if base == "mhim":
        teacher = tmp_path / "teacher"
        train_fold(fold, parse_model(quick(TRANSMIL)), teacher, CPU)
    train_fold(fold, settings, tmp_path / "whole", CPU, base=teacher)
    calls: list[int] = []
    original = wsi_mil.train.loop._train_epoch

    def killed(*args: object, number: int, **kwargs: object) -> float:
        calls.append(number)
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return original(*args, number=number, **kwargs)

    monkeypatch.setattr(wsi_mil.train.loop, "_train_epoch", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_fold(fold, settings, tmp_path / "cut", CPU, base=teacher)
        assert [p.name for p in (tmp_path / "cut").iterdir()] == [STATE_FILE]
        torch.manual_seed(99)
    train_fold(fold, settings, tmp_path / "cut", CPU, base=teacher)
    assert calls == [0, 1, 2, 2, 3, 3]
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {"model.safetensors", "config.json", "history.csv"}
    for name in ("model.safetensors", "config.json", "history.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_training_interrupted_under_other_settings_restarts(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold = Fold(splits_of(bags), 0, tmp_path / "f", TASK)
    first, second = (parse_model(quick(TRAINED["abmil"], lr=lr)) for lr in (0.005, 0.006))
    train_fold(fold, second, tmp_path / "whole", CPU)
    with monkeypatch.context() as patch:
        patch.setattr(wsi_mil.train.stage, "write_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_fold(fold, first, tmp_path / "cut", CPU)
    assert (tmp_path / "cut" / STATE_FILE).exists()
    train_fold(fold, second, tmp_path / "cut", CPU)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_training_restarts_if_the_file_is_truncated(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold, settings = Fold(splits_of(bags), 0, tmp_path / "f", TASK), parse_model(quick(TRAINED["abmil"]))
    train_fold(fold, settings, tmp_path / "whole", CPU)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / STATE_FILE).write_bytes(b"not a safetensors file")
    train_fold(fold, settings, tmp_path / "cut", CPU)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_training_restarts_if_a_byte_of_the_file_is_changed(
    random_bags: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold, settings = Fold(splits_of(bags), 0, tmp_path / "f", TASK), parse_model(quick(TRAINED["abmil"]))
    with monkeypatch.context() as patch:
        patch.setattr(wsi_mil.train.stage, "write_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_fold(fold, settings, tmp_path / "cut", CPU)
    whole = (tmp_path / "cut" / STATE_FILE).read_bytes()
    train_fold(fold, settings, tmp_path / "cut", CPU)
    expected = weights(tmp_path / "cut")
    places = [whole.index(b"history") + 12, whole.index(b"betas") + 2, len(whole) // 2, len(whole) - 9]
    for number, place in enumerate(places):
        damaged = bytearray(whole)
        damaged[place] ^= 0x11
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / STATE_FILE).write_bytes(damaged)
        train_fold(fold, settings, tmp_path / str(number), CPU)
        assert weights(tmp_path / str(number)) == expected, place


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("name", [STATE_FILE, "model.safetensors", "config.json"])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_nothing_half_written(
    random_bags: Callable, tmp_path: Path, name: str
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold, settings, folder = (
        Fold(splits_of(bags), 0, tmp_path / "f", TASK),
        parse_model(quick(TRAINED["abmil"])),
        tmp_path / "m",
    )
    folder.mkdir()
    (folder / f".{name}.part").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        train_fold(fold, settings, folder, CPU)
    assert caught.value.errno == errno.ENOSPC
    assert not (folder / name).exists() and not list(folder.glob(".*.part"))
    train_fold(fold, settings, folder, CPU)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "history.csv"}
