"""The linear model of the mean of the features, from stores to predictions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.cohort import CPU, STORE_ATTRIBUTES, TASK, splits_of, weights, write_features
from tests.train.kinds import TASKS, Trained, cohort_of
from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.checkpoints import read_card, read_checkpoint
from wsi_mil.config import Predict, Training, parse_base, parse_model
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import EmptyBagError, NotFiniteError, StoreError
from wsi_mil.files import read_table
from wsi_mil.models import create_model
from wsi_mil.notebook import class_probs, fitted_for
from wsi_mil.predict import predict_cohort, task_with_horizons, write_metrics
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Bag, Role, SlideRow
from wsi_mil.store import FeatureStore, read_bag
from wsi_mil.tasks import Classes, Truth
from wsi_mil.train import Fold, fit, train_fold
from wsi_mil.train.linear import LinearProblem, fit_linear
from wsi_mil.train.slide_statistics import FeatureStatistics, statistics_of_bag

MEAN = parse_model({"model": "mean_linear", "train": {"penalties": [0.01, 0.1, 1.0, 10.0]}})
DEVIATION = parse_model({"model": "mean_linear", "statistics": "mean_std"})


def trained(cohort: Trained, number: int, name: str = "m", settings=MEAN, kept: Path | None = None) -> Path:
    fold = Fold(cohort.splits, number, cohort.folder / "f", cohort.task, cohort.unit, statistics=kept)
    train_fold(fold, settings, cohort.folder / name / f"fold-{number}", CPU)
    return cohort.folder / name / f"fold-{number}"


def raised(row: SlideRow, seed: int) -> LabelledBag:
    """A slide of 6 to 14 tiles, all of which have the patient's driver in the first feature."""
    features = np.random.default_rng(seed).normal(size=(6 + seed % 9, 12))
    features[:, 0] += int(row.patient_id[1:]) / 10
    return LabelledBag(Bag(row.slide_id, features.astype(np.float16), np.zeros((len(features), 2), np.int64)), 0)


@pytest.mark.parametrize("settings", [MEAN, DEVIATION], ids=["mean", "mean_std"])
@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_is_trained_and_predicted_better_than_chance(tmp_path: Path, kind: str, settings) -> None:
    rows = cohort_of(kind, n_patients=60)
    write_features(tmp_path / "f", [raised(row, number) for number, row in enumerate(rows)])
    cohort = Trained(tmp_path, kind, rows)
    for number in range(3):
        trained(cohort, number, settings=settings, kept=tmp_path / "kept")
    task = task_with_horizons(cohort.task, cohort.splits)
    ensemble = Ensemble(tmp_path / "m", cohort.splits, task, CPU)
    predicted = predict_cohort(cohort.rows, tmp_path / "f", ensemble, include_train=False)
    write_metrics(tmp_path / "metrics.json", predicted, task, Predict(bootstrap=100), ensemble.metadata)
    figures = read_receipt(tmp_path / "metrics.json")
    assert figures[{"multilabel": "auroc", "regression": "r2"}.get(kind, "c_harrell")] > 0.7
    assert figures["unchosen_folds"] == []


@pytest.mark.parametrize("kind", TASKS)
def test_weights_are_those_of_the_fit_on_the_means_of_the_slides(tmp_path: Path, kind: str) -> None:
    cohort = Trained(tmp_path, kind)
    model, card = read_checkpoint(trained(cohort, 0), CPU)
    designs, truths = [], []
    for role in (Role.TRAIN, Role.VAL):
        slides = cohort.splits.slides(0, role)
        bags = [read_bag(tmp_path / "f" / f"{slide}.json").features.astype(np.float64).mean(axis=0) for slide in slides]
        labels = cohort.task.encode([cohort.splits.labels[slide] for slide in slides])
        designs.append(np.array(bags))
        truths.append(Truth(labels, tuple(cohort.splits.patients[slide] for slide in slides)))
    task = cohort.task.fitted(truths[0])
    fitted = fit_linear(LinearProblem(task, designs[0], truths[0], designs[1], truths[1], MEAN.train.penalties))
    weight = fitted.coefficients / fitted.scale
    np.testing.assert_allclose(model.classifier.weight.numpy(), weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.classifier.bias.numpy(), fitted.intercepts - weight @ fitted.centre, rtol=1e-4, atol=1e-6)
    rows = read_table(tmp_path / "m" / "fold-0" / "history.csv")
    assert [float(row["penalty"]) for row in rows] == [10, 1, 0.1, 0.01] and {row["converged"] for row in rows} == {"1"}
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert (card.epoch, card.select) == (rows.index(best) + 1, "loss") and f"val_{task.figure_name}" in best
    assert card.validation["loss"] == pytest.approx(float(best["val_loss"]))


def test_a_patient_is_the_bag_of_all_its_slides(tmp_path: Path) -> None:
    cohort = Trained(tmp_path, "regression", unit="patient")
    path = trained(cohort, 1, settings=DEVIATION)
    model, card = read_checkpoint(path, CPU)
    (patient, slides) = next((p, s) for p, s in cohort.splits.bags(1, (Role.VAL,), "patient").items() if len(s) == 2)
    receipts = [tmp_path / "f" / f"{slide}.json" for slide in slides]
    found = statistics_of_bag(patient, receipts, None)
    tiles = np.concatenate([read_bag(receipt).features for receipt in receipts]).astype(np.float64)
    np.testing.assert_allclose(found.mean, tiles.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.deviation, tiles.std(axis=0), atol=1e-12)
    design = torch.from_numpy(np.concatenate([found.mean, found.deviation])[None]).float()
    logits = model(torch.from_numpy(tiles).float()[None]).logits
    torch.testing.assert_close(model.classified(design).logits, logits, rtol=1e-4, atol=1e-5)
    assert card.unit == "patient"


