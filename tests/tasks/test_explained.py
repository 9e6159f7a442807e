"""Which outputs are explained on a slide."""

import numpy as np
import pytest

from wsi_mil.config import OutputChoice
from wsi_mil.records import SlidePrediction
from wsi_mil.tasks import Classes, Multilabel, Regression, Survival, Task, chosen_outputs, own_choice

TWO, THREE = Classes(("normal", "tumour")), Classes(("normal", "luad", "lusc"))
LABELS = Multilabel(("er", "pr", "her2"))


def predicted(task: Task, outputs: list[float], threshold: object = None) -> SlidePrediction:
    return task.prediction((0,), np.array([outputs]), [threshold])


IS_LUSC = predicted(THREE, [0.1, 0.3, 0.6])
IS_NORMAL = predicted(TWO, [0.8, 0.2], 0.5)
HER2_THEN_ER = predicted(LABELS, [0.7, 0.2, 0.9], (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("task", "prediction", "choice", "expected"),
    [
        (THREE, IS_LUSC, "predicted", (2,)),
        (THREE, IS_LUSC, "all", (2, 0, 1)),
        (THREE, IS_LUSC, ("luad", "normal"), (1, 0)),
        (THREE, IS_LUSC, ("luad", "lusc"), (2, 1)),
        (THREE, IS_LUSC, ("er", "luad"), (1,)),
        (THREE, IS_LUSC, ("er",), (2,)),
        (TWO, IS_NORMAL, "predicted", (1,)),
        (TWO, IS_NORMAL, "all", (1,)),
        (TWO, IS_NORMAL, ("normal",), (0,)),
        (TWO, IS_NORMAL, ("normal", "tumour"), (1, 0)),
        (LABELS, HER2_THEN_ER, "predicted", (2, 0)),
        (LABELS, HER2_THEN_ER, "all", (2, 0, 1)),
        (LABELS, HER2_THEN_ER, ("pr", "er"), (0, 1)),
    ],
)
def test_the_first_output_is_the_predicted_one_where_it_is_asked_for(
    task: Task, prediction: SlidePrediction, choice: OutputChoice, expected: tuple[int, ...]
) -> None:
    assert chosen_outputs(task, prediction, choice) == expected


def test_a_setting_is_the_same_for_a_target_whatever_it_says_of_others() -> None:
    assert own_choice(THREE, ("er", "luad")) == own_choice(THREE, ("luad", "her2")) == ("luad",)
    assert own_choice(THREE, ("er",)) == own_choice(THREE, "predicted") == "predicted"
    assert own_choice(TWO, "all") == own_choice(TWO, ("tumour",)) == "predicted" and own_choice(TWO, ("normal",)) == ("normal",)
    assert own_choice(THREE, "all") == own_choice(LABELS, "all") == "all"
    for task in (Regression(name="tmb"), Survival("cox")):
        assert own_choice(task, "all") == own_choice(task, ("luad",)) == "predicted"


def test_the_negative_one_of_two_classes_is_predicted_below_the_threshold_of_the_other() -> None:
    assert TWO.threshold_of(0.7, 1) == 0.7 and TWO.threshold_of(0.7, 0) == pytest.approx(0.3)
    assert THREE.threshold_of(None, 0) is None
