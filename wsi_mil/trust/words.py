"""The trust line of a slide and method, as pictures, files, pages and galleries show it. Nothing else words it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsi_mil.config import is_fine, method_of, usual_name
from wsi_mil.tasks import task_of_stamp
from wsi_mil.trust.verdicts import AS_PUBLISHED, CHOOSING, HELD_OUT, VALIDATION, Trust, Verdict

NOT_INTERPRETED = "not to be interpreted"
NOT_RUN = "model and method are not tested: run `snakemake verdicts`"
UNKNOWN_MODEL = "it is not known whether the model is better than chance"
SLIDES = {VALIDATION: "validation slides", CHOOSING: "the test slides that chose its epoch"}
"""Words for the slides that a model was judged on, where they are not held out."""

CHOSE = "the model was tested on the test slides that chose its epoch"
FROM_TRAINING = "the model was tested in the run that trained it, not on slides of this run"
EARLIER = "not tested: the scores are of an earlier version; run `explain` again"


@dataclass(frozen=True)
class TrustLine:
    """A sentence without a full stop.

    Attributes:
        text: the sentence, or "" where a method shows nothing and there is nothing to say of the model.
        is_warning: whether the picture is not to be interpreted.
    """

    text: str
    is_warning: bool = False


NO_LINE, OLD_LINE = TrustLine(""), TrustLine(EARLIER)


def trust_line(trust: Trust, receipt: Mapping[str, Any], name: str) -> TrustLine:
    """Return how far the scores of a slide by one method can be trusted.

    Args:
        trust: what is known of the model and its methods.
        receipt: receipt of `explain`.
        name: name of the scores: the method, or with the output that they are for.
    """
    trust, entry = trust.of(receipt), receipt["methods"][name]
    output = _output_name(receipt, entry)
    verdict = trust.verdict_on(output)
    if output_line(trust, output, name).is_warning:
        return output_line(trust, output, name)
    if entry["reason"]:
        return TrustLine("")
    correlation = receipt.get("streams_rank_correlations", {}).get(output)
    if correlation is not None and correlation < 0 and _is_of_instances(name):
        return _not(f"the instance stream ranks the tiles against the bag stream (rank correlation {_number(correlation)})")
    of_usual = "the usual heatmap: " if is_fine(name) else ""  # its tiles were removed
    doubts = _doubts(trust, verdict, usual_name(method_of(name)))
    parts = [*doubts, of_usual + _on_slide(receipt, entry), *_remarks(verdict), *_agreement(entry)]
    return TrustLine("; ".join(parts))


def model_line(trust: Trust) -> TrustLine:
    """Return what is known of the model itself, for the place where it is listed; "" if it is better than chance."""
    if trust.model is None or trust.model.is_better is None:
        return TrustLine(UNKNOWN_MODEL if trust.is_known else NOT_RUN)
    return TrustLine("") if trust.model.is_better else _not(_no_better(trust.model))


def output_line(trust: Trust, output: str, name: str) -> TrustLine:
    """Return what is known of the scores for an output by a method on all slides; "" if both have passed their tests."""
    verdict = trust.verdict_on(output)
    if verdict is not None and verdict.is_better is False:
        return _not(_no_better(verdict, output if output in trust.outputs else ""))
    method = usual_name(method_of(name))
    if trust.beats_random.get(method) is False:
        return _not(f"on {_validation_slides(trust)} this method does no better than random order")
    return TrustLine("; ".join([*_doubts(trust, verdict, method), *_remarks(verdict)]))


def _is_of_instances(name: str) -> bool:
    """Whether scores are of a model's instance stream, which may contradict the bag stream, that of the prediction."""
    return usual_name(method_of(name)) == "probability"


def _untold(trust: Trust, method: str) -> str:
    """Why it is not known whether a method does better than random order."""
    if not trust.n_patients.get(method):
        return f"the method is not tested on {_validation_slides(trust)}"
    return f"too few {_validation_slides(trust)} to tell whether the method does better than random order"


