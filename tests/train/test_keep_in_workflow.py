"""`train.keep_gb` in a real run: it reaches the training, and changing it runs nothing again."""

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
