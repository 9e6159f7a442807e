import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsi_mil.config import SurvivalTarget
from wsi_mil.figures import cohort_figures
from wsi_mil.models import HazardOutputs, create_loss, outputs_of
from wsi_mil.survival import breslow, brier_at
from wsi_mil.tasks import Outcomes, Survival, Truth, read_shown_prediction, task_of, task_of_stamp

TASK = Survival("discrete", n_intervals=3)
TIMES = ["2.0 1", "4.0 1", "6.0 1", "8.0 1", "10.0 1", "3.0 0", "20.0 0"]


def truth(labels: list[str], patients: list[str] | None = None) -> Truth:
    return Truth.of(TASK.encode(labels), patients)


def test_a_label_is_a_time_and_whether_the_event_was_observed() -> None:
    assert TASK.encode(["34.5 1", "2.0 0"]).tolist() == [[34.5, 1], [2.0, 0]]
    assert TASK.label_fault("34.5 1") == ""
    for wrong in ("34.5", "0.0 1", "-2.0 1", "34.5 2", "nan 1", "inf 0", ""):
        assert wrong in TASK.label_fault(wrong) and TASK.label_fault(wrong)


def test_edges_are_quantiles_of_the_times_of_events_one_time_a_patient() -> None:
    fitted = TASK.fitted(truth(TIMES))
    assert fitted.intervals is not None
    assert fitted.intervals.edges == pytest.approx(np.quantile([2, 4, 6, 8, 10], [1 / 3, 2 / 3])) and fitted.intervals.end == 20
    twice = TASK.fitted(truth([*TIMES, "2.0 1", "2.0 1"], [*"abcdefg", "a", "a"]))
    assert twice.intervals == fitted.intervals
    learned = fitted.learned(TASK.encode(["1.0 1", "4.0 0", "7.0 1", "99.0 0", "7.3333333333333339 1"]))
    assert learned.tolist() == [[0, 1], [0, 0], [1, 1], [2, 0], [2, 1]]


def test_times_that_are_tied_make_fewer_intervals_none_without_an_event() -> None:
    fitted = Survival("discrete", n_intervals=4).fitted(truth(["1.0 1", "1.0 1", "1.0 1", "5.0 1", "9.0 0"]))
    assert fitted.intervals is not None and fitted.n_outputs == fitted.intervals.n == 2
    assert set(fitted.learned(TASK.encode(["1.0 1", "5.0 1"]))[:, 0]) == {0, 1}


@pytest.mark.parametrize("uncensored_weight", [0.0, 0.3])
def test_the_discrete_likelihood_is_that_of_the_formula(uncensored_weight: float) -> None:
    task = Survival("discrete", 3, uncensored_weight).fitted(truth(TIMES))
    logits = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hazards = torch.sigmoid(logits).numpy()
    learned = task.learned(TASK.encode(TIMES))
    expected = 0.0
    for h, (y, event) in zip(hazards, learned.astype(int), strict=True):
        survived = np.cumprod(1 - h)  # survived[k] = P(T later than interval k)
        likelihood = h[y] * (survived[y - 1] if y else 1) if event else survived[y]
        expected -= np.log(likelihood) * (1 if event else 1 - uncensored_weight)
    found = create_loss(task, torch.empty(0))(logits, torch.from_numpy(learned))
    assert float(found) == pytest.approx(expected, abs=1e-12)
    assert task.validation_loss(logits, truth(TIMES), np.empty(0)) == pytest.approx(expected / 7, abs=1e-12)


def test_the_slides_of_a_patient_share_the_weight_of_one() -> None:
    weights = TASK.bag_weights(["a", "b", "a", "c", "a"])
    assert weights.mean() == pytest.approx(1) and weights[0] == weights[2] == weights[4] == pytest.approx(weights[1] / 3)


