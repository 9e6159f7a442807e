"""Training of every kind of task: what a model learns from, resuming, and what is in its card."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import wsi_mil.train.loop
from tests.train.cohort import CPU, weights
from tests.train.kinds import ABMIL, SMALL, TASKS, Trained, cohort_of, labels_of
from wsi_mil.bags import BagSet, finite_logits, read_bag_of
from wsi_mil.checkpoints import read_card, read_checkpoint
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Predict, Split, parse_model
from wsi_mil.errors import StoreMismatchError
from wsi_mil.files import read_table
from wsi_mil.models import ValueOutputs, create_model
from wsi_mil.predict import predict_cohort, task_with_horizons, write_metrics, write_predictions
from wsi_mil.records import SHEET_ROLES, Role
from wsi_mil.tasks import Multilabel, Survival, Truth, read_shown_prediction
from wsi_mil.train import Fold, train_fold


@pytest.mark.parametrize("kind", TASKS)
def test_an_interrupted_training_of_every_kind_gives_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cohort = Trained(tmp_path, kind)
    whole = cohort.train(0, "whole")
    original, calls = wsi_mil.train.loop._train_epoch, []

    def killed(*args: object, number: int, **kwargs: object) -> float:
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, number=number, **kwargs)

    monkeypatch.setattr(wsi_mil.train.loop, "_train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        cohort.train(0, "cut")
    torch.manual_seed(99)
    cut = cohort.train(0, "cut")
    assert calls == [0, 1, 2, 2]
    for name in ("model.safetensors", "config.json", "history.csv"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("unit", ["slide", "patient"])
@pytest.mark.parametrize("kind", TASKS)
def test_weights_constants_and_thresholds_see_no_test_patient(tmp_path: Path, kind: str, unit: str) -> None:
    """With other labels of the test patients, all that is trained is the same to the byte; with others in training, it is not."""
    cohort = Trained(tmp_path, kind, unit=unit)
    original = cohort.train(0, "original")
    rng = np.random.default_rng(5)
    other = {row.patient_id: labels_of(kind, rng.random() * 3, rng) for row in cohort.rows}
    for role, is_same in ((Role.TEST, True), (Role.TRAIN, False)):
        changed = {s: other[cohort.splits.patients[s]] for s in cohort.splits.slides(0, role)}
        labels = {**cohort.splits.labels, **changed}
        assert changed and labels != cohort.splits.labels
        splits = Splits(cohort.splits.patients, labels, cohort.splits.roles)
        again = tmp_path / role
        train_fold(Fold(splits, 0, tmp_path / "f", cohort.task, unit), ABMIL, again, CPU)
        assert (weights(again) == weights(original)) == is_same
        cards = [json.loads((folder / "config.json").read_text()) for folder in (original, again)]
        assert (cards[0]["task"] == cards[1]["task"]) == (is_same or kind == "multilabel")
        assert (cards[0]["threshold"] == cards[1]["threshold"]) == is_same or cards[0]["threshold"] is None


@pytest.mark.parametrize("kind", TASKS)
def test_a_checkpoint_gives_the_same_predictions_again_with_the_constants_of_its_fold(tmp_path: Path, kind: str) -> None:
    cohort = Trained(tmp_path, kind)
    path = cohort.train(1)
    model, card = read_checkpoint(path, CPU)
    assert type(card.task) is type(cohort.task) and card.task == cohort.task
    bag = read_bag_of("s", [tmp_path / "f" / "s07a.json"])
    outputs = card.task.outputs(finite_logits(model, bag))
    found = Trained(tmp_path, kind).ensemble().predict(bag, (1,))
    assert np.allclose(found.outputs, outputs[0]) and len(found.outputs_of_fold) == 1
    scalar = model.outputs.scalar(finite_logits(model, bag).double(), 0)
    expected = {"multilabel": torch.logit(torch.tensor(outputs[:, 0])), "regression": outputs[:, 1]}.get(kind, outputs[:, 0])
    assert np.allclose(scalar.numpy(), np.asarray(expected), atol=1e-5)


def test_risk_groups_are_divided_at_the_median_of_the_training_part(tmp_path: Path) -> None:
    cohort = Trained(tmp_path, "cox")
    path = cohort.train(0)
    model, card = read_checkpoint(path, CPU)
    assert isinstance(card.task, Survival)
    slides = cohort.splits.slides(0, Role.TRAIN)
    bags = [read_bag_of(s, [tmp_path / "f" / f"{s}.json"]) for s in slides]
    risk = {}
    for slide, bag in zip(slides, bags, strict=True):
        own = float(card.task.outputs(finite_logits(model, bag))[0, 0])
        risk.setdefault(cohort.splits.patients[slide], []).append(own)
    of_patient = [np.mean(own) for own in risk.values()]
    assert np.mean(of_patient) == pytest.approx(0, abs=1e-6)
    assert card.threshold == card.task.cutoff == pytest.approx(np.median(of_patient), abs=1e-6)


def test_patients_with_several_slides_count_once_in_the_cox_loss(tmp_path: Path) -> None:
    """The same bag twice under one patient is the bag once."""
    cohort = Trained(tmp_path, "cox")
    singles = [row for row in cohort.rows if row.slide_id.endswith("a")]
    task, bags = TASKS["cox"], [read_bag_of(r.slide_id, [tmp_path / "f" / f"{r.slide_id}.json"]) for r in singles]
    truth = task.encode([row.label for row in singles])
    patients = [row.patient_id for row in singles]
    quiet = {"embed_dim": 8, "dropout": 0.0, "train": {**SMALL["train"], "instance_dropout": 0.0}}
    found = []
    for extra in (0, 9):
        torch.manual_seed(0)
        settings = parse_model({"model": "abmil", **quiet})
        model = create_model(settings, feature_dim=12, outputs=ValueOutputs())
        both = bags + bags[:extra]
        train = BagSet(
            Truth(np.concatenate([truth, truth[:extra]]), tuple(patients + patients[:extra])), both.__getitem__, keep_bytes=0
        )
        wsi_mil.train.loop.fit(model, train, train, settings.train, task=task)
        risks = wsi_mil.train.loop.predict_outputs(model, train, task)[: len(bags), 0]
        found.append(risks - risks.mean())  # the bias has no gradient but rounding
    assert np.allclose(found[0], found[1], atol=1e-5) and found[0].std() > 0.01


@pytest.mark.parametrize("kind", TASKS)
def test_the_curve_and_the_card_name_the_figure_of_the_kind(tmp_path: Path, kind: str) -> None:
    path = Trained(tmp_path, kind).train(0)
    name = TASKS[kind].figure_name
    header = next(csv.reader((path / "history.csv").read_text().splitlines()))
    assert header == ["epoch", "train_loss", "val_loss", f"val_{name}", "lr"]
    assert {"loss", name} <= set(read_card(path).validation)


def test_models_of_another_order_of_labels_are_refused(tmp_path: Path) -> None:
    ensemble = Trained(tmp_path, "multilabel").ensemble(Multilabel(("her2", "er")))
    with pytest.raises(StoreMismatchError, match=r"trained on labels \['er', 'her2'\], expected labels \['her2', 'er'\]"):
        _ = ensemble.folds


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_each_slide_is_predicted_by_the_fold_that_held_it_out_and_its_row_reads_back(tmp_path: Path, kind: str) -> None:
    cohort = Trained(tmp_path, kind)
    ensemble = cohort.ensemble()
    predictions = predict_cohort(cohort.rows, tmp_path / "f", ensemble, include_train=False)
    write_predictions(tmp_path / "p.csv", predictions, cohort.task, "held_out")
    table = read_table(tmp_path / "p.csv")
    assert [row["fold"] for row in table] == [str(item.placement.folds[0]) for item in predictions]
    outcomes = cohort.task.read_outcomes(table)
    assert np.allclose(outcomes.outputs[:, 0], [item.prediction.outputs[0] for item in predictions], rtol=1e-4)
    assert all(read_shown_prediction(row).value is not None for row in table)
    settings = Predict(bootstrap=100)
    write_metrics(tmp_path / "m.json", predictions, cohort.task, settings, ensemble.metadata)
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["task"]["kind"] == kind and metrics["n_patients"] == 36
    main = next(iter(cohort.task.point_figures(outcomes)))
    low, high = metrics[f"{main}_ci95"]
    assert low < metrics[main] < high and set(metrics["of_fold"]) == {"0", "1", "2"}


@pytest.mark.parametrize("loss", ["discrete", "cox"])
def test_models_of_either_loss_predict_survival_at_the_horizons_of_the_cohort(tmp_path: Path, loss: str) -> None:
    cohort = Trained(tmp_path, loss)
    task = task_with_horizons(cohort.task, cohort.splits)
    assert isinstance(task, Survival) and len(task.horizons) == 3
    predictions = predict_cohort(cohort.rows, tmp_path / "f", cohort.ensemble(task), include_train=False)
    write_predictions(tmp_path / "p.csv", predictions, task, "held_out")
    table = read_table(tmp_path / "p.csv")
    names = [f"survival_{horizon:g}" for horizon in task.horizons]
    for row in table:
        probs = [1.0, *(float(row[name]) for name in names), 0.0]
        assert probs == sorted(probs, reverse=True)
        assert row["predicted"] == ("high" if float(row["risk"]) >= float(row["cutoff"]) else "low")
        assert f"{row['time']} {row['event']}" == row["label"]
    write_metrics(tmp_path / "m.json", predictions, task, Predict(bootstrap=100), {})
    metrics = json.loads((tmp_path / "m.json").read_text())
    aucs = [f"auc_{horizon:g}" for horizon in task.horizons]
    for figure in ("c_harrell", "c_uno", *aucs, "integrated_brier"):
        low, high = metrics[f"{figure}_ci95"]
        assert low < metrics[figure] < high
        assert set(metrics["of_fold"]["0"]) >= {figure}
    assert metrics["integrated_brier"] < 0.25 and metrics["risk_groups"]["high"]["n"] == metrics["n_high_risk"]


def test_every_part_of_every_fold_has_what_the_kind_needs() -> None:
    for kind, task in TASKS.items():
        splits = draw_splits(cohort_of(kind), task, Split(folds=4))
        for fold in range(4):
            for role in SHEET_ROLES:
                assert task.missing({splits.labels[s] for s in splits.slides(fold, role)}) == ""
