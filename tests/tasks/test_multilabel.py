import json

import numpy as np
import pytest
import torch

from wsi_mil.figures import cohort_figures
from wsi_mil.models import create_loss
from wsi_mil.tasks import Classes, Multilabel, Outcomes, Truth, read_shown_prediction, task_of_stamp

TASK = Multilabel(("er", "pr", "her2"))
LABELS = ["1 0 ?", "0 0 1", "1 ? 0", "0 1 0", "1 1 ?", "0 0 0"]


def test_a_label_has_a_value_for_each_and_unknown_ones_are_nan() -> None:
    assert np.array_equal(TASK.encode(["1 0 ?"]), [[1, 0, np.nan]], equal_nan=True) and TASK.label_fault("1 0 ?") == ""
    for wrong in ("1 0", "1 0 2", "? ? ?", "1  0 1", ""):
        assert f"{wrong!r}" in TASK.label_fault(wrong)


def test_an_unknown_label_adds_nothing_to_loss_or_gradient() -> None:
    labels = torch.from_numpy(TASK.encode(LABELS))
    loss = create_loss(TASK, torch.ones(2, 3))
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss(logits, labels).backward()
    assert ((logits.grad == 0) == labels.isnan()).all()
    moved = logits.detach() + 5 * labels.isnan()
    assert float(loss(moved, labels)) == float(loss(logits.detach(), labels))


def test_the_loss_is_that_of_the_formula_with_weights_by_label_and_value() -> None:
    truth = Truth.of(TASK.encode(LABELS))
    weights = TASK.loss_weights(truth.labels, balanced=True)
    assert weights == pytest.approx(np.array([[1, 5 / 6, 4 / 6], [1, 5 / 4, 4 / 2]]))
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = 0.0
    for z, row in zip(torch.sigmoid(logits).numpy(), truth.labels, strict=True):
        for i, y in enumerate(row):
            if not np.isnan(y):
                expected -= weights[int(y), i] * np.log(z[i] if y else 1 - z[i]) / 3
    found = create_loss(TASK, torch.from_numpy(weights))(logits, torch.from_numpy(truth.labels))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert TASK.validation_loss(logits, truth, weights) == pytest.approx(expected / 6)
    assert TASK.loss_weights(truth.labels, balanced=False).tolist() == [[1] * 3] * 2


def test_each_label_has_its_own_threshold_from_the_bags_where_it_is_known() -> None:
    outputs = np.array([[0.9, 0.1, 0.9], [0.2, 0.3, 0.2], [0.6, 0.9, 0.1], [0.3, 0.8, 0.1], [0.7, 0.9, 0.9], [0.1, 0.1, 0.1]])
    threshold = TASK.threshold(outputs, Truth.of(TASK.encode(LABELS)))
    assert threshold == pytest.approx((0.45, 0.55, 0.15)) and TASK.predicted(outputs[2], threshold) == (1, 1, 0)
    assert TASK.threshold(outputs, Truth.of(np.full((6, 3), np.nan))) == (0.5, 0.5, 0.5)


def test_labels_predicted_positive_are_explained_the_most_probable_first_and_without_one_the_most_probable() -> None:
    outputs, threshold = np.array([[0.6, 0.2, 0.9]]), (0.5, 0.5, 0.5)
    assert TASK.explained(TASK.prediction((0,), outputs, [threshold])) == (2, 0)
    assert TASK.explained(TASK.prediction((0,), outputs / 3, [threshold])) == (2,)


def test_a_prediction_is_the_mean_of_folds_label_by_label_and_is_read_as_it_was_written() -> None:
    prediction = TASK.prediction((1, 2), np.array([[0.4, 0.2, 1.0], [0.8, 0.0, 0.0]]), [(0.4, 0.3, 0.2), (0.6, 0.5, 0.4)])
    assert prediction.outputs == pytest.approx((0.6, 0.1, 0.5)) and prediction.threshold == pytest.approx((0.5, 0.4, 0.3))
    assert prediction.predicted == (1, 0, 1) and prediction.predicted_of_fold == ((1, 0, 1), (1, 0, 0))
    row = dict(zip(TASK.prediction_columns, TASK.prediction_cells(prediction, "1 ? 0"), strict=True)) | {"label": "1 ? 0"}
    outcomes = TASK.read_outcomes([row])
    assert outcomes.outputs.tolist() == [[0.6, 0.1, 0.5]] and outcomes.predicted.tolist() == [[1, 0, 1]]
    shown = read_shown_prediction(row)
    assert (shown.value, shown.of, shown.threshold, shown.predicted) == (0.6, "er", 0.5, "er, her2")


