"""`train.keep_gb` and `train.log` in real runs: they reach the training, and changing them runs nothing again."""

import shutil
from pathlib import Path

import pytest

from tests.dag import Run

pytestmark = pytest.mark.slow


def test_another_bound_on_kept_features_runs_nothing_and_holds_for_the_next_training(
    finished: Path, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    run = Run(tmp_path / "run", command)
    log = run.folder / "logs/train/tumour/tiny/abmil/fold-0.log"
    weights = run.results("models/tumour/tiny/abmil/fold-0/model.safetensors")
    before = weights.read_bytes()
    assert "they stay in memory after the first epoch" in log.read_text()
    run.config(train={"keep_gb": 0})
    assert run.snakemake() == {}
    assert run.snakemake("--forcerun", "train", "--until", "train") == {"train": 2}
    assert "they are read in every epoch" in log.read_text() and weights.read_bytes() == before
    monkeypatch.setenv("WSI_MIL_KEEP_GB", "0.5")
    assert run.snakemake("--forcerun", "train", "--until", "train") == {"train": 2}
    assert "they stay in memory after the first epoch" in log.read_text(), "the variable overrides the configuration"


def test_curves_for_tensorboard_are_written_by_the_next_training_and_change_nothing(
    finished: Path, command: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    run = Run(tmp_path / "run", command)
    fold = run.results("models/tumour/tiny/abmil/fold-1")
    before = (fold / "model.safetensors").read_bytes()
    run.config(train={"log": "tensorboard"})
    assert run.snakemake() == {} and not (fold / "tensorboard").exists()
    assert run.snakemake("--forcerun", "train", "--until", "train") == {"train": 2}
    assert [file.name[:18] for file in (fold / "tensorboard").iterdir()] == ["events.out.tfevent"]
    assert (fold / "model.safetensors").read_bytes() == before
    run.config(train={})
    assert run.snakemake() == {} and (fold / "tensorboard").exists()
