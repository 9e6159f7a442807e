import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.cohort import CPU, SETTINGS, TASK, quick, splits_of, weights, write_features
from wsi_mil.checkpoints import read_checkpoint
from wsi_mil.config import parse_model
from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.metrics import auroc
from wsi_mil.records import Role
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, predict_outputs, train_fold


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


def test_a_checkpoint_of_an_earlier_version_names_the_commands_that_train_again(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), SETTINGS, tmp_path / "m", CPU)
    card = tmp_path / "m" / "config.json"
    content = json.loads(card.read_text())
    for version in (None, 1, 99):
        card.write_text(
            json.dumps({**content, "version": version} if version else {k: content[k] for k in content if k != "version"})
        )
        with pytest.raises(
            StoreError, match=r"config\.json: a model of another version.*`snakemake models`, or with `wsi-mil train`"
        ):
            read_checkpoint(tmp_path / "m", CPU)


def test_weights_of_another_size_are_refused(random_bags: Callable, tmp_path: Path) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    fold = Fold(splits_of(bags), 0, tmp_path / "f", TASK)
    for name, settings in (("a", SETTINGS), ("b", parse_model(quick({"model": "abmil", "embed_dim": 17})))):
        train_fold(fold, settings, tmp_path / name, CPU)
    (tmp_path / "a" / "model.safetensors").write_bytes(weights(tmp_path / "b"))
    with pytest.raises(StoreMismatchError, match=r"the weights do not match the model described in .*\.json .*size mismatch"):
        read_checkpoint(tmp_path / "a", CPU)


def test_weights_with_a_changed_byte_are_refused_and_those_without_a_hash_are_read(random_bags: Callable, tmp_path: Path) -> None:
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
