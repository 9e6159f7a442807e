from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_report import PROBS, REPORT, figures_of, lines, overview, page, write_explanations, write_model, write_tiled
from tests.test_report_contact_sheet import write_failed
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.comparison import evaluated_rows
from wsi_mil.report.model_page import ModelPage, model_summary
from wsi_mil.report.summary import MAX_NAMED, CohortOverview, cohort_limitations, describe_cohort, describe_results, limitations
from wsi_mil.report.task_report import decimals
from wsi_mil.report.templating import signed


def cohort(statuses: str = "ooooooooo", *, bag: str = "slide", trained: bool = False) -> CohortOverview:
    """Slides s0 to s8 of `test_report`, with a letter for the status of each: ok, empty, failed, skipped."""
    letters = {"o": Status.OK, "e": Status.EMPTY, "f": Status.FAILED, "s": Status.SKIPPED}
    labels = [*"nnnnnttt", ""]
    names = {"n": "normal", "t": "tumour", "": ""}
    rows = [SlideRow(f"s{i}", Path("gone.svs"), names[label], f"p{min(i, 7)}") for i, label in enumerate(labels)]
    return CohortOverview(rows, {f"s{i}": letters[letter] for i, letter in enumerate(statuses)}, REPORT, bag, trained)


def model(probs: list[float], methods: dict[str, dict] | None = None, **changes: object) -> ModelPage:
    table = lines(probs)
    metrics = {"protocol": "held_out", "n_slides": 8, **figures_of(evaluated_rows(table)), **changes}
    explanations = {"methods": methods or {}, "n_with_truth": len(methods or {}), "notes": {}}
    return ModelPage("tumour", "enc", "a", metrics, {row["slide_id"]: row for row in table}, explanations, None)


def test_slides_are_counted_by_label_and_status() -> None:
    first, second, third = describe_cohort(cohort("oooofeoso"))
    assert first.startswith(
        "9 slides of 8 patients: 5 labelled “normal” and 3 labelled “tumour”, and 1 without a label, which is"
    )
    assert second == "6 of them could be used. Not used: 1 failed, 1 without tissue and 1 skipped: no resolution (µm per pixel)."
    assert third.startswith(
        "Models were trained to distinguish the classes from small square images of tissue (tiles), with one label"
    )
    assert describe_cohort(cohort(trained=True))[1:] == [
        "All of them could be used.",
        "The models were trained in an earlier run and are applied here unchanged.",
    ]


def test_the_best_model_is_described_by_slides_and_pairs() -> None:
    text = " ".join(describe_results(model(PROBS), 2, cohort()))
    assert "the best of 2 models, enc · a, classified 6 correctly: 4 of 5 “normal” and 2 of 3 “tumour”" in text
    assert "it ranks the “tumour” slide higher in 93.3 % of cases (AUROC 0.933;" in text, "14 of 15 pairs"
    assert text.endswith("No annotations were available, so heatmap localisation was not evaluated.")


def test_perfect_figures_have_no_interval() -> None:
    text = " ".join(describe_results(model([0.1] * 5 + [0.9] * 3 + [0.5]), 1, cohort()))
    assert "in 100.0 % of cases (AUROC 1.000; 0.5 is chance; too few slides to estimate an interval)" in text
    assert "confidence interval" not in text and "95 % confidence interval 0." in " ".join(
        describe_results(model(PROBS), 1, cohort())
    )


def test_without_labels_there_are_predictions_only() -> None:
    labelled = cohort()
    unlabelled = replace(labelled, rows=[replace(row, label="") for row in labelled.rows])
    result = ", so performance could not be measured; only predictions are shown."
    assert describe_results(model(PROBS, n_slides=0), 1, unlabelled) == [f"No slide is labelled{result}"]
    assert describe_results(model(PROBS, n_slides=0), 1, labelled) == [f"No labelled slide could be evaluated{result}"]


def test_annotations_that_could_not_be_evaluated_are_not_said_to_be_missing() -> None:
    annotated = replace(cohort(), rows=[replace(row, annotation=Path("a.geojson")) for row in cohort().rows])
    last = describe_results(model(PROBS), 1, annotated)[-1]
    assert last == "No annotated slide could be evaluated, so heatmap localisation was not evaluated."