def test_the_risk_is_the_logarithm_of_the_cumulative_hazard_for_predictions_and_explanations_alike() -> None:
    task = TASK.fitted(truth(TIMES))
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.log(-torch.log(torch.prod(1 - torch.sigmoid(logits), dim=1)))
    assert np.allclose(task.outputs(logits)[:, 0], expected.numpy())
    outputs = outputs_of(task)
    assert isinstance(outputs, HazardOutputs) and torch.allclose(outputs.scalar(logits, 0), expected)
    calibrated = task.calibrated(task.outputs(logits), Truth.of(TASK.encode(TIMES[:5])))
    assert np.allclose(calibrated.outputs(logits)[:, 0], outputs_of(calibrated).scalar(logits, 0).numpy())
    assert calibrated.outputs(logits)[:, 0].mean() == pytest.approx(0)


def test_the_cutoff_is_the_median_risk_of_training_patients_not_of_their_slides() -> None:
    task = Survival("cox")
    outputs = task.outputs(torch.tensor([[0.0], [10.0], [10.0], [4.0], [1.0]]))
    labels = Survival("cox").encode(["1.0 1", "2.0 1", "2.0 1", "3.0 0", "2.0 1"])
    calibrated = task.calibrated(outputs, Truth.of(labels, ["a", "b", "b", "c", "b"]))
    assert (calibrated.centre, calibrated.cutoff) == pytest.approx(((0 + 7 + 4) / 3, 4 - 11 / 3))
    shown = calibrated.outputs(torch.tensor([[3.9], [4.0]]))
    assert [calibrated.predicted(row, calibrated.cutoff) for row in shown] == [0, 1]


def test_survival_at_the_end_of_an_interval_is_the_product_and_between_ends_it_falls_evenly() -> None:
    task = TASK.fitted(truth(TIMES))
    assert task.intervals is not None
    logits = np.array([[0.2, -1.0, 0.7]])
    h = 1 / (1 + np.exp(-logits[0]))
    first, second = task.intervals.edges
    times = np.array([0.0, first / 2, first, second, 20.0, 99.0])
    expected = [1, np.sqrt(1 - h[0]), 1 - h[0], (1 - h[0]) * (1 - h[1]), np.prod(1 - h), np.prod(1 - h)]
    assert task.intervals.survival(logits, times)[0] == pytest.approx(expected)


def test_folds_are_stratified_by_event_and_time() -> None:
    labels = {f"p{i:02}": [f"{i + 1}.0 {i % 3 > 0:d}"] for i in range(24)}
    strata = TASK.strata(labels, least=4)
    events = {patient for patient, (label,) in labels.items() if label.endswith("1")}
    assert {strata[p] for p in events}.isdisjoint({strata[p] for p in labels if p not in events})
    sizes = [list(strata.values()).count(stratum) for stratum in sorted(set(strata.values()))]
    assert sizes == [4, 4, 4, 4, 4, 4]
    of_events = sorted((float(labels[p][0].split()[0]), strata[p]) for p in events)
    assert [stratum for _, stratum in of_events] == sorted(stratum for _, stratum in of_events)


def test_a_few_censored_patients_are_no_stratum_of_their_own() -> None:
    labels = {f"p{i:02}": [f"{i + 1}.0 {i != 5:d}"] for i in range(12)}
    strata = TASK.strata(labels, least=3)
    assert min(list(strata.values()).count(s) for s in set(strata.values())) >= 3


def test_a_part_without_events_says_so() -> None:
    assert TASK.missing({"3.0 0"}) == "slide of a patient with an event; events are needed there" and not TASK.missing({"3.0 1"})
    assert TASK.groups_of(["3.0 0"]) == set() and TASK.groups_of(["3.0 1"]) == {0}


def test_the_stamp_gives_the_task_again_with_the_constants_of_its_training_part() -> None:
    fitted = TASK.fitted(truth(TIMES))
    fitted = fitted.calibrated(np.array([[0.5], [1.5]]), Truth.of(TASK.encode(TIMES[:2])))
    again = task_of_stamp(json.loads(json.dumps(fitted.stamp())))
    assert again == TASK and isinstance(again, Survival)
    assert (again.intervals, again.centre, again.cutoff) == (fitted.intervals, 1.0, 0.0)
    assert Survival("cox") != TASK and Survival("discrete", 3, 0.2) != TASK


