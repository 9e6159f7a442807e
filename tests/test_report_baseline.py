"""Models beside a baseline, in words."""

from pathlib import Path

import numpy as np
import pytest

from tests.test_report import CLASSES, PROBS, REPORT, lines, page, write_model
from tests.train.cohort import CPU, TASK, write_features
from wsi_mil.bags import LabelledBag
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import Split, parse_model
from wsi_mil.ensemble import Ensemble
from wsi_mil.files import read_table
from wsi_mil.predict import predict_cohort, write_predictions
from wsi_mil.records import Bag, SlideRow
from wsi_mil.report.baseline import Against, against, baseline_summary, beside_baselines
from wsi_mil.report.comparison import compare_models
from wsi_mil.train import Fold, train_fold

ABOUT = "a linear model of the mean of the features"


def pair(value: float, low: float, high: float, *, p_holm: float = 0.01, model: str = "enc · abmil") -> Against:
    return Against(model, "enc · mean", ABOUT, "AUROC", 80, value, (low, high), p_holm, 6)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pair(0.12, 0.05, 0.19), "is better than enc · mean, a linear model of the mean of the features: AUROC +0.120"),
        (pair(0.01, -0.03, 0.05), "has not been shown to be better than enc · mean, a linear model of the mean of the features"),
        (pair(0.0, 0.0, 0.0), "has not been shown to be better than"),
        (pair(-0.12, -0.2, -0.01), "is worse than"),
        (pair(0.05, 0.01, 0.09, p_holm=0.12), "may be better than"),
        (pair(float("nan"), float("nan"), float("nan")), "cannot be compared with"),
    ],
)
def test_a_sentence_says_what_the_interval_allows(found: Against, words: str) -> None:
    assert words in found.sentence and found.sentence.startswith("enc · abmil ") and found.sentence.endswith(".")


def test_a_sentence_gives_the_difference_its_interval_and_the_slides() -> None:
    assert pair(0.01, -0.03, 0.05).sentence.endswith("AUROC +0.010 (95 % interval −0.030 to +0.050), on the same 80 slides.")
    assert "with 6 pairs of models compared, this can be chance (adjusted p 0.120)" in pair(0.1, 0.01, 0.2, p_holm=0.12).sentence


def test_the_difference_is_model_less_baseline_whichever_comes_first() -> None:
    tables = {"good": lines(PROBS), "bad": lines([1 - p for p in PROBS])}
    comparisons = compare_models(tables, REPORT, draws=200)
    one, other = against("good", "bad", comparisons), against("bad", "good", comparisons)
    assert one is not None and other is not None and against("good", "none", comparisons) is None
    assert one.value == -other.value > 0.8 and one.ci95 == (-other.ci95[1], -other.ci95[0]) and one.n == 8
    assert (one.verdict, other.verdict) == ("better", "worse") and "good is better than bad: AUROC" in one.sentence


def test_models_stand_beside_the_best_baseline_of_each_kind() -> None:
    tables = {name: lines([p - 0.01 * k for p in PROBS]) for k, name in enumerate(("m1", "mean", "deviation", "m2", "other"))}
    comparisons = compare_models(tables, REPORT, draws=100)
    kinds = {"m1": "", "mean": ABOUT, "deviation": ABOUT, "m2": "", "other": "another"}
    found = [(p.model, p.baseline) for p in beside_baselines(kinds, comparisons)]
    assert found == [("m1", "mean"), ("m2", "mean"), ("m1", "other"), ("m2", "other")]
    assert beside_baselines({"m1": "", "m2": ""}, comparisons) == []


