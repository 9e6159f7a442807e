import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.heatmap_files import Made
from wsi_mil.config import Heatmap
from wsi_mil.errors import ConfigError
from wsi_mil.heatmaps import CohortFiles, draw_heatmap, write_cohort_scale
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale
from wsi_mil.heatmaps.scale import LEAST_TOP, NOT_PREDICTED, ScoreDisplay, score_display
from wsi_mil.records import SlideRow
from wsi_mil.score_scaling import ScoreContext

SCALES = ("auto", "raw", "minmax", "percentile", "cohort")
FOUR = np.array([3.0, -1.0, 1.0, 1.0], np.float32)
EVIDENCE = ScoreContext("log_odds", 0.0, True, 0.5, True, "tumour", 4)


def positive(unit: str) -> tuple[np.ndarray, ScoreContext]:
    """6,000 tiles of a slide predicted positive, 300 of which stand out."""
    return scores_of(unit, n=6000, n_hot=300, prob=0.97)


def negative(unit: str) -> tuple[np.ndarray, ScoreContext]:
    """60 tiles of a slide predicted negative, one of which gets most of the attention, as some tile always does."""
    return scores_of(unit, n=60, n_hot=1, prob=0.03)


def scores_of(unit: str, *, n: int, n_hot: int, prob: float) -> tuple[np.ndarray, ScoreContext]:
    logits = np.zeros(n)
    logits[:n_hot] = 8.0
    attention = np.exp(logits) / np.exp(logits).sum()
    values = {"share": attention, "logit": np.log(attention), "log_odds": logits, "probability": 1 / (1 + np.exp(-logits))}[unit]
    zero = -math.log(n) if unit == "logit" else 0.0
    context = ScoreContext(unit, zero, True, prob, prob >= 0.5, "tumour", n)
    return values.astype(np.float32), context


def hottest(shown: ScoreDisplay) -> float:
    return float(shown.positions(shown.values).max())


def test_attention_is_shown_as_multiples_of_an_even_share_times_the_probability() -> None:
    shown = score_display(
        np.array([0.7, 0.1, 0.1, 0.1], np.float32), ScoreContext("share", 0, True, 0.5, True, "tumour", 4), "auto"
    )
    assert np.allclose(shown.values, [1.4, 0.2, 0.2, 0.2]) and (shown.low, shown.high, shown.is_log) == (1.0, 10.0, True)


def test_a_negative_slide_stays_cold_however_peaked_its_attention() -> None:
    peaked = np.array([0.97] + [0.03 / 19] * 19, np.float32)
    shown = score_display(peaked, ScoreContext("share", 0, True, 0.02, False, "tumour", len(peaked)), "auto")
    assert shown.values.max() < shown.low


@pytest.mark.parametrize(
    ("scale", "values", "low", "high", "place"),
    [
        ("auto", [1.5, -1.0, 0.5, 0.5], 0.0, np.percentile([1.5, -1.0, 0.5, 0.5], 99.5), [1.0, 0.0, 0.5 / 1.485, 0.5 / 1.485]),
        ("raw", [3, -1, 1, 1], -1.0, 3.0, [1.0, 0.0, 0.5, 0.5]),
        ("minmax", [1, 0, 0.5, 0.5], 0.0, 1.0, [1.0, 0.0, 0.5, 0.5]),
        ("percentile", [0.875, 0.125, 0.5, 0.5], 0.0, 1.0, [0.875, 0.125, 0.5, 0.5]),
        ("cohort", [1.5, -1.0, 0.5, 0.5], 0.0, 2.0, [0.75, 0.0, 0.25, 0.25]),
    ],
)
def test_each_scale_shows_its_numbers(scale: str, values: list, low: float, high: float, place: list) -> None:
    shown = score_display(FOUR, EVIDENCE, scale, cohort_range=(0.0, 2.0))
    assert np.allclose(shown.values, values) and (shown.low, shown.high) == pytest.approx((low, high))
    assert np.allclose(shown.positions(shown.values), place, atol=1e-6)


