import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.cohort import CLASSES, CPU, SETTINGS, TASK, write_features
from wsi_mil.bags import LabelledBag, bag_tensor
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import Predict, Recalibrate
from wsi_mil.ensemble import Ensemble, FoldModel
from wsi_mil.errors import ConfigError, NotFiniteError, StoreMismatchError
from wsi_mil.files import read_table
from wsi_mil.predict import fitted_again, predict_cohort, recalibrated_figures, write_metrics, write_predictions
from wsi_mil.records import Bag, Role
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, train_fold


def test_a_slide_is_predicted_by_the_fold_that_held_it_out(trained, tmp_path: Path) -> None:
    splits, ensemble, rows = trained
    predicted = {p.row.slide_id: p for p in predict_cohort(rows, tmp_path / "f", ensemble, include_train=False)}
    for slide, item in predicted.items():
        bag = ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"])
        each = [torch.softmax(m.model(bag_tensor(bag, m.model)).logits[0], 0).numpy() for m in ensemble.folds]
        own = splits.patients.get("s00" if slide == "s24" else slide)
        held = [k for k in range(3) if own in {splits.patients[s] for s in splits.slides(k, Role.TEST)}]
        expected = np.mean([each[k] for k in held or range(3)], axis=0)
        assert np.allclose(item.prediction.outputs, expected, atol=1e-6)
    assert predicted["s25"].placement.folds == (0, 1, 2)
    assert predicted["s24"].placement.folds == predicted["s00"].placement.folds