def test_horizons_change_no_stamp_of_a_model_until_they_are_resolved() -> None:
    targets = [SurvivalTarget(kind="survival", time="t", event="e", horizons=h) for h in ((), (5.0,))]
    plain, given = (task_of(target) for target in targets)
    assert plain == given and plain.stamp() == given.stamp()
    assert given.resolved(truth(TIMES)).horizons == (5.0,)
    assert plain.resolved(truth(TIMES)).horizons == (4.0, 6.0, 8.0)


def test_folds_with_other_intervals_predict_at_the_same_horizons() -> None:
    resolved = TASK.resolved(truth(TIMES))
    early, late = (TASK.fitted(truth([f"{t * f:g} 1" for t in (1, 2, 3, 4)])) for f in (1, 5))
    logits = torch.zeros(1, 3)
    rows = [resolved.with_fitted(fold).outputs(logits) for fold in (early, late)]
    assert rows[0].shape == rows[1].shape == (1, 2 + 3) and (rows[1][0, 2:] > rows[0][0, 2:]).all()


def test_a_row_of_predictions_is_read_as_it_was_written() -> None:
    task = TASK.fitted(truth(TIMES)).resolved(truth(TIMES))
    logits = torch.tensor([[0.1, 0.2, 0.3], [1.0, 0.0, 2.0]])
    prediction = task.prediction((0, 1), task.outputs(logits), [0.0, 0.2])
    row = dict(zip(task.prediction_columns, task.prediction_cells(prediction, "4.5 0"), strict=True)) | {"label": "4.5 0"}
    assert (row["time"], row["event"], row["predicted"]) == ("4.5", "0", "high")
    outcomes = task.read_outcomes([row])
    assert outcomes.truth.tolist() == [[4.5, 0]] and outcomes.predicted.tolist() == [1]
    assert outcomes.outputs[0] == pytest.approx(prediction.outputs, abs=1e-6)
    assert read_shown_prediction(row).value == pytest.approx(prediction.outputs[0], abs=1e-6)


def test_figures_are_of_patients_whose_risk_is_the_mean_of_their_slides() -> None:
    task = Survival("cox")
    outputs = np.array([[3.0, 0.5], [1.0, 0.5], [-2.0, 0.5], [-1.0, 0.5]])
    labels = task.encode(["5.0 1", "9.0 0", "5.0 1", "5.0 1"])
    patients, rows = ["b", "a", "b", "b"], np.array([1, 1, 0, 0])
    outcomes, names = task.unit_outcomes(Outcomes(labels, outputs, rows), patients)
    assert names == ("a", "b") and outcomes.truth.tolist() == [[9, 0], [5, 1]]
    assert outcomes.outputs.tolist() == [[1, 0.5], [0, 0.5]] and outcomes.predicted.tolist() == [1, 0]


def test_extreme_logits_keep_a_finite_loss_and_gradient() -> None:
    task = TASK.fitted(truth(TIMES))
    logits = torch.tensor([[80.0, -90.0, 70.0]] * 7, requires_grad=True)
    loss = create_loss(task, torch.empty(0))(logits, torch.from_numpy(task.learned(TASK.encode(TIMES))))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert torch.isfinite(functional.softplus(logits)).all()


def test_cox_predicts_survival_by_the_baseline_hazard_of_training_patients_whatever_their_number_of_slides() -> None:
    task = Survival("cox", configured_horizons=(7.0, 3.0)).resolved(truth(TIMES))
    logits = torch.tensor([[1.0], [3.0], [0.5], [2.0], [-1.0], [0.0], [-4.0], [5.0]], dtype=torch.float64)
    labels, patients = task.encode([*TIMES, "2.0 1"]), [*"abcdefg", "a"]
    trained = task.calibrated(task.outputs(logits), Truth.of(labels, patients))
    risk = np.array([3.0, 3.0, 0.5, 2.0, -1.0, 0.0, -4.0])
    of_patient = task.encode(TIMES)
    baseline = breslow(of_patient[:, 0], of_patient[:, 1] == 1, risk)
    new = torch.tensor([[0.7], [-2.0]], dtype=torch.float64)
    assert trained.horizons == (3.0, 7.0)
    expected = baseline.survival(np.array([0.7, -2.0]), np.array([3.0, 7.0]))
    assert trained.outputs(new)[:, 2:] == pytest.approx(expected)
    again = task.with_fitted(task_of_stamp(json.loads(json.dumps(trained.stamp()))))
    assert again.outputs(new)[:, 2:] == pytest.approx(expected)