def test_tiles_without_a_score_have_none_on_any_scale() -> None:
    with_gap = np.append(FOUR, np.float32(np.nan))
    for scale in SCALES:
        shown, alone = (score_display(v, EVIDENCE, scale, cohort_range=(0.0, 2.0)) for v in (with_gap, FOUR))
        assert np.isnan(shown.values[-1]) and np.allclose(shown.values[:-1], alone.values) and shown.high == alone.high


def test_labels_name_the_scale_and_warn_of_scales_that_are_hot_everywhere() -> None:
    labels = {scale: score_display(FOUR, EVIDENCE, scale).label for scale in SCALES}
    for scale, name in {"minmax": "min–max"}.items() | {s: s for s in SCALES if s != "minmax"}.items():
        assert f"scale {name}" in labels[scale], scale
    assert all(("some tile is hot on every slide" in labels[s]) == (s in ("minmax", "percentile")) for s in SCALES)


@pytest.mark.parametrize("value", [0.0, -7.5, 4.5, 1e-30])
@pytest.mark.parametrize("n", [1, 70])
def test_equal_scores_are_a_cold_picture_that_says_so(value: float, n: int) -> None:
    values = np.full(n, value, np.float32)
    for scale in ("auto", "raw", "minmax", "percentile"):
        shown = score_display(values, EVIDENCE, scale)
        assert shown.low < shown.high and hottest(shown) == 0 and "all tiles have the same score" in shown.label, scale


def test_rounding_of_float32_does_not_count_as_a_difference() -> None:
    even = np.full(70, 1 / 70, np.float32)
    even[::2] = np.nextafter(even[0], np.float32(1))
    shown = score_display(even, ScoreContext("share", 0, True, 0.9, True, "tumour", 70), "minmax")
    assert hottest(shown) == 0 and "same score" in shown.label


def test_equal_scores_keep_their_position_on_the_cohorts_scale() -> None:
    shown = score_display(np.full(3, 2.0, np.float32), EVIDENCE, "cohort", cohort_range=(0.0, 4.0))
    assert hottest(shown) == 0.25 and "all tiles have the same score" in shown.label


@pytest.mark.parametrize("unit", ["share", "logit", "log_odds", "probability"])
def test_a_small_negative_slide_is_not_hotter_than_a_large_positive_one_on_the_cohorts_scale(unit: str) -> None:
    (pos_values, pos), (neg_values, neg) = positive(unit), negative(unit)
    own = score_display(pos_values, pos, "auto")
    hot, cold = (
        score_display(v, m, "cohort", cohort_range=(own.low, own.high)) for v, m in ((pos_values, pos), (neg_values, neg))
    )
    assert hottest(hot) > 0.95 and hottest(cold) < 0.2
    if unit == "share":
        assert neg_values.max() > 100 * pos_values.max(), "by raw attention it would be the other way round"


@pytest.mark.parametrize("unit", ["deviation", "contribution"])
def test_methods_that_are_not_comparable_use_the_range_of_the_slide_and_say_so(unit: str) -> None:
    context = ScoreContext(unit, 0.0, False, 0.9, True, "tumour", 4)
    shown, own = (score_display(FOUR * 9, context, scale, cohort_range=(0.0, 900.0)) for scale in ("cohort", "auto"))
    assert "not comparable across slides: range of this slide" in shown.label
    assert (shown.low, shown.high) == (own.low, own.high) and (shown.values == own.values).all()


def test_if_there_is_nothing_to_show_every_scale_shows_nothing() -> None:
    for scale in SCALES:
        shown = score_display(np.full(3, np.nan, np.float32), ScoreContext("", 0, False, 0.1, False, "tumour", 3), scale)
        assert np.isnan(shown.values).all() and shown.low < shown.high


