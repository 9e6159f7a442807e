"""Survival: time to an event, or to the end of follow-up, of each patient."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import SurvivalLoss
from wsi_mil.records import SlidePrediction, Threshold
from wsi_mil.survival import (
    BaselineHazard,
    auc_at,
    breslow,
    group_figures,
    harrell_c,
    integrated_brier,
    uno_c,
)
from wsi_mil.tasks.base import (
    Labels,
    Outcomes,
    ShownPrediction,
    Task,
    Truth,
    finite_cell,
    mean_by_patient,
    one_index,
    one_number,
)
from wsi_mil.tasks.hazards import Intervals
from wsi_mil.tasks.partial_likelihood import partial_likelihood
from wsi_mil.tasks.strata import quantile_strata

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

MOST_STRATA = 4
"""Folds are stratified by quarters of the times of patients with an event, and of those without; fewer in small cohorts."""
GROUPS = ("low", "high")
"""Names of the groups of lower and of higher risk, in `predictions.csv`."""
SURVIVAL_PREFIX = "survival_"
"""Prefix of columns with probabilities of no event until a time."""
AUC_PREFIX = "auc_"
"""Prefix of the AUC at a time."""


@dataclass(frozen=True)
class Survival(Task):
    """Risk of an event, learned from times of which some are censored.

    A label text is a time, a space, and 1 if the event was observed then or 0 if follow-up ended: "34.5 1".

    Attributes:
        loss: "discrete" (hazards of intervals) or "cox" (partial likelihood).
        n_intervals: number of intervals, at most.
        uncensored_weight: share of the discrete loss that is computed from patients with an event only.
        configured_horizons: times for figures, from the configuration.
        horizons: times for which probabilities are predicted; () until they are resolved.
        intervals: intervals of time, from the training part.
        centre: mean log risk of the training part, which predicted risks are relative to.
        cutoff: their median, from which on a risk is high, relative to `centre`.
        baseline: hazard of a patient whose risk is `centre`, of Cox's model; None until it is calibrated.
    """

    loss: SurvivalLoss = "discrete"
    n_intervals: int = 4
    uncensored_weight: float = 0.0
    configured_horizons: tuple[float, ...] = field(default=(), compare=False)
    horizons: tuple[float, ...] = field(default=(), compare=False)
    intervals: Intervals | None = field(default=None, compare=False)
    centre: float = field(default=0.0, compare=False)
    cutoff: float = field(default=0.0, compare=False)
    baseline: BaselineHazard | None = field(default=None, compare=False)

    kind: ClassVar[str] = "survival"
    figure_name: ClassVar[str] = "c_harrell"
    figure_label: ClassVar[str] = "C"
    is_of_patient: ClassVar[bool] = True
    is_judged_on_training: ClassVar[bool] = True
    loss_shows_confidence: ClassVar[bool] = False

    @property
    def label_values(self) -> tuple[str, ...]:
        return ()

    def label_fault(self, text: str) -> str:
        time, _, event = text.partition(" ")
        is_valid = (finite_cell(time) or 0) > 0 and event in ("0", "1")
        return "" if is_valid else f"label {text!r} is not a time above zero and 1 or 0"

    def encode(self, labels: Sequence[str]) -> Array:
        """Return float64 `(n, 2)`: time, and 1 for an event or 0."""
        return np.array([[float(part) for part in text.split(" ")] for text in labels], np.float64).reshape(-1, 2)

    @property
    def groups(self) -> tuple[str, ...]:
        return ("the group with an event",)

    def groups_of(self, labels: Iterable[str]) -> frozenset[int]:
        return frozenset([0] if self.encode(list(labels))[:, 1].any() else [])

    def strata(self, labels: Mapping[str, Sequence[str]], *, least: int) -> dict[str, int]:
        """Return by event and by part of the times the stratum of each patient; too few censored ones are not set apart."""
        patients = sorted(labels)
        encoded = np.array([self.encode(labels[patient])[0] for patient in patients])
        time, event = encoded[:, 0], encoded[:, 1] == 1
        strata = quantile_strata(time, least, MOST_STRATA)
        if min(event.sum(), (~event).sum()) >= least:
            strata[event] = quantile_strata(time[event], least, MOST_STRATA)
            strata[~event] = MOST_STRATA + quantile_strata(time[~event], least, MOST_STRATA)
        return dict(zip(patients, strata.tolist(), strict=True))

    def missing(self, labels: Collection[str]) -> str:
        has_event = any(self.groups_of([text]) for text in labels)
        return "" if has_event else "slide of a patient with an event; events are needed there"

    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted(labels, key=lambda text: tuple(self.encode([text])[0])))

    def fitted(self, truth: Truth) -> "Survival":
        """Return the task with intervals between quantiles of the times at which events were observed, one time a patient."""
        if self.loss == "cox":
            return self
        of_patient = mean_by_patient(truth.labels, truth.patients)
        return replace(self, intervals=Intervals.of(of_patient[:, 0], of_patient[:, 1] == 1, self.n_intervals))

    def with_fitted(self, other: Task) -> "Survival":
        assert isinstance(other, Survival)
        return replace(self, intervals=other.intervals, centre=other.centre, cutoff=other.cutoff, baseline=other.baseline)

    def resolved(self, truth: Truth) -> "Survival":
        """Return the task with the configured horizons, or else the quartiles of the times at which events were observed."""
        of_patient = mean_by_patient(truth.labels, truth.patients)
        times = of_patient[of_patient[:, 1] == 1, 0]
        quartiles = np.unique(np.quantile(times, [0.25, 0.5, 0.75])).tolist() if len(times) else []
        return replace(self, horizons=tuple(sorted(set(self.configured_horizons))) or tuple(quartiles))

    def learned(self, labels: Labels) -> Labels:
        """Return `(n, 2)`: the interval of the time, of the discrete loss, or else the time; and 1 for an event or 0."""
        if self.intervals is None:
            return labels
        return np.stack([self.intervals.of_times(labels[:, 0]).astype(np.float64), labels[:, 1]], axis=1)

    @property
    def is_learned_at_once(self) -> bool:
        return self.loss == "cox"

    @property
    def n_outputs(self) -> int:
        if self.loss == "cox":
            return 1
        return self.intervals.n if self.intervals is not None else self.n_intervals

    def outputs(self, logits: "Tensor") -> Array:
        """Return `(n, 2 + n_horizons)`: log risk, cut-off between risk groups, and probability of no event until each horizon."""
        values = logits.double().cpu().numpy()
        risk = values[:, 0] if self.intervals is None else self.intervals.log_risk(values)
        risk = risk - self.centre
        return np.column_stack([risk, np.full(len(risk), self.cutoff), self._survival(values, risk)])

    def validation_loss(self, logits: "Tensor", truth: Truth, weights: NDArray[np.float32]) -> float:
        """Return the mean negative log-likelihood of patients, of Cox's model the partial one per event."""
        values = logits.double().cpu().numpy()
        if self.intervals is None:
            of_patient = mean_by_patient(truth.labels, truth.patients)
            risks = mean_by_patient(values[:, 0], truth.patients)
            return partial_likelihood(risks, of_patient[:, 0], of_patient[:, 1] == 1)[0]
        losses = self.intervals.losses(values, self.learned(truth.labels), self.uncensored_weight)
        return float((losses * self.bag_weights(truth.patients)).mean())

    def selection_figure(self, outputs: Array, truth: Truth) -> float:
        """Return Harrell's C of patients."""
        of_patient = mean_by_patient(truth.labels, truth.patients)
        return harrell_c(of_patient[:, 0], of_patient[:, 1] == 1, mean_by_patient(outputs[:, 0], truth.patients))

    def rarest(self, truth: Truth) -> int:
        """Return the number of patients with an event."""
        return int(mean_by_patient(truth.labels, truth.patients)[:, 1].sum())

    def calibrated(self, outputs: Array, truth: Truth) -> "Survival":
        """Return the task with mean and median of the training patients' risks, and for Cox's model their baseline hazard."""
        risks, of_patient = mean_by_patient(outputs[:, 0], truth.patients), mean_by_patient(truth.labels, truth.patients)
        mean = float(risks.mean())
        is_cox = self.loss == "cox"
        baseline = breslow(of_patient[:, 0], of_patient[:, 1] == 1, risks - mean) if is_cox else None
        return replace(self, centre=mean, cutoff=float(np.median(risks)) - mean, baseline=baseline)

    def threshold(self, outputs: Array, truth: Truth) -> float:
        """Return the cut-off between risk groups, which is from the training part."""
        return self.cutoff

    def validation_figures(self, outputs: Array, truth: Truth, threshold: Threshold) -> dict[str, float]:
        """Return the numbers of patients and of events."""
        return {"n_patients": float(len(set(truth.patients))), "n_events": float(self.rarest(truth))}

    def predicted(self, outputs: Array, threshold: Threshold) -> int:
        """Return 1 for the group of higher risk, from the cut-off on."""
        return int(outputs[0] >= outputs[1])

    def unit_outcomes(self, outcomes: Outcomes, patients: Sequence[str]) -> tuple[Outcomes, tuple[str, ...]]:
        """Return outcomes of patients, whose risk is the mean of their slides'."""
        truth, outputs = (mean_by_patient(values, patients) for values in (outcomes.truth, outcomes.outputs))
        predicted = np.array([self.predicted(row, None) for row in outputs], np.int64)
        return Outcomes(truth, outputs, predicted), tuple(sorted(set(patients)))

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        return ("time", "event", "risk", "cutoff", "predicted", *(f"{SURVIVAL_PREFIX}{horizon:g}" for horizon in self.horizons))

    def prediction_cells(self, prediction: SlidePrediction, label: str) -> tuple[str, ...]:
        time, _, event = label.partition(" ")
        numbers = [f"{value:.6f}" for value in prediction.outputs]
        return (time, event, *numbers[:2], GROUPS[one_index(prediction.predicted)], *numbers[2:])

    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        names = ["risk", "cutoff", *self.prediction_columns[5:]]
        outputs = np.array([[float(row[name]) for name in names] for row in rows], np.float64).reshape(len(rows), len(names))
        predicted = np.array([GROUPS.index(row["predicted"]) for row in rows], np.int64)
        return Outcomes(self.encode([row["label"] for row in rows]), outputs, predicted)

    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return concordance, the AUC at each horizon, and the integrated Brier score where there are horizons."""
        time, event, risk = outcomes.truth[:, 0], outcomes.truth[:, 1] == 1, outcomes.outputs[:, 0]
        figures = {"c_harrell": harrell_c(time, event, risk)}
        if not self.horizons:
            return figures | {"c_uno": uno_c(time, event, risk)}
        return {
            **figures,
            "c_uno": uno_c(time, event, risk, tau=self.horizons[-1]),
            **{f"{AUC_PREFIX}{horizon:g}": auc_at(time, event, risk, horizon) for horizon in self.horizons},
            "integrated_brier": integrated_brier(time, event, outcomes.outputs[:, 2:], np.array(self.horizons)),
        }

    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return counts, and how the group of higher risk fared compared with the other."""
        time, event, is_high = outcomes.truth[:, 0], outcomes.truth[:, 1] == 1, outcomes.predicted == 1
        counts = {"n_events": int(event.sum()), "n_high_risk": int(is_high.sum())}
        return {**counts, **group_figures(time, event, is_high)}

    def explained(self, prediction: SlidePrediction) -> tuple[int, ...]:
        return (0,)

    def explained_value(self, prediction: SlidePrediction, output: int) -> float:
        """Return the log risk."""
        return prediction.outputs[0]

    def output_name(self, output: int) -> str:
        return "risk"

    def quantity(self, output: int) -> str:
        return "the log hazard ratio against the cohort's mean"

    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        """Return True: a risk is always predicted."""
        return True

    def threshold_of(self, threshold: Threshold, output: int) -> float | None:
        return one_number(threshold)

    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        risk, cutoff = (round(value, 6) for value in prediction.outputs[:2])
        return {"risk": risk, "cutoff": cutoff, "predicted": prediction.predicted}

    def label_words(self, label: str) -> str:
        time, _, event = label.partition(" ")
        return f"{'event' if event == '1' else 'censored'} at {float(time):g}"

    def lacks_evidence(self, label: str, healthy: Collection[str] = ()) -> bool:
        return False

    def title_parts(self, receipt: Mapping[str, Any], output: int) -> list[str]:
        risk, cutoff = (f"{receipt[name]:.2f}".replace("-", "−") for name in ("risk", "cutoff"))
        return [f"log hazard ratio {risk}", f"{GROUPS[receipt['predicted']]} risk (cut-off {cutoff})"]

    def explained_in(self, receipt: Mapping[str, Any], output: int) -> tuple[None, bool]:
        return None, True

    def settings(self) -> dict[str, object]:
        fitted: dict[str, object] = {"centre": self.centre, "cutoff": self.cutoff}
        if self.intervals is not None:
            fitted |= {"intervals": self.intervals.values()}
        if self.baseline is not None:
            fitted |= {"baseline": self.baseline.values()}
        resolved = {"horizons": list(self.horizons)} if self.horizons else {}
        about = {"loss": self.loss, "intervals": self.n_intervals, "uncensored_weight": self.uncensored_weight}
        return {**about, **resolved, "fitted": fitted}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Survival":
        fitted = settings["fitted"]
        return cls(
            settings["loss"],
            settings["intervals"],
            settings["uncensored_weight"],
            horizons=tuple(settings.get("horizons", ())),
            intervals=Intervals.of_values(fitted["intervals"]) if "intervals" in fitted else None,
            centre=fitted["centre"],
            cutoff=fitted["cutoff"],
            baseline=BaselineHazard.of_values(fitted["baseline"]) if "baseline" in fitted else None,
        )

    def __str__(self) -> str:
        return f"survival (loss {self.loss})"

    def _survival(self, logits: Array, risk: Array) -> Array:
        """Probability of no event until each horizon `(n, n_horizons)`; NaN before Cox's model has a baseline."""
        horizons = np.array(self.horizons, np.float64)
        if self.intervals is not None:
            return self.intervals.survival(logits, horizons)
        if self.baseline is None:
            return np.full((len(risk), len(horizons)), np.nan)
        return self.baseline.survival(risk, horizons)


def shown_risk(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display."""
    return ShownPrediction(finite_cell(row["risk"]), "risk", finite_cell(row["cutoff"]), row["predicted"])
