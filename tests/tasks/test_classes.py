import numpy as np
import pytest
import torch

from wsi_mil.records import SlidePrediction
from wsi_mil.report.registry import report_of
from wsi_mil.tasks import Classes, Outcomes, Truth, read_shown_prediction, task_of_stamp

TWO, THREE = Classes(("normal", "tumour")), Classes(("a", "b", "c"))


def test_labels_are_encoded_in_the_order_of_the_classes_and_others_are_faults() -> None:
    assert THREE.encode(THREE.label_values).tolist() == [0, 1, 2]
    assert THREE.label_fault("b") == "" and "label 'd' is not in classes" in THREE.label_fault("d")


def test_a_patient_belongs_to_the_most_positive_stratum_of_its_slides() -> None:
    labels = {"p": ["tumour", "normal"], "q": ["tumour"], "r": ["normal"]}
    assert TWO.strata(labels, least=9) == {"p": 1, "q": 1, "r": 0} and TWO.groups_of(labels["p"]) == {1}
    assert THREE.in_order({"c", "a"}) == ("a", "c") and THREE.groups[2] == "class 'c'"


def test_certain_predictions_keep_their_order_in_the_table() -> None:
    rows = []
    for rest in (3e-8, 2e-8, 1e-8):
        prediction = SlidePrediction((0,), (rest, 1 - rest), 0.5, 1, (), ())
        rows.append(
            dict(zip(TWO.prediction_columns, TWO.prediction_cells(prediction, "tumour"), strict=True)) | {"label": "tumour"}
        )
    read = TWO.read_outcomes(rows).outputs
    assert np.all(np.diff(read[:, 1]) > 0) and np.all(np.diff(read[:, 0]) < 0)


def test_a_part_that_lacks_classes_names_them() -> None:
    assert THREE.missing({"b"}) == "slide of class 'a', 'c'; every class is needed there" and THREE.missing({"a", "b", "c"}) == ""


def test_loss_weights_balance_the_classes_and_keep_the_mean_over_bags_at_one() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = THREE.loss_weights(labels, balanced=True)
    assert weights.tolist() == pytest.approx([6 / 9, 2, 1]) and weights[labels].mean() == pytest.approx(1)
    assert THREE.loss_weights(labels, balanced=False).tolist() == [1, 1, 1]


def test_outputs_are_probabilities_and_the_validation_loss_is_that_of_torch() -> None:
    logits, truth = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), np.array([2, 1])
    weights = THREE.loss_weights(np.array([0, 1, 1, 2]), balanced=True)
    probs = THREE.outputs(logits)
    assert probs.dtype == np.float64 and probs.sum(axis=1) == pytest.approx(1)
    expected = torch.nn.functional.cross_entropy(
        logits.double(), torch.from_numpy(truth), weight=torch.from_numpy(weights).double(), reduction="sum"
    )
    assert THREE.validation_loss(logits, Truth.of(truth), weights) == pytest.approx(float(expected) / 2)


def test_a_prediction_is_the_mean_of_folds_and_its_threshold_theirs() -> None:
    outputs = np.array([[0.7, 0.3], [0.2, 0.8]])
    prediction = TWO.prediction((1, 4), outputs, [0.2, 0.6])
    assert prediction.outputs == pytest.approx((0.45, 0.55)) and prediction.threshold == pytest.approx(0.4)
    assert prediction.predicted == 1 and prediction.predicted_of_fold == (1, 1) and prediction.folds == (1, 4)
    assert TWO.explained(prediction) == (1,) and TWO.is_predicted(prediction, 1) and not TWO.is_predicted(prediction, 0)
    of_three = THREE.prediction((0,), np.array([[0.2, 0.5, 0.3]]), [None])
    assert of_three.threshold is None and THREE.explained(of_three) == (of_three.predicted,) == (1,)


def test_a_row_of_predictions_is_read_as_it_was_written() -> None:
    prediction = TWO.prediction((0,), np.array([[0.25, 0.75]]), [0.5])
    row = dict(zip(TWO.prediction_columns, TWO.prediction_cells(prediction, "normal"), strict=True)) | {"label": "normal"}
    outcomes = TWO.read_outcomes([row])
    assert (outcomes.truth.tolist(), outcomes.predicted.tolist()) == ([0], [1])
    assert outcomes.outputs.tolist() == [[0.25, 0.75]]
    shown = read_shown_prediction(row)
    assert (shown.value, shown.of, shown.threshold, shown.predicted) == (0.75, "tumour", 0.5, "tumour")
    assert report_of(TWO).is_wrong(row, "normal") and not report_of(TWO).is_wrong(row, "")


def test_of_more_classes_the_predicted_one_is_shown_and_of_none_nothing() -> None:
    prediction = THREE.prediction((0,), np.array([[0.2, 0.5, 0.3]]), [None])
    shown = read_shown_prediction(dict(zip(THREE.prediction_columns, THREE.prediction_cells(prediction, "c"), strict=True)))
    assert (shown.value, shown.of, shown.threshold) == (0.5, "b", None)
    assert read_shown_prediction({}).value is None and read_shown_prediction({}).predicted == ""


def test_evidence_is_looked_for_where_the_label_can_have_any() -> None:
    assert TWO.lacks_evidence("normal") and not TWO.lacks_evidence("tumour")
    assert not any(THREE.lacks_evidence(name) for name in THREE.names)
    assert THREE.lacks_evidence("a", ["a"]) and not THREE.lacks_evidence("b", ["a"]) and TWO.lacks_evidence("normal", ["a"])
    assert THREE.is_of("b", 1) and not THREE.is_of("b", 2) and not TWO.is_of("tumour", 0)


def test_the_stamp_gives_the_task_again() -> None:
    assert task_of_stamp({"other": 1, **THREE.stamp()}) == THREE
    with pytest.raises(KeyError):
        task_of_stamp({})


def test_figures_need_both_classes_and_the_first_is_the_main_one() -> None:
    truth, probs = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    figures = TWO.point_figures(Outcomes(truth, probs, (probs[:, 1] >= 0.5).astype(int)))
    assert next(iter(figures)) == report_of(TWO).main_figure == "auroc"
    assert figures["auroc"] == 1 and figures["accuracy"] == pytest.approx(2 / 3)
    alone = TWO.point_figures(Outcomes(truth[1:], probs[1:], np.array([0, 1])))
    assert np.isnan(alone["auroc"]) and alone["accuracy"] == 0.5
