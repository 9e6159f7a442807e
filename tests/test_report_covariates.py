"""What the report says of models with covariates beside others."""

from pathlib import Path

import pytest

from tests.test_report import NAME, PROBS, lines, page, write_model
from wsi_mil.config import parse_model
from wsi_mil.report.baseline import Against
from wsi_mil.report.covariates import ALONE, OF_COVARIATES, OF_SLIDES, WITHOUT, Added, no_evidence_of_regions
from wsi_mil.report.model_page import ModelPage

MODELS = {
    "both": parse_model({"model": "abmil", "covariates": True}),
    "image": parse_model({"model": "abmil"}),
    "mean": parse_model({"model": "mean_linear"}),
    "clinic": parse_model({"model": "clinical"}),
}
BETTER, NO_BETTER = (0.2, (0.1, 0.3)), (0.01, (-0.1, 0.12))


def pair(model: str, baseline: str, about: str, found: tuple[float, tuple[float, float]]) -> Against:
    return Against(f"enc · {model}", f"enc · {baseline}", about, "AUROC", 80, *found, p_holm=0.01, n_pairs=6)


def caution(model: str, beside: list[Against], added: list[Added]) -> str:
    best = ModelPage(NAME, "enc", model, {}, {}, {"methods": {}}, None)
    return " ".join(limitation.text for limitation in no_evidence_of_regions(best, beside, added, MODELS))


MEAN = [pair("both", "mean", "a mean", BETTER)]
OVER_CLINICAL = Added(OF_SLIDES, pair("both", "clinic", ALONE, BETTER))
OVER_IMAGE = Added(OF_COVARIATES, pair("both", "image", WITHOUT, NO_BETTER))


@pytest.mark.parametrize(
    ("beside", "added", "doubt"),
    [
        (MEAN, [], "without a model `clinical` it is not known what they do alone"),
        (
            MEAN,
            [Added(OF_SLIDES, pair("both", "clinic", ALONE, NO_BETTER)), OVER_IMAGE],
            "enc · both has not been shown to be better than enc · clinic, the covariates without the slides",
        ),
        (MEAN, [OVER_CLINICAL], "the same model without covariates has not been shown to be better than it"),
        (
            [*MEAN, pair("image", "mean", "a mean", NO_BETTER)],
            [OVER_CLINICAL, OVER_IMAGE],
            "the same model without covariates has not been shown to be better than it",
        ),
    ],
)
def test_a_model_with_covariates_that_is_better_than_the_mean_is_no_evidence_by_that(
    beside: list[Against], added: list[Added], doubt: str
) -> None:
    assert caution("both", beside, added) == (
        f"enc · both is better than enc · mean, but that has no covariates, and {doubt},"
        " so its heatmaps are no evidence that single regions matter."
    )


def test_it_is_evidence_if_slides_add_to_covariates_and_regions_to_the_mean() -> None:
    assert caution("both", [*MEAN, pair("image", "mean", "a mean", BETTER)], [OVER_CLINICAL, OVER_IMAGE]) == ""


def test_without_covariates_or_where_the_baseline_is_as_good_there_is_nothing_to_add() -> None:
    assert caution("image", [pair("image", "mean", "a mean", BETTER)], []) == ""
    assert caution("both", [pair("both", "mean", "a mean", NO_BETTER)], []) == "", "`baseline_summary` has that"


def test_the_page_says_so_and_that_the_baseline_has_no_covariates(tmp_path: Path) -> None:
    for name, probs in (("both", PROBS), ("mean", [1 - p for p in PROBS])):
        write_model(tmp_path, f"enc/{name}", lines(probs), methods=())
    html = page(tmp_path, ["both", "mean"], methods=(), baseline="mean", with_covariates="both")
    assert "enc · both is better than enc · mean, a linear model of the mean of the features without covariates: AUROC" in html
    assert html.count("without a model `clinical` it is not known what they do alone, so its heatmaps are no evidence") == 1
    plain = page(tmp_path, ["both", "mean"], methods=(), baseline="mean")
    assert "is better than enc · mean" in plain and "without covariates" not in plain and "no evidence that single" not in plain
