from dataclasses import replace
from typing import Any

import pytest

from wsi_mil.tasks import Classes, Multilabel, Regression, Survival
from wsi_mil.trust import UNTESTED, Trust, model_line, trust_line
from wsi_mil.trust.verdicts import Verdict

CLASSES = Classes(("normal", "tumour")).stamp() | {"probs": [0.1, 0.9], "predicted": 1, "threshold": 0.5}
MULTILABEL = Multilabel(("er", "her2")).stamp() | {"probs": [0.9, 0.8], "predicted": [1, 1], "threshold": [0.5, 0.5]}
GOOD = Verdict("AUROC", 0.93, (0.81, 1.0), 0.5, "held-out", 40, True)
CHANCE = Verdict("AUROC", 0.48, (0.3, 0.66), 0.5, "held-out", 40, False)
TESTED = Trust(GOOD, beats_random={"evidence": True}, is_known=True)


def curves(**changes: object) -> dict[str, Any]:
    """Curves of a method that finds what the prediction hangs on."""
    areas = {"deletion_area": 0.1, "insertion_area": 0.8, "random_deletion_area": 0.6, "random_insertion_area": 0.6}
    gains = {"symmetric_gain": 0.7, "random_symmetric_gain": 0.0, "random_symmetric_gain_max": 0.2}
    return {**areas, **gains, "turn": 0.03, "random_turn": 0.4, **changes}


def receipt(about: dict[str, Any] = CLASSES, output: int = 1, **entry: object) -> dict[str, Any]:
    return {**about, "methods": {"evidence": {"output": output, "reason": "", **entry}}}


def text(trust: Trust = TESTED, about: dict[str, Any] = CLASSES, output: int = 1, **entry: object) -> str:
    return trust_line(trust, receipt(about, output, **entry), "evidence").text


def test_a_faithful_heatmap_says_what_turns_the_prediction() -> None:
    assert text(curves=curves()) == "faithful: removing the hottest 3 % of tiles turns the prediction; at random 40 %"
    assert not trust_line(TESTED, receipt(curves=curves()), "evidence").is_warning
    found = text(curves=curves(turn=0.0012, random_turn=None))
    assert found == "faithful: removing the hottest 0.12 % of tiles turns the prediction; at random no share does"


@pytest.mark.parametrize("changes", [{"turn": 0.5}, {"symmetric_gain": -0.1}, {"symmetric_gain": 0.19}])
def test_a_heatmap_that_random_orders_match_is_not_faithful(changes: dict[str, float]) -> None:
    assert text(curves=curves(**changes)).startswith("not faithful on this slide: removing the hottest")


def test_a_prediction_that_never_turns_is_said_to_sink() -> None:
    expected = "removing the hottest tiles lowers P(tumour) by 0.5 more than at random, on average"
    assert text(curves=curves(turn=None, random_turn=None)) == f"faithful: no removal turns the prediction; {expected}"


def test_a_turn_that_comes_at_random_only_is_not_faithful() -> None:
    found = text(curves=curves(turn=None))
    assert found == "not faithful on this slide: removing the hottest tiles never turns the prediction; at random 40 % of them do"


def test_a_faithful_line_never_says_less_than_at_random() -> None:
    found = text(curves=curves(turn=None, random_turn=None, deletion_area=0.7, insertion_area=1.4))
    assert found.startswith("not faithful on this slide: no removal turns the prediction; removing the hottest tiles lowers")
    assert found.endswith("P(tumour) by 0.1 less than at random, on average")


@pytest.mark.parametrize(
    ("task", "about", "quantity"),
    [
        (Regression(name="tmb"), {"value": 3.0, "standardised": 1.0}, "tmb, standardised"),
        (Survival(), {"risk": 0.4, "cutoff": 0.1, "predicted": 1}, "the log hazard ratio against the cohort's mean"),
    ],
)
def test_numbers_and_risks_do_not_turn(task: Any, about: dict[str, Any], quantity: str) -> None:
    found = text(about={**task.stamp(), **about}, output=0, curves=curves(turn=None, random_turn=None))
    assert found.startswith("faithful: removing the hottest tiles lowers ") and "turns" not in found
    assert found.endswith(" by 0.5 more than at random, on average")
    if isinstance(task, Survival):
        assert quantity in found


def test_a_model_at_chance_is_not_to_be_interpreted_whatever_its_curves() -> None:
    trust = Trust(CHANCE, beats_random={"evidence": True}, is_known=True)
    expected = "not to be interpreted: the model is no better than chance (AUROC 0.48, 0.30 to 0.66)"
    for entry in ({"curves": curves()}, {"reason": "predicted negative"}, {}):
        line = trust_line(trust, receipt(**entry), "evidence")
        assert line.is_warning and line.text == expected
    assert model_line(trust).text == expected and model_line(TESTED).text == ""
    on_validation = Trust(Verdict("R²", -0.2, (None, None), 0.0, "validation", 9, False), is_known=True)
    assert model_line(on_validation).text.endswith("(R² −0.20 on validation slides)")
    on_test = Trust(Verdict("R²", -0.2, (None, None), 0.0, "choosing", 9, False), is_known=True)
    assert model_line(on_test).text.endswith("(R² −0.20 on the test slides that chose its epoch)")


