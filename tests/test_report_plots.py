"""Plots of the kinds of tasks: positions are in units of the SVG's viewBox, y downwards."""

import re

import numpy as np
import pytest

from wsi_mil.report.agreement import MAX_DOTS, agreement_plot
from wsi_mil.report.axes import Axis, round_values
from wsi_mil.report.curves import roc_polyline
from wsi_mil.report.kaplan_meier import BOTTOM, LEFT, RIGHT, TOP, GroupCurve, kaplan_meier_plot
from wsi_mil.report.removal import removal_plot
from wsi_mil.report.task_report import decimals, interval_text
from wsi_mil.survival import group_figures
from wsi_mil.wording import digits

TIME = np.array([6.0, 6.0, 6.0, 7.0, 10.0, 2.0, 5.0, 6.0, 3.0, 3.0, 7.0, 1.0])
EVENT = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0], bool)
IS_HIGH = np.arange(12) >= 6


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.3, 0.25, [-0.2, 0, 0.2]),
        (3, 1203, [500, 1000]),
        (0, 5e-7, [0, 1e-7, 2e-7, 3e-7, 4e-7, 5e-7]),
    ],
)
def test_ticks_are_at_round_numbers_within_the_axis(low: float, high: float, expected: list[float]) -> None:
    assert round_values(low, high) == pytest.approx(expected)


def test_a_tick_is_named_as_short_as_it_is() -> None:
    assert Axis(-5, 15, 100, 0).ticks == [(100, "−5"), (75, "0"), (50, "5"), (25, "10"), (0, "15")]


def _curves(time: np.ndarray = TIME, event: np.ndarray = EVENT, is_high: np.ndarray = IS_HIGH) -> tuple[GroupCurve, ...]:
    groups = group_figures(time, event, is_high)["risk_groups"]
    assert isinstance(groups, dict)
    plot = kaplan_meier_plot(groups)
    assert plot is not None
    return plot.groups