def test_tables_and_figures_are_written(trained, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    predicted = predict_cohort(rows, tmp_path / "f", ensemble, include_train=False)
    write_predictions(tmp_path / "p.csv", predicted, TASK, "held_out")
    write_metrics(tmp_path / "m.json", predicted, TASK, Predict(bootstrap=200), {"protocol": "held_out"})
    table, figures = read_table(tmp_path / "p.csv"), json.loads((tmp_path / "m.json").read_text())
    assert [r["slide_id"] for r in table] == [r.slide_id for r in rows] and table[-1]["fold"] == "mean"
    assert all(abs(float(r["prob_normal"]) + float(r["prob_tumour"]) - 1) < 1e-5 for r in table)
    assert all((r["predicted"] == "tumour") == (float(r["prob_tumour"]) >= float(r["threshold"])) for r in table)
    assert figures["n_slides"] == 24 and figures["auroc"] > 0.9
    assert figures["auroc_ci95"][0] <= figures["auroc"] <= figures["auroc_ci95"][1]


def test_folds_without_selected_epoch_are_written_beside_the_figures(trained, tmp_path: Path) -> None:
    _, ensemble, _ = trained
    assert ensemble.metadata == {"protocol": "held_out", "n_folds": 3, "unchosen_folds": []}
    members = [FoldModel(m.model, replace(m.card, select="last" if m.card.fold == 1 else "loss")) for m in ensemble.folds]
    ensemble.__dict__["folds"] = members
    assert ensemble.metadata["unchosen_folds"] == [1]
    write_metrics(tmp_path / "m.json", [], TASK, Predict(), ensemble.metadata)
    assert json.loads((tmp_path / "m.json").read_text())["unchosen_folds"] == [1]


def test_features_of_another_length_name_both(trained, tmp_path: Path) -> None:
    _, ensemble, _ = trained
    bag = LabelledBag(Bag("short", np.ones((9, 7), np.float16), np.zeros((9, 2), np.int64)), 0)
    write_features(tmp_path / "f", [bag])
    with pytest.raises(StoreMismatchError, match=r"short\.zarr: features of length 7, but .*/m expects 12; use"):
        ensemble.read_bag("short", [tmp_path / "f" / "short.json"])


def test_without_labels_there_are_predictions_and_no_figures(trained, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    predicted = predict_cohort(rows[-2:], tmp_path / "f", ensemble, include_train=False)
    write_metrics(tmp_path / "m.json", predicted, TASK, Predict(), {"protocol": "held_out"})
    assert len(predicted) == 2 and json.loads((tmp_path / "m.json").read_text())["n_slides"] == 0


def test_in_a_fixed_split_only_test_slides_count(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    fixed = Splits(splits.patients, splits.labels, splits.roles[:1])
    tested = set(fixed.slides(0, Role.TEST))
    ensemble = Ensemble(tmp_path / "m", fixed, TASK, CPU)
    shown = predict_cohort(rows, tmp_path / "f", ensemble, include_train=False)
    assert {p.row.slide_id for p in shown if p.is_evaluated} == tested
    assert not {p.row.slide_id for p in shown} & set(fixed.slides(0, Role.TRAIN))
    everyone = predict_cohort(rows, tmp_path / "f", ensemble, include_train=True)
    assert len(everyone) == len(rows) and {p.row.slide_id for p in everyone if p.is_evaluated} == tested


def test_models_of_other_classes_are_refused(trained, tmp_path: Path) -> None:
    splits, ensemble, _ = trained
    with pytest.raises(StoreMismatchError, match="trained on classes"):
        _ = Ensemble(ensemble.folder, splits, Classes(CLASSES[::-1]), CPU).folds


def test_models_of_other_splits_are_refused(trained) -> None:
    splits, ensemble, _ = trained
    turned = Splits(splits.patients, splits.labels, (splits.roles[0], splits.roles[2], splits.roles[1]))
    with pytest.raises(StoreMismatchError, match="fold-1: was not trained on fold 1 of these splits"):
        _ = Ensemble(ensemble.folder, turned, TASK, CPU).folds


def test_a_slide_with_features_that_are_not_finite_is_not_predicted(trained, random_bags: Callable, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    damaged = random_bags(4)[3:]
    damaged[0].bag.features[2, 5] = np.inf
    write_features(tmp_path / "f", damaged, fingerprint="damaged")
    with pytest.raises(NotFiniteError, match="s03: its features are not finite"):
        predict_cohort(rows, tmp_path / "f", ensemble, include_train=False)


def test_features_of_another_encoder_are_refused(trained, random_bags: Callable, tmp_path: Path) -> None:
    _, ensemble, _ = trained
    write_features(tmp_path / "other", random_bags(1), weights_hash="new")
    with pytest.raises(StoreMismatchError, match="weights_hash 'new', trained on 'h'"):
        ensemble.read_bag("s00", [tmp_path / "other" / "s00.json"])


def test_with_repeated_folds_a_slide_is_the_mean_of_those_that_held_it_out(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    twice = Splits(splits.patients, splits.labels, (*splits.roles[1:], splits.roles[0], splits.roles[0]))
    again = Ensemble(tmp_path / "m4", twice, TASK, CPU)
    for new, old in enumerate((1, 2, 0, 0)):
        shutil.copytree(tmp_path / "m" / f"fold-{old}", again.folder / f"fold-{new}")
    predicted = predict_cohort(rows[:24], tmp_path / "f", again, include_train=False)
    of_first = set(splits.slides(0, Role.TEST))
    for item in predicted:
        assert item.placement.folds == ((2, 3) if item.row.slide_id in of_first else item.placement.folds[:1])
        assert np.allclose(item.prediction.outputs, np.mean(item.prediction.outputs_of_fold, axis=0))
    write_metrics(tmp_path / "m.json", predicted, TASK, Predict(bootstrap=100), {"protocol": "held_out"})
    write_predictions(tmp_path / "p.csv", predicted, TASK, "held_out")
    figures, table = json.loads((tmp_path / "m.json").read_text()), read_table(tmp_path / "p.csv")
    assert figures["n_slides"] == 24 and list(figures["of_fold"]) == ["0", "1", "2", "3"]
    assert figures["of_fold"]["2"] == figures["of_fold"]["3"]
    assert {row["fold"] for row in table} == {"0", "1", "2 3"}


def test_a_patients_slides_are_predicted_as_one_bag_and_count_once(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    for fold in range(3):
        train_fold(Fold(splits, fold, tmp_path / "f", TASK, unit="patient"), SETTINGS, tmp_path / "mp" / f"fold-{fold}", CPU)
    ensemble = Ensemble(tmp_path / "mp", splits, TASK, CPU, unit="patient")
    predicted = {p.row.slide_id: p for p in predict_cohort(rows, tmp_path / "f", ensemble, include_train=False)}
    patient = next(p for p in splits.patients.values() if list(splits.patients.values()).count(p) > 1)
    slides = sorted(s for s, p in splits.patients.items() if p == patient)
    assert len({predicted[s].prediction for s in slides}) == 1 and {predicted[s].bag_id for s in slides} == {patient}
    whole = ensemble.read_bag(patient, [tmp_path / "f" / f"{s}.json" for s in slides])
    model = ensemble.folds[predicted[slides[0]].placement.folds[0]].model
    alone = torch.softmax(model(bag_tensor(whole, model)).logits[0], 0)
    assert np.allclose(predicted[slides[0]].prediction.outputs, alone, atol=1e-6)
    write_metrics(tmp_path / "m.json", list(predicted.values()), TASK, Predict(bootstrap=100), {"protocol": "held_out"})
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["n_bags"] == figures["n_patients"] == len(set(splits.patients.values())) < figures["n_slides"] == 24


def test_models_of_other_bags_are_refused(trained) -> None:
    splits, ensemble, _ = trained
    with pytest.raises(StoreMismatchError, match="trained with one bag per slide, expected one per patient; train it again"):
        _ = Ensemble(ensemble.folder, splits, TASK, CPU, unit="patient").folds


def test_as_published_validation_slides_are_no_longer_shown(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    train_fold(Fold(splits, 0, tmp_path / "f", TASK, protocol="as_published"), SETTINGS, tmp_path / "ma" / "fold-0", CPU)
    fixed = Splits(splits.patients, splits.labels, splits.roles[:1])
    ensemble = Ensemble(tmp_path / "ma", fixed, TASK, CPU)
    shown = predict_cohort(rows[:24], tmp_path / "f", ensemble, include_train=False)
    assert {p.row.slide_id for p in shown} == set(fixed.slides(0, Role.TEST))


def with_calibration(rows: list, n: int = 24) -> list:
    """Other slides of the same features as rows of new patients, of whom the first half are fitted to."""
    labels = {row.slide_id: row.label for row in rows if row.label}
    new = [replace(row, patient_id=f"new-{row.slide_id}", part="cal" if k < n // 2 else "") for k, row in enumerate(rows[:n])]
    return [row for row in new if row.slide_id in labels]


def test_slides_that_probabilities_are_fitted_to_count_in_no_figure_and_raw_ones_stay(trained, tmp_path: Path) -> None:
    splits, ensemble, rows = trained
    elsewhere = Splits({f"old-{s}": f"old-{p}" for s, p in splits.patients.items()}, {}, tuple({} for _ in splits.roles))
    own = Ensemble(ensemble.folder, splits, TASK, CPU)
    own.__dict__["folds"] = ensemble.folds
    own.splits = elsewhere
    predicted = predict_cohort(with_calibration(rows), tmp_path / "f", own, include_train=False, calibration="cal")
    settings = Recalibrate(method="platt", column="part", value="cal")
    fitted = fitted_again(predicted, TASK, settings)
    write_predictions(tmp_path / "p.csv", predicted, TASK, "held_out", fitted)
    write_predictions(tmp_path / "raw.csv", predicted, TASK, "held_out")
    table, raw = read_table(tmp_path / "p.csv"), read_table(tmp_path / "raw.csv")
    assert [{k: v for k, v in row.items() if not k.startswith("recalibrated_")} for row in table] == raw
    assert [row["role"] for row in table] == ["calibration"] * 12 + [""] * 12
    assert all(float(r["recalibrated_normal"]) + float(r["recalibrated_tumour"]) == pytest.approx(1, abs=1e-5) for r in table)
    about = recalibrated_figures(predicted, fitted, Predict(bootstrap=100))
    write_metrics(tmp_path / "m.json", predicted, TASK, Predict(bootstrap=100), {"protocol": "held_out"})
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["n_slides"] == figures["n_bags"] == about["n_bags"] == 12 and about["n_patients"] == 12
    assert figures["auroc"] == about["auroc"], "the order is kept"
    predicted_again = [CLASSES[float(r["recalibrated_tumour"]) >= float(r["recalibrated_threshold"])] for r in table]
    assert predicted_again == [row["recalibrated_predicted"] for row in table]


def test_too_few_usable_calibration_slides_are_a_fault(trained, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    predicted = predict_cohort(with_calibration(rows, 4), tmp_path / "f", ensemble, include_train=False, calibration="cal")
    with pytest.raises(ConfigError, match="of the usable slides: recalibrate: platt needs 5 patients of each class"):
        fitted_again(predicted, TASK, Recalibrate(method="platt", column="part", value="cal"))


def test_patients_that_the_models_held_out_have_no_recalibrated_figures_and_new_ones_have_figures_of_their_own(
    trained, tmp_path: Path
) -> None:
    """All slides again as new patients, twelve of them fitted to: the others count beside the 24 that were held out."""
    _, ensemble, rows = trained
    new = [replace(row, slide_id=f"{row.slide_id}n") for row in with_calibration(rows)]
    copies = {row.slide_id: row.slide_id.removesuffix("n") for row in new}
    for slide, original in copies.items():
        bag = ensemble.read_bag(original, [tmp_path / "f" / f"{original}.json"])
        write_features(tmp_path / "f", [LabelledBag(Bag(slide, np.asarray(bag.features, np.float16), bag.coords), 0)])
    predicted = predict_cohort([*rows, *new], tmp_path / "f", ensemble, include_train=False, calibration="cal")
    alone = predict_cohort(new, tmp_path / "f", ensemble, include_train=False, calibration="cal")
    fitted = fitted_again(predicted, TASK, Recalibrate(method="platt", column="part", value="cal"))
    settings = Predict(bootstrap=100)
    assert recalibrated_figures(predicted, fitted, settings) == recalibrated_figures(alone, fitted, settings)
    for name, items in (("both", predicted), ("alone", alone)):
        write_metrics(tmp_path / f"{name}.json", items, TASK, settings, {})
    both, of_new = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("both", "alone"))
    assert both["n_slides"] == 36 and "of_new" not in of_new
    assert both["of_new"] == {key: of_new[key] for key in both["of_new"]} and both["of_new"]["n_bags"] == 12
    write_predictions(tmp_path / "p.csv", predicted, TASK, "held_out", fitted)
    filled = {row["slide_id"] for row in read_table(tmp_path / "p.csv") if row["recalibrated_tumour"]}
    assert filled == {*copies, "s25"}, "s24 is another slide of a patient that was held out"