def write_cohort(folder: Path) -> list[SlideRow]:
    """Scores of a large positive, a small negative and an unlabelled slide, the last hotter than all."""
    for slide_id, (values, context) in {"p": positive("share"), "n": negative("share"), "u": positive("share")}.items():
        coords = np.stack([np.arange(len(values)) % 100, np.arange(len(values)) // 100], axis=1) * 64
        made = Made(coords, values * (5 if slide_id == "u" else 1), (6400, 3840), slide_id=slide_id, prob=context.prob)
        made.unit, made.method = "share", "attention"
        made.write(folder)
    return [SlideRow("p", Path("x"), "tumour"), SlideRow("n", Path("x"), "normal"), SlideRow("u", Path("x"))]


def test_the_cohorts_range_comes_from_labelled_slides_only(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path)
    write_cohort_scale(rows, tmp_path / "scores", tmp_path / "all.json")
    write_cohort_scale(rows[:2], tmp_path / "scores", tmp_path / "labelled.json")
    assert (tmp_path / "all.json").read_bytes() == (tmp_path / "labelled.json").read_bytes()
    (pos_values, pos), (neg_values, neg) = positive("share"), negative("share")
    pooled = np.concatenate([pos_values * (pos.n * pos.prob), neg_values * (neg.n * neg.prob)])
    assert read_cohort_scale(tmp_path / "all.json")["attention"] == pytest.approx((1.0, np.percentile(pooled, 99.5)), rel=1e-5)


def test_a_cohort_in_which_nothing_stands_out_stays_cold(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path)
    write_cohort_scale(rows[1:2], tmp_path / "scores", tmp_path / "scale.json")
    assert read_cohort_scale(tmp_path / "scale.json")["attention"] == (1.0, LEAST_TOP["share"])


def test_slides_that_are_not_shown_and_methods_that_are_not_comparable_do_not_count(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path)
    receipt = tmp_path / "scores" / "p.json"
    about = json.loads(receipt.read_text())
    hidden = {key: value for key, value in about.items() if key not in ("probs", "output")}
    receipt.write_text(json.dumps(hidden).replace('"output": 1', '"output": null'))
    write_cohort_scale(rows[:1], tmp_path / "scores", tmp_path / "scale.json")
    assert read_cohort_scale(tmp_path / "scale.json") == {}
    receipt.write_text(json.dumps(about).replace('"comparable_weighed": true', '"comparable_weighed": false'))
    write_cohort_scale(rows[:1], tmp_path / "scores", tmp_path / "scale.json")
    assert read_cohort_scale(tmp_path / "scale.json") == {}


def test_on_the_cohorts_scale_the_picture_of_the_small_negative_slide_has_no_hot_region(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path)
    write_cohort_scale(rows, tmp_path / "scores", tmp_path / "scale.json")
    n_hot = {}
    for row in rows[:2]:
        receipts, image = (
            (tmp_path / kind / f"{row.slide_id}.json" for kind in ("scores", "tiles")),
            tmp_path / row.slide_id / "a.png",
        )
        settings = Heatmap(scale="cohort", gallery=0)
        draw_heatmap(row, *receipts, "attention", settings, image, cohort=CohortFiles(scale=tmp_path / "scale.json"))
        features = json.loads(image.with_suffix(".geojson").read_text())["features"]
        n_hot[row.slide_id] = sum(
            f["properties"]["measurements"]["tiles"] for f in features if "classification" in f["properties"]
        )
    assert n_hot == {"p": 300, "n": 0}


def test_the_cohorts_scale_needs_the_cohorts_range(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path)
    receipts = (tmp_path / "scores" / "p.json", tmp_path / "tiles" / "p.json")
    with pytest.raises(ConfigError, match=r"heatmap\.scale: cohort needs"):
        draw_heatmap(rows[0], *receipts, "attention", Heatmap(scale="cohort"), tmp_path / "a.png")


@pytest.mark.parametrize("scale", ["auto", "cohort"])
@pytest.mark.parametrize("unit", list(LEAST_TOP))
def test_a_large_slide_that_is_not_predicted_as_the_class_is_never_hot(unit: str, scale: str) -> None:
    values = np.where(np.arange(6000) < 3, 0.3 if unit == "share" else 40.0, 1e-5).astype(np.float32)
    shown = score_display(values, ScoreContext(unit, 0.0, True, 0.2, False, "tumour", 6000), scale, cohort_range=(1.0, 2.0))
    assert hottest(shown) == NOT_PREDICTED < Heatmap().hot and "never drawn hot" in shown.label
    predicted = score_display(values, ScoreContext(unit, 0.0, True, 0.2, True, "tumour", 6000), scale, cohort_range=(1.0, 2.0))
    assert hottest(predicted) > 0.9