def _validation_slides(trust: Trust) -> str:
    return "test slides that chose the epoch" if trust.protocol == AS_PUBLISHED else "validation slides"


def _not(reason: str) -> TrustLine:
    return TrustLine(f"{NOT_INTERPRETED}: {reason}", is_warning=True)


def _no_better(verdict: Verdict, output: str = "") -> str:
    low, high = verdict.ci95
    ends = "" if low is None or high is None else f", {_number(low)} to {_number(high)}"
    where = "" if verdict.on == HELD_OUT else f" on {SLIDES[verdict.on]}"
    of = f" for {output}" if output else ""
    of += " in the run that trained it" if verdict.is_earlier else ""
    who = "the slides alone, with covariates at their mean, are" if verdict.is_of_slides_alone else "the model is"
    return f"{who} no better than chance{of} ({verdict.figure} {_number(verdict.value)}{ends}{where})"


def _on_slide(receipt: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """What removing tiles of this slide does to its prediction."""
    curves = entry.get("curves")
    if not curves:
        return f"not tested: {entry['untested']}" if "untested" in entry else EARLIER
    if "random_symmetric_gain_max" not in curves:
        return EARLIER
    turn, at_random = curves["turn"], curves["random_turn"]
    shown = _lowering(receipt, entry) if turn is None and at_random is None else _turning(turn, at_random)
    is_faithful = curves["symmetric_gain"] > curves["random_symmetric_gain_max"] and _is_sooner(curves)
    return f"{'faithful' if is_faithful else 'not faithful on this slide'}: {shown}"


def _is_sooner(curves: Mapping[str, Any]) -> bool:
    """Whether removing the hottest tiles changes the prediction sooner than a random order; no turn is later than any."""
    turn, at_random = curves["turn"], curves["random_turn"]
    if turn is None and at_random is None:
        return bool(curves["deletion_area"] < curves["random_deletion_area"])
    return turn is not None and (at_random is None or turn < at_random)


def _turning(turn: float | None, at_random: float | None) -> str:
    if turn is None:
        return f"removing the hottest tiles never turns the prediction; at random {_percent(at_random or 0)} of them do"
    random = "at random no share does" if at_random is None else f"at random {_percent(at_random)}"
    return f"removing the hottest {_percent(turn)} of tiles turns the prediction; {random}"


def _lowering(receipt: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Of a number or a risk, or a prediction that no removal turns: the mean difference of the value along the curve."""
    task, curves = task_of_stamp(receipt), entry["curves"]
    difference = curves["random_deletion_area"] - curves["deletion_area"]
    has_prob = task.explained_in(receipt, entry["output"])[0] is not None
    of = f"P({task.output_name(entry['output'])})" if has_prob else task.quantity(entry["output"])
    degree = "more" if difference > 0 else "less"
    turns = "no removal turns the prediction; " if has_prob else ""
    return f"{turns}removing the hottest tiles lowers {of} by {abs(difference):.2g} {degree} than at random, on average"


def _doubts(trust: Trust, verdict: Verdict | None, method: str) -> list[str]:
    if not trust.is_known:
        return [NOT_RUN]
    doubts = [] if method in trust.beats_random else [_untold(trust, method)]
    return doubts if verdict is not None and verdict.is_better is not None else [*doubts, UNKNOWN_MODEL]


def _remarks(verdict: Verdict | None) -> list[str]:
    """What lessens a verdict: whose slides it is of."""
    if verdict is None or verdict.is_better is None:
        return []
    return [FROM_TRAINING] * verdict.is_earlier + [CHOSE] * (verdict.on == CHOOSING)


def _agreement(entry: Mapping[str, Any]) -> list[str]:
    if entry.get("agreement") is None:
        return []
    return [f"rank correlation between its {entry['n_models']} models {_number(entry['agreement'])}"]


def _output_name(receipt: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    return "" if entry["output"] is None else task_of_stamp(receipt).output_name(entry["output"])


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.2g} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:z.2f}".replace("-", "−")