def test_localisation_is_given_for_each_method() -> None:
    methods = {"attention": {"tile_auroc": 0.9, "tile_auroc_ci95": [0.8, 1.0], "n_positive_slides": 3}}
    methods["sparse_inversion"] = methods["attention"] | {"tile_auroc": 0.955}
    methods["gradient_input"] = {"tile_auroc": None}
    text = describe_results(model(PROBS, methods), 1, cohort())[-1]
    assert (
        text.startswith("Compared with annotations of 3 slides (never used in training): a tile inside")
        and "in 90.0 % (attention) and 95.5 % (sparse inversion) of cases" in text
    )


def test_heatmaps_of_a_model_at_chance_are_not_to_be_interpreted() -> None:
    (limitation, *_) = limitations([model([1 - p for p in PROBS])], [], cohort())
    assert limitation.text == (
        "enc · a has not been shown to be better than chance (the 95 % AUROC interval is not entirely above 0.5 or could not"
        " be computed, or permuted labels do as well). Do not interpret its heatmaps."
    )
    assert not any("chance" in c.text for c in limitations([model(PROBS, auroc_ci95=[0.7, 1.0])], [], cohort()))
    first, *_ = limitations([model(PROBS, auroc_ci95=[None, None])] * 2, [], cohort())
    assert "enc · a and enc · a have not been shown" in first.text and "interpret their heatmaps" in first.text


def test_nothing_is_said_of_heatmaps_of_a_model_that_sees_no_slides() -> None:
    clinic = replace(model([1 - p for p in PROBS]), model="clinic", sees_slides=False)
    (alone, *_) = limitations([clinic], [], cohort())
    assert alone.text.startswith("enc · clinic has not been shown to be better than chance") and "heatmaps" not in alone.text
    (both, *_) = limitations([clinic, model([1 - p for p in PROBS])], [], cohort())
    assert both.text.endswith("Do not interpret heatmaps of enc · a.")
    assert describe_results(clinic, 1, cohort())[-1] == (
        "It learned from covariates alone, without the slides, so there is no heatmap."
    )


def test_heatmaps_no_better_than_chance_are_named() -> None:
    ends = {"x_y": [0.45, 0.7], "z": [0.55, 0.7]}
    methods = {name: {"tile_auroc": 0.6, "tile_auroc_ci95": interval} for name, interval in ends.items()}
    found = [c for c in limitations([model(PROBS, methods)], [], cohort()) if c.section == "explanations"]
    assert [c.text.rpartition(": ")[2] for c in found] == ["enc · a by x y."]


def test_wrong_slides_are_named_and_many_are_counted() -> None:
    found = [c for c in limitations([model(PROBS, auroc_ci95=[0.7, 1.0])], [], cohort("ooooooooe")) if c.slides]
    assert [c.slides for c in found] == [("s4", "s5")] and found[0].text == "enc · a predicts a wrong label for 2 slides:"
    table = {f"s{i}": {"role": "test", "predicted": "tumour"} for i in range(MAX_NAMED + 1)}
    rows = [SlideRow(name, Path("x"), "normal", name) for name in table]
    many = CohortOverview(rows, dict.fromkeys(table, Status.OK), REPORT, "slide", False)
    best = ModelPage("tumour", "enc", "a", {}, table, {"methods": {}}, None)
    first = limitations([best], [], many)[0]
    assert (first.text, first.section) == (
        f"enc · a predicts a wrong label for {MAX_NAMED + 1} slides; they are marked in red.",
        "cohort",
    )


def test_slides_that_were_trained_on_or_have_no_label_are_not_wrong() -> None:
    table = lines(PROBS)
    table[4]["role"] = "train"
    best = ModelPage("tumour", "enc", "a", {}, {row["slide_id"]: row for row in table}, {"methods": {}}, None)
    (found,) = [c.slides for c in limitations([best], [], cohort()) if c.slides]
    assert found == ("s5",)


