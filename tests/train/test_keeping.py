import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wsi_mil.train.stage
from tests.train.cohort import CPU, SETTINGS, TASK, splits_of, write_features
from wsi_mil.config import parse_model
from wsi_mil.errors import StoreError
from wsi_mil.records import Bag, Role
from wsi_mil.runtime import progress
from wsi_mil.runtime.memory import processes_at_once
from wsi_mil.train import Fold, Keep, train_fold, trainings_at_once
from wsi_mil.train.keeping import BagSizes, bytes_to_keep, log_reading

GB = 10**9
COHORT = BagSizes(n_bags=200, n_bytes=4 * GB, largest=50_000_000)
"""20 MB a bag on average; a step on the largest takes 14 × 100 MB in float32."""


@pytest.mark.parametrize(
    ("gb", "at_once", "free", "kept"),
    [
        pytest.param("auto", 1, 64.0, 4.0, id="all fit"),
        pytest.param("auto", 1, 9.4, 4.0, id="all just fit: half of 9.4 - 1.4"),
        pytest.param("auto", 1, 9.2, 3.9, id="alone, as many as fit: half of 9.2 - 1.4"),
        pytest.param("auto", 1, 1.4, 0.0, id="a step takes all there is"),
        pytest.param("auto", 1, 0.2, 0.0, id="less than a step"),
        pytest.param("auto", 2, 18.8, 4.0, id="all fit twice: half of 18.8 / 2 - 1.4"),
        pytest.param("auto", 2, 18.6, 0.0, id="two that do not fit share the system's copies"),
        pytest.param("auto", 5, 47.0, 4.0, id="five folds"),
        pytest.param("auto", 16, 64.0, 0.0, id="a part of 4 GB holds half of 2.6"),
        pytest.param(0.0, 1, 64.0, 0.0, id="none"),
        pytest.param(2.5, 1, 64.0, 2.5, id="a number fixes it"),
        pytest.param(2.5, 16, 64.0, 2.5, id="whatever runs at once"),
        pytest.param(2.5, 1, 3.0, 1.6, id="never more than is free beside a step"),
        pytest.param(100.0, 1, 500.0, 4.0, id="no more than there is"),
    ],
)
def test_what_is_kept_follows_from_free_memory_and_the_trainings_at_once(
    gb: object, at_once: int, free: float, kept: float
) -> None:
    assert bytes_to_keep(Keep(gb, at_once), COHORT, round(free * GB)) == round(kept * GB)  # type: ignore[arg-type]


def test_sizes_are_those_of_float16_features() -> None:
    sizes = BagSizes.of([3, 10, 4], dim=8)
    assert (sizes.n_bags, sizes.n_bytes, sizes.largest, sizes.step_bytes) == (3, 17 * 16, 160, 14 * 320)


def test_trainings_at_once_are_bounded_by_cores_and_by_the_run() -> None:
    room = processes_at_once(1)
    assert trainings_at_once(CPU, 1, None) == room
    assert trainings_at_once(CPU, 1, 1) == 1
    assert trainings_at_once(CPU, 1, room + 3) == room
    assert trainings_at_once(CPU, 10_000, 5) == 1


def test_with_gpus_one_training_runs_on_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert trainings_at_once(torch.device("cuda", 1), 1, 15) == 3
    assert trainings_at_once(torch.device("cuda", 1), 1, 2) == 2


@pytest.fixture
def fold(random_bags: Callable, tmp_path: Path) -> Fold:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    return Fold(splits_of(bags), 0, tmp_path / "f", TASK)


def test_what_is_kept_changes_no_byte_of_the_result(fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = wsi_mil.train.stage.read_bag_of

    def counted(bag_id: str, receipts: list[Path]) -> Bag:
        reads.append(bag_id)
        return original(bag_id, receipts)

    monkeypatch.setattr(wsi_mil.train.stage, "read_bag_of", counted)
    settings = parse_model({"model": "abmil", "embed_dim": 16, "train": {"epochs": 4, "max_instances": 9, "min_epochs": 0}})
    n = sum(len(fold.splits.slides(0, role)) for role in (Role.TRAIN, Role.VAL))
    n_reads = {}
    for name, keep in {"none": Keep(0), "part": Keep(3000 / GB), "all": Keep(1), "auto": Keep("auto")}.items():
        reads.clear()
        train_fold(fold, settings, tmp_path / name, CPU, keep=keep)
        n_reads[name] = len(reads)
        for file in ("model.safetensors", "config.json", "history.csv"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "none" / file).read_bytes()
    assert n_reads["all"] == n_reads["auto"] == n < n_reads["part"] < n_reads["none"]


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_store_that_is_damaged_during_training_is_named(
    fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_missing: bool
) -> None:
    slide = fold.splits.slides(0, Role.TRAIN)[3]
    shard = tmp_path / "f" / f"{slide}.zarr" / "features/c/0/0"
    original = wsi_mil.train.stage.fit

    def damaged(*args: object, **kwargs: object) -> object:
        if is_missing:
            shard.unlink()
        else:
            shard.write_bytes(shard.read_bytes()[:-24])
        return original(*args, **kwargs)

    monkeypatch.setattr(wsi_mil.train.stage, "fit", damaged)
    said = "is missing" if is_missing else r"is damaged: expected \d+ bytes, found \d+"
    with pytest.raises(StoreError, match=rf"{slide}\.zarr.*features/c/0/0 {said}"):
        train_fold(fold, SETTINGS, tmp_path / "m", CPU)


READ = "reading the features of 200 bags, 4.0 GB: "


@pytest.mark.parametrize(
    ("keep", "free", "said"),
    [
        (Keep("auto"), 64 * GB, [READ + "they stay in memory after the first epoch"]),
        (Keep(0), 64 * GB, [READ + "they are read in every epoch"]),
        (Keep(0.15), 64 * GB, [READ + "150.0 MB stay in memory, the others are read in every epoch"]),
        (
            Keep(2.5),
            3 * GB,
            [
                "keep_gb is 2.5, but beside a step on the largest bag only 1.6 GB of memory are free",
                READ + "1.6 GB stay in memory, the others are read in every epoch",
            ],
        ),
    ],
)
def test_the_log_says_how_much_is_read_and_kept(caplog: pytest.LogCaptureFixture, keep: Keep, free: int, said: list[str]) -> None:
    caplog.set_level(logging.INFO)
    log_reading(COHORT, bytes_to_keep(keep, COHORT, free), keep)
    assert [record.getMessage() for record in caplog.records] == said


def test_a_training_says_what_it_reads_and_how_long_it_lasts(
    fold: Fold, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level(logging.INFO)
    train = {"epochs": 9, "min_val_bags": 1, "min_epochs": 2, "patience": 3, "min_improvement": 9}
    train_fold(fold, parse_model({"model": "abmil", "embed_dim": 16, "train": train}), tmp_path / "m", CPU, keep=Keep(1))
    n_train, n_val = (len(fold.splits.slides(0, role)) for role in (Role.TRAIN, Role.VAL))
    lines = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert lines[0].startswith(f"reading the features of {n_train + n_val} bags, 0.0 MB: they stay in memory")
    assert lines[1] == f"training lasts at most 9 epochs of {n_train} bags, {9 * n_train} updates; it may end after 4"
    left = [line for line in lines if line.endswith("if nothing improves from now on")]
    assert [line.split(",")[0] for line in left] == ["train: 1 of 9 epochs", "train: 2 of 9 epochs", "train: 3 of 9 epochs"]
