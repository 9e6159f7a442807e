import json

import numpy as np
import pytest
import torch

from wsi_mil.figures import cohort_figures
from wsi_mil.models import create_loss
from wsi_mil.tasks import Outcomes, Regression, Truth, read_shown_prediction, task_of_stamp

VALUES = np.array([0.0, 3.0, 15.0, 120.0, 7.5])
SHARES = np.array([0.02, 0.4, 0.97, 0.6, 0.11])


@pytest.mark.parametrize(("transform", "values"), [("none", VALUES), ("log1p", VALUES), ("logit", SHARES)])
def test_predictions_are_in_the_unit_of_the_column_and_losses_on_the_standardised_scale(
    transform: str, values: np.ndarray
) -> None:
    task = Regression(transform).fitted(Truth.of(values))
    learned = task.learned(values)
    assert learned.mean() == pytest.approx(0, abs=1e-12) and learned.std() == pytest.approx(1)
    outputs = task.outputs(torch.from_numpy(learned)[:, None])
    assert outputs[:, 0] == pytest.approx(values) and outputs[:, 1] == pytest.approx(learned)


def test_shares_of_zero_and_one_are_learned_as_those_next_to_them() -> None:
    task = Regression("logit")
    assert np.isfinite(task.transformed(np.array([0.0, 1.0]))).all()
    assert task.in_unit(np.array([-9000.0, 9000.0])).tolist() == [pytest.approx(0), pytest.approx(1)]


def test_a_training_part_of_equal_values_is_not_divided_by_zero() -> None:
    task = Regression().fitted(Truth.of(np.full(3, 4.0)))
    assert (task.mean, task.sd) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("squared", lambda d: d**2),
        ("absolute", abs),
        ("huber", lambda d: d**2 / 2 if abs(d) < 1 else abs(d) - 0.5),
    ],
)
def test_losses_are_those_of_their_formulas_in_training_and_validation(loss: str, formula) -> None:
    task = Regression("none", loss).fitted(Truth.of(VALUES))
    logits = torch.tensor([[0.3], [-2.0], [1.0], [2.2], [0.0]], dtype=torch.float64)
    distances = logits[:, 0].numpy() - (VALUES - VALUES.mean()) / VALUES.std()
    expected = sum(formula(d) for d in distances)
    found = create_loss(task, torch.empty(0))(logits, torch.from_numpy(task.learned(VALUES)))
    assert float(found) == pytest.approx(expected)
    assert task.validation_loss(logits, Truth.of(VALUES), np.empty(0)) == pytest.approx(expected / 5)


def test_folds_are_stratified_by_quantiles_of_patients() -> None:
    labels = {f"p{i:02}": [repr(float(i**2)), "0.0"] for i in range(12)}
    strata = Regression().strata(labels, least=3)
    assert [strata[f"p{i:02}"] for i in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [len(set(Regression().strata(labels, least=least).values())) for least in (5, 1)] == [2, 5]
    tied = Regression().strata({f"p{i}": ["0.0"] for i in range(10)}, least=5)
    assert sorted(tied.values()) == [0] * 5 + [1] * 5


def test_a_row_of_predictions_is_read_as_it_was_written() -> None:
    task = Regression("log1p").fitted(Truth.of(VALUES))
    prediction = task.prediction((2, 0), task.outputs(torch.tensor([[0.1], [0.7]])), [None, None])
    row = dict(zip(task.prediction_columns, task.prediction_cells(prediction, "3.0"), strict=True)) | {"label": "3.0"}
    outcomes = task.read_outcomes([row])
    assert outcomes.truth.tolist() == [3.0] and outcomes.outputs[0, 0] == pytest.approx(prediction.outputs[0], rel=1e-5)
    assert outcomes.predicted.shape == (1, 0) and prediction.predicted is None and prediction.threshold is None
    assert prediction.outputs[0] == pytest.approx(np.mean([fold[0] for fold in prediction.outputs_of_fold]))
    assert read_shown_prediction(row).value == outcomes.outputs[0, 0]


def test_the_stamp_gives_the_task_again_with_the_constants_of_its_training_part() -> None:
    fitted = Regression("log1p", "huber", name="tmb").fitted(Truth.of(VALUES))
    again = task_of_stamp(json.loads(json.dumps(fitted.stamp())))
    assert isinstance(again, Regression) and again == Regression("log1p", "huber")
    assert (again.mean, again.sd, again.name) == (fitted.mean, fitted.sd, "tmb")
    assert Regression("none").with_fitted(fitted).mean == fitted.mean


def test_the_figure_of_selection_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    task = Regression().fitted(Truth.of(VALUES))
    for logits, expected in ((task.learned(VALUES), 1), (np.zeros(5), 0)):
        outputs = task.outputs(torch.from_numpy(logits)[:, None])
        assert task.selection_figure(outputs, Truth.of(VALUES)) == pytest.approx(expected)
    assert np.isnan(task.selection_figure(outputs[:1], Truth.of(VALUES[:1])))


def test_figures_are_in_the_unit_of_the_column_and_have_intervals() -> None:
    truth, predicted = np.array([1.0, 2.0, 4.0, 9.0]), np.array([2.0, 2.0, 3.0, 7.0])
    outcomes = Outcomes(truth, np.stack([predicted, np.zeros(4)], axis=1), np.empty((4, 0), np.int64))
    figures = cohort_figures(Regression(), outcomes, [*"abcd"], {0: outcomes}, draws=200)
    assert figures["r2"] == pytest.approx(1 - 6 / 38)
    assert (figures["mae"], figures["rmse"]) == pytest.approx((1, np.sqrt(6 / 4)))
    assert figures["pearson"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    assert figures["spearman"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [1.5, 1.5, 3, 4])[0, 1])
    for name in Regression().point_figures(outcomes):
        low, high = figures[f"{name}_ci95"]
        assert low <= figures[name] <= high and figures["of_fold"]["0"][name] == figures[name]
    assert figures["quartiles"] == [1, 1.75, 3, 5.25, 9]