def test_folds_read_each_slide_once_and_the_kept_statistics_change_nothing(tmp_path: Path) -> None:
    cohort, kept = Trained(tmp_path, "cox"), tmp_path / "kept"
    for number in (0, 1):
        trained(cohort, number, "alone")
    trained(cohort, 0, kept=kept)
    assert {file.stem for file in kept.glob("*.safetensors")} == {
        slide for slide, role in cohort.splits.roles[0].items() if role in (Role.TRAIN, Role.VAL)
    }
    of_others = {slide for slide, role in cohort.splits.roles[0].items() if role is Role.TEST}
    for file in (tmp_path / "f").glob("*.zarr/features/c/0/0"):
        if file.parents[3].stem not in of_others:
            file.unlink()
    assert weights(trained(cohort, 1, kept=kept)) == weights(tmp_path / "alone" / "fold-1")
    assert weights(tmp_path / "m" / "fold-0") == weights(tmp_path / "alone" / "fold-0")
    with pytest.raises(StoreError, match="is missing"):
        trained(cohort, 1, "again")


def test_other_features_and_damaged_files_are_read_anew(tmp_path: Path, random_bags) -> None:
    tiles, receipt = random_bags(1)[0].bag.features, tmp_path / "f" / "a.json"

    def write(features: np.ndarray) -> None:
        write_features(
            tmp_path / "f",
            [LabelledBag(Bag("a", features, np.zeros((len(features), 2), np.int64)), 0)],
            fingerprint=str(features),
        )

    def mean() -> np.ndarray:
        return statistics_of_bag("a", [receipt], tmp_path / "kept").mean

    for features in (tiles, tiles[:5]):
        write(features)
        np.testing.assert_allclose(mean(), features.mean(axis=0, dtype=np.float64))
    (file,) = (tmp_path / "kept").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_allclose(mean(), tiles[:5].mean(axis=0, dtype=np.float64))
    other = tiles[:5].copy()
    other[3, 2] = np.inf
    write(other)
    with pytest.raises(NotFiniteError, match=r"^a: its features are not finite"):
        mean()


def test_variances_keep_their_digits_beside_a_large_mean() -> None:
    rng = np.random.default_rng(0)
    tiles = (1000 + 2 * rng.integers(0, 2, size=(700, 3))).astype(np.float16)
    found = FeatureStatistics.of([tiles[:300], tiles[300:301], tiles[301:]])
    np.testing.assert_allclose(found.variance, tiles.astype(np.float64).var(axis=0), rtol=1e-9)
    even = FeatureStatistics.of([np.full((5, 2), 0.1, np.float16)])
    assert found.n == 700 and even.deviation.tolist() == [0, 0]


def test_a_bag_without_tiles_is_refused(tmp_path: Path) -> None:
    attributes = {**STORE_ATTRIBUTES, "fingerprint": "none"}
    with FeatureStore(
        tmp_path / "f" / "none.zarr", coords=np.empty((0, 2), np.int64), batch_size=64, attributes=attributes
    ) as store:
        store.begin(4)
    with pytest.raises(EmptyBagError, match="p7"):
        statistics_of_bag("p7", [tmp_path / "f" / "none.json"], None)


def test_features_that_are_even_over_the_cohort_have_no_weight(tmp_path: Path, random_bags) -> None:
    bags = random_bags(24)
    for item in bags:
        item.bag.features[:, 4] = 0.3
    write_features(tmp_path / "f", bags)
    train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), DEVIATION, tmp_path / "m", CPU)
    weight = read_checkpoint(tmp_path / "m", CPU)[0].classifier.weight
    assert not weight[:, [4, 16]].any() and (weight[1] != 0).sum() == 22 and not weight[0].any()


def test_a_fit_that_does_not_converge_is_said_in_log_and_history(
    tmp_path: Path, random_bags, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bags = random_bags(24)
    write_features(tmp_path / "f", bags)
    monkeypatch.setattr("wsi_mil.train.linear.MOST_STEPS", 1)
    settings = parse_model({"model": "mean_linear", "train": {"penalties": [0.001]}})
    train_fold(Fold(splits_of(bags), 0, tmp_path / "f", TASK), settings, tmp_path / "m", CPU)
    assert "the fit with the chosen penalty 0.001 did not converge" in caplog.text
    assert [row["converged"] for row in read_table(tmp_path / "m" / "history.csv")] == ["0"]


def test_it_is_fitted_from_bags_in_memory_too(random_bags) -> None:
    bags = random_bags(60)
    fitted = fitted_for(bags[:40], bags[40:50], {"model": "mean_linear"}, Classes.numbered(2))
    right = [(class_probs(fitted.model, item.bag)[1] > 0.5) == item.label for item in bags[50:]]
    assert np.mean(right) >= 0.8
    model = create_model(parse_base({"model": "mean_linear"}), feature_dim=12, n_classes=2)
    task = Classes.numbered(2)
    history, best = fit(model, BagSet.of(bags[:40]), BagSet.of(bags[40:50]), model.settings.train, task=task)
    assert len(history) == 7 and all(math.isnan(epoch.lr) for epoch in history)
    assert best == int(np.argmin([epoch.val_loss for epoch in history]))
    with pytest.raises(TypeError, match="MeanLinear cannot be fitted by Training"):
        fit(model, BagSet.of(bags[:4]), BagSet.of(bags[4:8]), Training(), task=task)


def test_a_card_of_it_is_read_again(tmp_path: Path) -> None:
    cohort = Trained(tmp_path, "discrete")
    card = read_card(trained(cohort, 2))
    assert card.settings == card.architecture == MEAN and isinstance(card.threshold, float)