def test_the_figure_of_selection_is_the_concordance_of_patients() -> None:
    labels = Truth.of(TASK.encode(["5.0 1", "5.0 1", "7.0 0", "9.0 1"]), ["a", "a", "b", "c"])
    outputs = np.array([[9.0, 0], [-7.0, 0], [2.0, 0], [0.0, 0]])  # risks of patients: 1, 2, 0
    assert TASK.selection_figure(outputs, labels) == pytest.approx(1 / 2)
    assert np.isnan(TASK.selection_figure(outputs[2:3], Truth.of(TASK.encode(["7.0 0"]))))


def test_figures_by_hand() -> None:
    task = Survival("cox", configured_horizons=(4.0, 6.0)).resolved(truth(TIMES))
    labels = task.encode(["2.0 1", "4.0 1", "6.0 1", "8.0 1", "10.0 1"])
    risk, survival = np.array([3.0, 1.0, 2.0, 0.0, -1.0]), np.array([[0.1, 0.0], [0.6, 0.2], [0.7, 0.4], [0.9, 0.8], [1, 0.9]])
    outputs = np.column_stack([risk, np.full(5, 1.5), survival])
    figures = task.point_figures(Outcomes(labels, outputs, (risk >= 1.5).astype(int)))
    assert list(figures) == ["c_harrell", "c_uno", "auc_4", "auc_6", "integrated_brier"]
    assert figures["c_harrell"] == pytest.approx(9 / 10)
    assert figures["c_uno"] == pytest.approx(6 / 7)  # pairs whose first event is before 6
    assert (figures["auc_4"], figures["auc_6"]) == pytest.approx((5 / 6, 1))
    at_4 = (0.1**2 + 0.6**2 + 0.3**2 + 0.1**2 + 0) / 5
    at_6 = (0 + 0.2**2 + 0.4**2 + 0.2**2 + 0.1**2) / 5
    assert figures["integrated_brier"] == pytest.approx((at_4 + at_6) / 2)
    assert at_6 == pytest.approx(brier_at(labels[:, 0], labels[:, 1] == 1, survival[:, 1], 6.0))


def test_figures_of_a_cohort_are_of_patients_and_have_intervals() -> None:
    rng = np.random.default_rng(3)
    risk = rng.normal(size=30)
    time = np.round(rng.exponential(np.exp(-risk)) + 0.05, 2)
    labels = np.column_stack([time, (rng.random(30) < 0.7).astype(float)])
    task = Survival("cox").resolved(Truth.of(labels))
    patients = [f"p{i:02}" for i in range(30)]
    outputs = np.column_stack([risk, np.zeros(30), np.exp(-np.exp(risk)[:, None] * np.array(task.horizons))])
    whole = Outcomes(labels, outputs, (risk >= 0).astype(int))
    both = Outcomes(*(np.repeat(values, 2, axis=0) for values in (labels, outputs, whole.predicted)))
    both.outputs[:, 0] += np.tile([1.0, -1.0], 30)
    once, twice = (
        cohort_figures(task, o, p, {0: whole}, draws=50) for o, p in ((whole, patients), (both, list(np.repeat(patients, 2))))
    )
    assert (once["n_bags"], twice["n_bags"], twice["n_patients"]) == (30, 60, 30)
    for name in [*task.point_figures(whole), "hazard_ratio", "logrank_p", "n_high_risk"]:
        assert twice[name] == pytest.approx(once[name]), name
        if f"{name}_ci95" in once:
            low, high = once[f"{name}_ci95"]
            assert low < once[name] < high, name
    assert once["risk_groups"]["high"]["n"] == once["n_high_risk"] == (risk >= 0).sum()
    assert once["hazard_ratio"] > 1 and 0.5 < once["c_harrell"] < 1