def test_of_a_model_with_covariates_the_line_speaks_of_the_slides_alone() -> None:
    line = model_line(Trust(replace(CHANCE, is_of_slides_alone=True), is_known=True))
    assert line.is_warning and line.text == (
        "not to be interpreted: the slides alone, with covariates at their mean, are no better than chance"
        " (AUROC 0.48, 0.30 to 0.66)"
    )


def test_of_several_labels_only_those_at_chance_are_marked() -> None:
    about = Multilabel(("er", "her2")).stamp() | {"probs": [0.9, 0.8], "predicted": [1, 1], "threshold": [0.5, 0.5]}
    trust = Trust(GOOD, {"er": GOOD, "her2": CHANCE}, {"evidence": True}, is_known=True)
    entries = {"evidence": 0, "evidence@her2": 1}
    methods = {name: {"output": output, "reason": "", "curves": curves()} for name, output in entries.items()}
    lines = {name: trust_line(trust, {**about, "methods": methods}, name) for name in methods}
    assert lines["evidence"].text.startswith("faithful") and lines["evidence@her2"].is_warning
    assert "no better than chance for her2 (AUROC 0.48" in lines["evidence@her2"].text


def test_a_method_that_random_order_matches_on_validation_slides_is_marked_everywhere() -> None:
    line = trust_line(Trust(GOOD, beats_random={"evidence": False}, is_known=True), receipt(curves=curves()), "evidence")
    assert line.is_warning
    assert line.text == "not to be interpreted: on validation slides this method does no better than random order"


def test_what_is_not_tested_is_said() -> None:
    assert text(untested="all tiles have the same score") == "not tested: all tiles have the same score"
    assert text(untested="the slide is not predicted as tumour") == "not tested: the slide is not predicted as tumour"
    assert text() == "not tested: the scores are of an earlier version; run `explain` again"
    old = {name: value for name, value in curves().items() if "symmetric" not in name}
    assert text(curves=old) == "not tested: the scores are of an earlier version; run `explain` again"
    assert text(reason="predicted negative: sparse inversion finds no key instances") == ""
    of_three_orders = {name: value for name, value in curves().items() if name != "random_symmetric_gain_max"}
    assert text(curves=of_three_orders) == "not tested: the scores are of an earlier version; run `explain` again"


def test_an_untested_model_or_method_is_said_before_what_the_slide_shows() -> None:
    shown = "faithful: removing the hottest 3 % of tiles turns the prediction; at random 40 %"
    assert text(UNTESTED, curves=curves()) == f"model and method are not tested: run `snakemake verdicts`; {shown}"
    doubts = "the method is not tested on validation slides; it is not known whether the model is better than chance"
    assert text(Trust(is_known=True), curves=curves()) == f"{doubts}; {shown}"


def test_a_model_that_was_tested_on_the_slides_that_chose_its_epoch_says_so() -> None:
    trust = Trust(replace(GOOD, on="choosing"), is_known=True, protocol="as_published")
    line = text(trust, curves=curves())
    assert line.startswith("the method is not tested on test slides that chose the epoch; faithful: ")
    assert line.endswith("; the model was tested on the test slides that chose its epoch")


@pytest.mark.parametrize("correlation", [-0.31, 0.31, None])
def test_probabilities_of_a_stream_that_contradicts_the_other_are_marked(correlation: float | None) -> None:
    names = ("probability", "probability.fine", "attention")
    methods = {name: {"output": 1, "reason": "", "curves": curves()} for name in names}
    about = {**CLASSES, "methods": methods, "streams_rank_correlations": {"tumour": correlation, "normal": -0.9}}
    trust = replace(TESTED, beats_random={"probability": True, "attention": True})
    lines = {name: trust_line(trust, about, name) for name in names}
    marked = "not to be interpreted: the instance stream ranks the tiles against the bag stream (rank correlation −0.31)"
    for name in names[:2]:
        assert lines[name].is_warning is (lines[name].text == marked) is (correlation == -0.31)
    assert lines["attention"].text.startswith("faithful")


def test_a_contradiction_marks_the_label_that_it_is_of() -> None:
    methods = {"probability": {"output": 0, "reason": "", "curves": curves()}}
    methods["probability@her2"] = {**methods["probability"], "output": 1}
    about = {**MULTILABEL, "methods": methods, "streams_rank_correlations": {"er": 0.6, "her2": -0.5}}
    trust = replace(TESTED, beats_random={"probability": True})
    assert not trust_line(trust, about, "probability").is_warning
    assert trust_line(trust, about, "probability@her2").text.endswith("(rank correlation −0.50)")


def test_what_is_known_of_models_that_were_trained_again_does_not_count() -> None:
    trust = Trust(CHANCE, beats_random={"evidence": False}, models="a", is_known=True)
    for models, is_warning in (("a", True), ("b", False)):
        line = trust_line(trust, {**receipt(curves=curves()), "models": models}, "evidence")
        assert line.is_warning is is_warning and ("run `snakemake verdicts`" in line.text) is not is_warning


def test_the_agreement_of_models_is_added() -> None:
    found = text(curves=curves(), agreement=0.834, n_models=5)
    assert found.endswith("; rank correlation between its 5 models 0.83")