def test_figures_are_of_known_labels_and_their_mean_and_are_written_by_label() -> None:
    truth = TASK.encode(LABELS)
    outputs = np.where(np.isnan(truth), 0.99, 0.25 + truth / 2)
    outputs[1, 0] = 0.8  # one negative ranks above all positive ones
    figures = TASK.point_figures(Outcomes(truth, outputs, (outputs >= 0.5).astype(int)))
    assert (figures["er/auroc"], figures["pr/auroc"], figures["her2/auroc"]) == (pytest.approx(2 / 3), 1, 1)
    assert next(iter(figures)) == "auroc" and figures["auroc"] == pytest.approx(8 / 9)
    arranged = TASK.arranged({**figures, "fold_mean": {"auroc": 0.5, "er/auroc": 0.4}})
    assert arranged["of_label"]["er"]["auroc"] == pytest.approx(2 / 3)
    assert arranged["fold_mean"] == {"auroc": 0.5, "of_label": {"er": {"auroc": 0.4}}}
    assert TASK.summary(Outcomes(truth, outputs, outputs))["n_of_label"]["her2"] == {"negative": 3, "positive": 1, "unknown": 2}


def test_folds_spread_the_rarest_values_and_leave_no_stratum_of_a_few() -> None:
    rng = np.random.default_rng(0)
    labels = {f"p{i:02}": [" ".join("1" if rng.random() < p else "0" for p in (0.4, 0.3, 0.15))] for i in range(60)}
    strata = TASK.strata(labels, least=5)
    sizes = [list(strata.values()).count(stratum) for stratum in set(strata.values())]
    assert min(sizes) >= 5 and len(sizes) > 2
    groups = {patient: TASK.groups_of(own) for patient, own in labels.items()}
    rarest = min(range(6), key=lambda index: sum(index in own for own in groups.values()))
    assert {patient for patient, own in groups.items() if rarest in own} == {p for p, own in strata.items() if own == rarest}


def test_a_patient_is_positive_if_one_of_its_slides_is() -> None:
    assert TASK.groups_of(["0 0 ?", "1 ? ?"]) == {1, 2}
    assert TASK.groups[1] == "label 'er', positive," and TASK.groups[2] == "label 'pr', negative,"


def test_a_part_that_lacks_values_names_them() -> None:
    assert TASK.missing(LABELS) == ""
    absent = "slide of label 'pr', positive; label 'her2', negative; every label needs both there"
    assert TASK.missing({"1 0 ?", "0 ? 1"}) == absent


def test_evidence_is_looked_for_where_the_label_is_positive() -> None:
    assert TASK.lacks_evidence("0 0 0") and not TASK.lacks_evidence("0 ? 0")
    assert TASK.is_of("1 0 ?", 0) and not TASK.is_of("1 0 ?", 1) and not TASK.is_of("1 0 ?", 2)


def test_the_stamp_gives_the_task_again_and_the_order_of_labels_counts() -> None:
    assert task_of_stamp(json.loads(json.dumps(TASK.stamp()))) == TASK != Multilabel(("pr", "er", "her2"))


def test_the_figures_of_each_label_have_intervals_over_the_patients_of_whom_it_is_known() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((40, 3)) < 0.5).astype(float)
    truth[rng.random((40, 3)) < 0.2] = np.nan
    outputs = np.clip(np.where(truth == 1, 0.65, 0.35) + rng.normal(size=(40, 3)) / 4, 0.01, 0.99)
    outcomes = Outcomes(truth, outputs, (outputs >= 0.5).astype(int))
    patients = [f"p{i:02}" for i in range(40)]
    figures = cohort_figures(TASK, outcomes, patients, {0: outcomes}, draws=100)
    known = ~np.isnan(truth[:, 1])
    two = Classes.numbered(2)
    own = np.stack([1 - outputs[known, 1], outputs[known, 1]], axis=1)
    alone = two.point_figures(Outcomes(truth[known, 1].astype(int), own, outcomes.predicted[known, 1]))
    of_pr = figures["of_label"]["pr"]
    assert {name: of_pr[name] for name in alone} == pytest.approx(alone)
    assert all(of_pr[f"{n}_ci95"][0] < of_pr[n] < of_pr[f"{n}_ci95"][1] for n in ("auroc", "auprc", "accuracy", "brier"))
    assert figures["auroc"] == pytest.approx(np.mean([own["auroc"] for own in figures["of_label"].values()]))
    assert figures["of_fold"]["0"]["of_label"]["her2"]["f1"] == figures["of_label"]["her2"]["f1"]
    assert set(figures["fold_mean"]["of_label"]) == set(TASK.names)
