import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from benchmarks.papers.runs import Run, execute, load_or_train
from wsi_mil.config import parse_base
from wsi_mil.models import MILModel, create_model


def run(calls: list[str], name: str = "a/b", seed: int = 0, **settings: object) -> Run:
    return Run(name, settings, seed, lambda: calls.append(name) or {"auroc": 0.5, "unknown": float("nan")})


def test_a_run_writes_its_settings_figures_and_machine(tmp_path: Path) -> None:
    assert execute([run([], size=(3, 4))], tmp_path) == 1
    content = json.loads((tmp_path / "a" / "b.json").read_text())
    assert content["settings"] == {"size": [3, 4]} and content["seed"] == 0 and content["run"] == "a/b"
    assert content["figures"] == {"auroc": 0.5, "unknown": None}
    assert content["versions"]["torch"] == torch.__version__ and content["hardware"]["threads"] >= 1 and content["seconds"] >= 0


def test_completed_runs_are_skipped_and_the_others_executed(tmp_path: Path) -> None:
    calls: list[str] = []

    def broken() -> Mapping[str, object]:
        raise OSError("the disk is full")

    runs = [run(calls, "x/1", size=(3, 4)), Run("x/2", {}, 0, broken), run(calls, "x/3")]
    with pytest.raises(OSError, match="full"):
        execute(runs, tmp_path)
    assert calls == ["x/1"] and not (tmp_path / "x" / "2.json").exists()
    assert execute([runs[0], runs[2]], tmp_path) == 1 and calls == ["x/1", "x/3"]


@pytest.mark.parametrize("other", [{"seed": 1, "lr": 1}, {"lr": 2}, {"lr": 1, "more": None}])
def test_a_run_of_other_settings_is_done_again(tmp_path: Path, other: dict) -> None:
    calls: list[str] = []
    execute([run(calls, lr=1)], tmp_path)
    assert execute([run(calls, **other)], tmp_path) == 1 and len(calls) == 2


def model(seed: int) -> MILModel:
    torch.manual_seed(seed)
    return create_model(parse_base({"model": "abmil", "embed_dim": None}), feature_dim=3, n_classes=2)


def test_a_kept_model_is_not_trained_again(cache: Path) -> None:
    def train(fresh: MILModel) -> Mapping[str, int]:
        with torch.no_grad():
            fresh.classifier.bias.copy_(torch.tensor([0.25, -4.0]))
        return {"epochs": 7}

    def never(fresh: MILModel) -> Mapping[str, int]:
        raise AssertionError("trained again")

    first, second, third = model(0), model(1), model(2)
    assert (
        load_or_train("m/seed-0", {"lr": 1}, first, train) == load_or_train("m/seed-0", {"lr": 1}, second, never) == {"epochs": 7}
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not second.training and not any(p.requires_grad for p in second.parameters())
    with pytest.raises(AssertionError, match="again"):
        load_or_train("m/seed-0", {"lr": 2}, third, never)