def test_unused_slides_masks_and_several_models_are_mentioned() -> None:
    of_slides = cohort_limitations(cohort().rows, [], n_unused=3, n_suspicious=1)
    assert [(c.text, c.page, c.section) for c in of_slides] == [
        ("3 slides could not be used.", "index.html", "not-used"),
        ("1 tissue mask has warnings: tissue outside the mask is never analysed.", "index.html", "masks"),
        ("For research use only, not for diagnosis.", "", ""),
    ]
    assert cohort_limitations(cohort().rows, [], n_unused=0, n_suspicious=0) == of_slides[2:]
    last = limitations([model(PROBS), model(PROBS)], [], cohort())[-1]
    assert last.section == "compared" and "selected by the same figures" in last.text


def test_slides_under_several_names_are_listed_those_of_several_patients_first() -> None:
    groups = [("s7", "s8"), ("s0", "s2", "s5")]
    first, second, _ = cohort_limitations(cohort().rows, groups, n_unused=0, n_suspicious=0)
    assert first.slides == ("s0", "s2", "s5") and first.text == (
        "3 slides are the same file under different names; they count as 3 patients, so one can be used to train a model and"
        " another to test it:"
    )
    assert (second.text, second.slides) == ("2 slides are the same file under different names:", ("s7", "s8"))
    many = [("s0", f"s{i}") for i in range(1, 9)]
    *_, last, _ = cohort_limitations(cohort().rows, many, n_unused=0, n_suspicious=0)
    assert last.text == "3 more slides under several names: see cohort_status.csv."


def test_contradictory_labels_of_one_file_are_the_targets_limitation() -> None:
    groups = [("s7", "s8"), ("s0", "s1"), ("s0", "s2", "s5")]
    (found,) = [c for c in limitations([model(PROBS)], [], replace(cohort(), duplicates=groups)) if "same file" in c.text]
    assert found.slides == ("s0", "s2", "s5") and found.text == (
        "3 slides are the same file under different names, but their labels are “normal” and “tumour”, so at least one is wrong:"
    )


def test_html_in_notes_reasons_and_scanners_is_text(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    write_tiled(tmp_path, "s1", scanner=f"{hostile} 1")
    write_failed(tmp_path, "s3", f"{hostile} 2")
    write_model(tmp_path, "enc/a", lines(PROBS))
    write_explanations(tmp_path, "enc/a", notes={"s1": [f"{hostile} 3"]})
    html = page(tmp_path, ["a"])
    assert "<img src=x" not in html and all(f"&lt;img src=x onerror=alert(1)&gt; {k}" in html for k in (1, 3))
    assert 'href="index.html#not-used">Details' in html and "&gt; 2" not in html
    first = overview(tmp_path)
    assert "<img src=x" not in first and first.count("&lt;img src=x onerror=alert(1)&gt; 2") >= 2
    assert '<h2 id="not-used">' in first and 'href="#not-used">Details' in first


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0004, "0.000"), (4e-4, "0.000"), (-0.0006, "−0.001"), (0.25, "+0.250"), (None, "–")]
)
def test_zero_has_no_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_models_that_kept_the_last_epoch_are_named_with_their_folds() -> None:
    few, none = model(PROBS, unchosen_folds=[0, 3], n_folds=5), model(PROBS, unchosen_folds=[], n_folds=5)
    texts = [limitation.text for limitation in limitations([few, none], [], cohort())]
    assert (
        "Too few validation slides to select an epoch, so the last one was kept: enc · a (2 of 5 folds)."
        " Thresholds are based on these few slides." in texts
    )
    assert not any("Too few validation" in c.text for c in limitations([none], [], cohort()))


def test_a_main_figure_that_cannot_be_computed_is_told_from_a_lack_of_slides() -> None:
    undefined = ModelPage("tumour", "enc", "a", {"n_slides": 2, "n_bags": 2, "auroc": None}, {}, {"methods": {}}, None)
    assert model_summary(undefined, REPORT) == "AUROC cannot be computed from 2 slides"
    nothing = ModelPage("tumour", "enc", "a", {"n_slides": 0}, {}, {"methods": {}}, None)
    assert model_summary(nothing, REPORT) == "no labelled slide could be evaluated"


def test_a_figure_that_rounds_to_zero_has_no_sign() -> None:
    assert [decimals(value) for value in (-0.0004, -0.0006, None, float("nan"))] == ["0.000", "−0.001", "–", "–"]
