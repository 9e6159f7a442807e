"""Training, prediction and explanation on a GPU give what they give on a CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import wsi_mil.train.loop
from tests.conftest import synthetic_bags
from tests.gpu.device import DEVICE, needs_device
from tests.train.cohort import CPU, TASK, quick, splits_of, write_features
from tests.train.test_resume import TRAINED, TRANSMIL
from wsi_mil.bags import bag_tensor
from wsi_mil.checkpoints import read_checkpoint
from wsi_mil.config import Explain, SparseInversion, parse_model, supports
from wsi_mil.ensemble import Ensemble
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.stage import explain_slide
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.store import read_scores
from wsi_mil.train import Fold, train_fold

pytestmark = [pytest.mark.gpu, needs_device]
MHIM = {"model": "mhim", "base": "b", "momentum": 0.9}
KINDS = {**TRAINED, "mhim": MHIM, "mhim of transmil": {**MHIM, "low_ratio": 0.3, "high_ratio": 0.1}}
BASES = {"mhim": TRAINED["abmil"], "mhim of transmil": TRANSMIL}


def trained(kind: str, folder: Path, **train: object) -> tuple[Fold, Path]:
    """Train a model on the device, for MHIM its base first; return the fold and the folder of the checkpoint."""
    bags, base = synthetic_bags(24), None
    if not (folder / "f").exists():
        write_features(folder / "f", bags)
    fold = Fold(splits_of(bags), 0, folder / "f", TASK)
    if kind in BASES:
        base = folder / "base"
        train_fold(fold, parse_model(quick(BASES[kind], **train)), base, DEVICE)
    train_fold(fold, parse_model(quick(KINDS[kind], **train)), folder / "m" / "fold-0", DEVICE, base=base)
    return fold, folder / "m" / "fold-0"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trained_on_the_device_says_the_same_on_it_and_on_the_cpu(kind: str, tmp_path: Path) -> None:
    _, folder = trained(kind, tmp_path)
    (there, _), (here, _) = (read_checkpoint(folder, device) for device in (DEVICE, CPU))
    for item in synthetic_bags(4, seed=5):
        with torch.no_grad():
            logits = [model(bag_tensor(item.bag, model)).logits.cpu() for model in (there, here)]
        assert torch.isfinite(logits[1]).all() and torch.allclose(*logits, rtol=0.01, atol=0.01)
        assert next(there.parameters()).device.type == DEVICE.type


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_scores_on_the_device_as_on_the_cpu(kind: str, tmp_path: Path) -> None:
    _, folder = trained(kind, tmp_path)
    (there, _), (here, _) = (read_checkpoint(folder, device) for device in (DEVICE, CPU))
    (item,) = synthetic_bags(1, seed=5)
    for name, method in METHODS.items():
        if supports(there.provides, name):
            scores = [method.scores([model], item.bag, 1).values for model in (there, here)]
            assert np.allclose(*scores, rtol=0.02, atol=0.02 * np.abs(scores[1]).max()), name


@pytest.mark.parametrize("kind", ["abmil", "clam", "dtfd", "transmil", "nystrom", "mhim", "mhim of transmil"])
def test_training_in_bfloat16_gives_finite_weights_in_float32(kind: str, tmp_path: Path) -> None:
    _, folder = trained(kind, tmp_path, precision="bfloat16")
    model, _ = read_checkpoint(folder, CPU)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["abmil", "clam", "dtfd", "transmil", "mhim of transmil"])
def test_a_training_that_was_interrupted_goes_on_with_the_random_numbers_of_the_device(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums on a GPU may differ in their last digits; other dropout masks would differ in the first."""
    _, whole = trained(kind, tmp_path / "whole")
    original = wsi_mil.train.loop._train_epoch
    calls: list[int] = []
    third_epoch = 7 if kind in BASES else 3  # of the model, after the four of its base

    def killed(*args: object, number: int, **kwargs: object) -> float:
        calls.append(number)
        if len(calls) == third_epoch:
            raise KeyboardInterrupt
        return original(*args, number=number, **kwargs)

    monkeypatch.setattr(wsi_mil.train.loop, "_train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(kind, tmp_path / "cut")
    torch.manual_seed(99)
    _, cut = trained(kind, tmp_path / "cut")
    weights = [read_checkpoint(folder, CPU)[0].state_dict() for folder in (whole, cut)]
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4) for name in weights[0])


def test_a_slide_is_explained_on_the_device_by_all_methods_of_the_stage(tmp_path: Path) -> None:
    fold, folder = trained("abmil", tmp_path)
    receipt, settings = tmp_path / "scores" / "s01.json", Explain(sparse_inversion=SparseInversion(steps=2), curve_points=3)
    row = SlideRow("s01", Path("x"), label="tumour", patient_id=fold.splits.patients["s01"])
    splits = replace(fold.splits, roles=fold.splits.roles[:1])
    scored = []
    for device in (DEVICE, CPU):
        ensemble = Ensemble(folder.parent, splits, TASK, device)
        explain_slide(row, [tmp_path / "f" / "s01.json"], ensemble, settings, receipt)
        expected = {"attention", "sparse_inversion", "standardised_contribution"}  # the last is the best of ABMIL
        assert set(read_receipt(receipt)["methods"]) >= expected
        scored.append(read_scores(store_path(receipt), "attention")[1])
    assert np.allclose(*scored, atol=0.01)