def _corners(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_the_curve_keeps_its_value_until_the_next_event() -> None:
    low, _ = _curves()
    times = [0, 2, 2, 6, 6, 7, 7, 10]
    shares = [1, 1, 5 / 6, 5 / 6, 1 / 2, 1 / 2, 1 / 4, 1 / 4]
    expected = [(LEFT + t / 10 * (RIGHT - LEFT), BOTTOM - s * (BOTTOM - TOP)) for t, s in zip(times, shares, strict=True)]
    assert np.array(_corners(low.line)) == pytest.approx(np.array(expected), abs=0.051)


def test_the_band_encloses_the_curve() -> None:
    for curve in _curves():
        band = np.array(_corners(curve.band))
        for x, y in _corners(curve.line)[1::2]:
            ends = band[np.abs(band[:, 0] - x) < 0.01, 1]
            assert ends.min() <= y <= ends.max()


def test_patients_at_risk_are_counted_at_each_tick_with_those_that_end_there() -> None:
    low, high = _curves()
    assert low.at_risk == (6, 6, 5, 5, 1, 1) and high.at_risk == (6, 5, 3, 2, 0, 0), "at 0, 2, … 10"
    assert (low.title, low.n, low.n_events, low.median) == ("lower risk", 6, 4, "6")


def test_censored_patients_are_marked_on_the_curve() -> None:
    low, _ = _curves()
    at = {round(LEFT + t / 10 * (RIGHT - LEFT), 1): round(BOTTOM - s * (BOTTOM - TOP) - 3, 1) for t, s in ((6, 0.5), (10, 0.25))}
    assert dict(_corners(low.censored)) == pytest.approx(at)


def test_a_median_that_is_not_reached_is_said_to_be_so() -> None:
    low, _ = _curves(event=EVENT & (TIME < 4))
    assert low.median == "not reached"


def test_a_group_without_patients_has_no_curve() -> None:
    (only,) = _curves(is_high=np.ones(12, bool))
    assert only.title == "higher risk" and kaplan_meier_plot({}) is None


def test_predictions_lie_above_the_line_of_identity_if_they_are_too_high() -> None:
    plot = agreement_plot(np.array([1.0, 2.0, 5.0]), np.array([1.0, 11.0, 3.0]), ["a", "b", "c"])
    assert plot is not None and (plot.truth.low, plot.truth.high) == (plot.predicted.low, plot.predicted.high) == (0.5, 11.5)
    places = {name: ((x - plot.truth.start), (plot.predicted.start - y)) for x, y, name in plot.dots}
    assert places["a"][0] == pytest.approx(places["a"][1]) and places["b"][0] < places["b"][1] and places["c"][0] > places["c"][1]


def test_equal_values_are_plotted_and_many_are_thinned() -> None:
    assert agreement_plot(np.ones(2), np.ones(2), ["a", "b"]) is not None and agreement_plot(np.ones(0), np.ones(0), []) is None
    many = agreement_plot(np.arange(2.0 * MAX_DOTS), np.arange(2.0 * MAX_DOTS), ["s"] * 2 * MAX_DOTS)
    assert many is not None and len(many.dots) == MAX_DOTS


def test_the_roc_curve_rises_from_the_lower_left_to_the_upper_right() -> None:
    points = roc_polyline(np.array([True, False, True, False, False]), np.array([0.9, 0.8, 0.7, 0.2, 0.1]))
    corners = [tuple(map(float, point.split(","))) for point in points.split()]
    assert corners[0] == (0, 1) and corners[-1] == (1, 0) and (0, 0.5) in corners
    assert roc_polyline(np.ones(3, bool), np.arange(3.0)) == ""


def test_values_have_three_digits_in_any_unit() -> None:
    assert [digits(v) for v in (0.00012345, 12.345, 1234.5, -0.5, None, float("nan"))] == [
        "0.000123",
        "12.3",
        "1,234",
        "−0.5",
        "–",
        "–",
    ]
    assert decimals(-0.12345) == "−0.123"


def test_an_interval_without_width_is_not_given() -> None:
    assert interval_text([0.5, 0.75], "slide") == "; 95 % confidence interval 0.500 to 0.750"
    assert (
        interval_text([1.0, 1.0], "slide") == "; too few slides to estimate an interval"
        and interval_text([None, None], "slide") == ""
    )


def of_method(deletion: list[float], insertion: list[float]) -> dict:
    return {
        "mean_curves": {"shares": [0.0, 0.25, 1.0], "deletion": deletion, "insertion": insertion, "random_deletion": [0.8] * 3}
    }


def test_removal_is_drawn_from_the_hottest_and_from_the_coldest_tile() -> None:
    plot = removal_plot(
        {"attention": of_method([0.9, 0.4, 0.1], [0.2, 0.7, 0.9]), "evidence": {"n_curves": 0, "mean_curves": {}}}
    )
    assert plot is not None and [line.name for line in plot.lines] == ["attention"] and plot.ends == ("0", "1")
    assert plot.lines[0].hottest == "0.0000,0.1000 0.5000,0.6000 1.0000,0.9000"
    # all tiles are left; then the hottest quarter, √0.75; then the hottest tile alone
    assert plot.lines[0].coldest == "0.0000,0.1000 0.8660,0.3000 1.0000,0.8000"
    assert plot.random == "0.0000,0.2000 0.5000,0.2000 1.0000,0.2000" and (0.1, "1 %") in plot.ticks


def test_removal_of_a_risk_has_an_axis_of_its_own() -> None:
    plot = removal_plot({"evidence": of_method([3.0, 1.0, -1.0], [0.0, 2.0, 3.0])})
    assert plot is not None and plot.ends == ("-1", "3") and plot.lines[0].hottest.endswith("1.0000,1.0000")
    constant = {"shares": [0.0, 1.0], "deletion": [7.0, 7.0], "insertion": [7.0, 7.0], "random_deletion": [7.0, 7.0]}
    flat = removal_plot({"evidence": {"mean_curves": constant}})
    assert flat is not None and flat.random == "0.0000,0.0000 1.0000,0.0000"


def test_without_curves_no_removal_is_drawn() -> None:
    assert removal_plot({"attention": {"n_curves": 0}}) is None and removal_plot({}) is None