def test_heatmaps_of_the_best_model_are_limited_unless_it_is_better() -> None:
    sentences, (caution,) = baseline_summary("enc · abmil", [pair(0.01, -0.03, 0.05), pair(0.0, -1, 1, model="enc · clam")])
    assert sentences == [pair(0.01, -0.03, 0.05).sentence] and caution.section == "compared"
    assert caution.text.endswith("mean of the features, so its heatmaps are no evidence that single regions matter.")
    assert baseline_summary("enc · abmil", [better := pair(0.12, 0.05, 0.19)]) == ([better.sentence], [])
    assert baseline_summary("enc · abmil", []) == ([], [])


def test_a_baseline_that_is_best_says_what_it_is() -> None:
    ((one,), none) = baseline_summary("enc · mean", [pair(-0.01, -0.03, 0.05)])
    assert one == f"enc · mean is {ABOUT}; the other model on these features has not been shown to be better." and not none
    ((two,), _) = baseline_summary("enc · mean", [pair(-0.01, -0.03, 0.05), pair(0.0, 0.0, 0.0, model="enc · clam")])
    assert two.endswith("; none of the 2 others has been shown to be better.")


def test_the_page_has_the_sentences_in_summary_comparison_and_limitations(tmp_path: Path) -> None:
    for name, probs in (("a", PROBS), ("mean", [p - 0.3 * (i == 6) for i, p in enumerate(PROBS)])):
        write_model(tmp_path, f"enc/{name}", lines(probs), methods=())
    html = page(tmp_path, ["a", "mean"], methods=(), baseline="mean")
    sentence = "enc · a has not been shown to be better than enc · mean, a linear model of the mean of the features"
    assert html.count(f"{sentence}: AUROC") == 2 and html.count(f"{sentence}, so its heatmaps are no evidence") == 1
    assert "linear model of the mean" not in page(tmp_path, ["a", "mean"], methods=())


def made_bags(kind: str, n: int = 90) -> list[LabelledBag]:
    """Bags of 40 tiles whose first feature is shifted from bag to bag; in a third of them all tiles are raised, or two."""
    rng, bags = np.random.default_rng(7), []
    for number in range(n):
        label = int(number % 3 == 0)
        features = rng.normal(size=(40, 12))
        features[:, 0] += rng.normal() * (0.3 if kind == "all" else 0.6) + (0.9 * label if kind == "all" else 0)
        if kind == "rare" and label:
            features[:2, 0] += 9
        coords = np.stack([np.arange(40), np.zeros(40)], axis=1).astype(np.int64)
        bags.append(LabelledBag(Bag(f"s{number:03}", features.astype(np.float16), coords), label))
    return bags


@pytest.mark.parametrize(
    ("kind", "words"), [("rare", "attention is better than mean"), ("all", "attention has not been shown to be better than mean")]
)
def test_attention_beats_the_mean_where_few_tiles_matter_and_not_where_all_do(tmp_path: Path, kind: str, words: str) -> None:
    bags = made_bags(kind)
    rows = [SlideRow(item.bag.slide_id, Path("x"), CLASSES[item.label], item.bag.slide_id) for item in bags]
    write_features(tmp_path / "f", bags)
    splits = draw_splits(rows, TASK, Split(folds=3))
    own = {"embed_dim": 16, "attention_dim": 8, "train": {"lr": 0.005, "epochs": 20, "min_epochs": 0}}
    models = {"attention": {"model": "abmil", **own}, "mean": {"model": "mean_linear"}}
    tables = {}
    for name, settings in models.items():
        for fold in range(3):
            train_fold(Fold(splits, fold, tmp_path / "f", TASK), parse_model(settings), tmp_path / name / f"fold-{fold}", CPU)
        predicted = predict_cohort(rows, tmp_path / "f", Ensemble(tmp_path / name, splits, TASK, CPU), include_train=False)
        write_predictions(tmp_path / f"{name}.csv", predicted, TASK, "held_out")
        tables[name] = read_table(tmp_path / f"{name}.csv")
    (found,) = beside_baselines({"attention": "", "mean": ABOUT}, compare_models(tables, REPORT, draws=500))
    assert found.sentence.startswith(words), found.sentence
