from pathlib import Path

import pytest

from tests.test_report import KIND, PROBS, figures_of, lines, page, write_explanations, write_model, write_tiled
from tests.test_report_contact_sheet import write_failed
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.comparison import counted
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.stage import signed
from wsi_mil.report.words import NAMED, Cohort, cautions, what_came_out, what_was_done


def cohort(statuses: str = "ooooooooo", *, bag: str = "slide", trained: bool = False) -> Cohort:
    """Slides s0 to s8 of `test_report`; a letter each: ok, empty, failed, skipped."""
    letters = {"o": Status.OK, "e": Status.EMPTY, "f": Status.FAILED, "s": Status.SKIPPED}
    labels = [*"nnnnnttt", ""]
    names = {"n": "normal", "t": "tumour", "": ""}
    rows = [SlideRow(f"s{i}", Path("gone.svs"), names[label], f"p{min(i, 7)}") for i, label in enumerate(labels)]
    return Cohort(rows, {f"s{i}": letters[letter] for i, letter in enumerate(statuses)}, KIND, bag, trained)


def model(probs: list[float], methods: dict[str, dict] | None = None, **changes: object) -> ModelPage:
    table = lines(probs)
    metrics = {"protocol": "held_out", "n_slides": 8, **figures_of(counted(table)), **changes}
    explanations = {"methods": methods or {}, "n_with_truth": len(methods or {}), "notes": {}}
    return ModelPage("enc", "a", metrics, {row["slide_id"]: row for row in table}, explanations, "", [])


def test_what_went_in_is_counted() -> None:
    first, second, third = what_was_done(cohort("oooofeoso"))
    assert first.startswith(
        "9 slides of 8 patients: 5 labelled “normal” and 3 labelled “tumour”, and 1 without a label, which is"
    )
    assert second == "6 of them could be used (1 failed, 1 without tissue and 1 skipped for want of a resolution)."
    assert third.startswith("From the labels alone")
    assert what_was_done(cohort(trained=True))[1:] == [
        "All could be used.",
        "The models were trained in an earlier run and are applied here as they are.",
    ]


def test_the_best_model_is_told_in_slides_and_in_pairs() -> None:
    text = " ".join(what_came_out(model(PROBS), 2, cohort()))
    assert "the best of 2 models, enc · a, called 6 rightly: 4 of 5 “normal” and 2 of 3 “tumour”" in text
    assert "it ranks the “tumour” one higher in 93.3 % of cases (AUROC 0.933;" in text, "14 of 15 pairs"
    assert "No outline was at hand" in text


def test_perfect_figures_are_not_said_to_be_certain() -> None:
    text = " ".join(what_came_out(model([0.1] * 5 + [0.9] * 3 + [0.5]), 1, cohort()))
    assert "in 100.0 % of cases" in text and "so few cannot show" in text and "plausible" not in text


def test_without_labels_there_are_predictions_only() -> None:
    (line,) = what_came_out(model(PROBS, n_slides=0), 1, cohort())
    assert line.endswith("there are predictions only.")


def test_heatmaps_held_against_outlines_are_told_by_method() -> None:
    methods = {"attention": {"tile_auroc": 0.9, "tile_auroc_ci95": [0.8, 1.0], "n_positive_slides": 3}}
    methods["sparse_inversion"] = methods["attention"] | {"tile_auroc": 0.955}
    methods["gradient_input"] = {"tile_auroc": None}
    text = what_came_out(model(PROBS, methods), 1, cohort())[-1]
    assert "the outlines of 3 slides" in text and "in 90.0 % (attention) and 95.5 % (sparse inversion) of cases" in text


def test_a_guessing_model_is_not_to_be_believed() -> None:
    (caution, *_) = cautions([model([1 - p for p in PROBS])], [], cohort(), 0)
    assert "enc · a cannot be told from guessing" in caution.text and "Its heatmaps show nothing" in caution.text
    assert not any("guessing" in c.text for c in cautions([model(PROBS, auroc_ci95=[0.7, 1.0])], [], cohort(), 0))
    assert any("guessing" in c.text for c in cautions([model(PROBS, auroc_ci95=[None, None])], [], cohort(), 0))


def test_heatmaps_no_better_than_chance_are_named() -> None:
    ends = {"x_y": [0.45, 0.7], "z": [0.55, 0.7]}
    methods = {name: {"tile_auroc": 0.6, "tile_auroc_ci95": interval} for name, interval in ends.items()}
    found = [c for c in cautions([model(PROBS, methods)], [], cohort(), 0) if c.section == "explanations"]
    assert [c.text.rpartition(": ")[2] for c in found] == ["enc · a by x y."]


def test_wrong_slides_are_named_and_many_are_counted() -> None:
    found = [c for c in cautions([model(PROBS, auroc_ci95=[0.7, 1.0])], [], cohort("ooooooooe"), 2) if c.slides]
    assert [c.slides for c in found] == [("s4", "s5")] and found[0].text == "enc · a calls 2 slides wrongly:"
    table = {f"s{i}": {"role": "test", "predicted": "tumour"} for i in range(NAMED + 1)}
    rows = [SlideRow(name, Path("x"), "normal", name) for name in table]
    many = Cohort(rows, dict.fromkeys(table, Status.OK), KIND, "slide", False)
    best = ModelPage("enc", "a", {}, table, {"methods": {}}, "", [])
    first = cautions([best], [], many, 0)[0]
    assert (first.text, first.section) == (f"enc · a calls {NAMED + 1} slides wrongly; they stand in red.", "cohort")


def test_slides_that_were_trained_on_or_have_no_label_are_not_wrong() -> None:
    table = lines(PROBS)
    table[4]["role"] = "train"
    best = ModelPage("enc", "a", {}, {row["slide_id"]: row for row in table}, {"methods": {}}, "", [])
    (found,) = [c.slides for c in cautions([best], [], cohort(), 0) if c.slides]
    assert found == ("s5",)


def test_unused_slides_masks_and_several_models_are_pointed_at() -> None:
    found = {c.section: c.text for c in cautions([model(PROBS), model(PROBS)], [], cohort("ofoooooee"), 1)}
    assert found["not-used"] == "3 slides could not be used." and found["masks"].startswith("1 tissue mask bears a warning")
    assert "chosen by these very figures" in found["compared"] and found[""].startswith("Made for research")


def test_slides_under_several_names_are_named_with_what_contradicts() -> None:
    plain = Cohort(cohort().rows, cohort().status, KIND, "slide", False, [("s7", "s8")])
    (found,) = [c for c in cautions([model(PROBS, auroc_ci95=[0.7, 1.0])], [], plain, 0) if c.slides and "names" in c.text]
    assert (found.text, found.slides) == ("2 slides are one, under several names:", ("s7", "s8"))
    unlike = Cohort(cohort().rows, cohort().status, KIND, "slide", False, [("s7", "s8"), ("s0", "s1"), ("s0", "s2", "s5")])
    first, second, third = [c for c in cautions([model(PROBS)], [], unlike, 0) if "names" in c.text]
    assert first.slides == ("s0", "s2", "s5")
    assert "though their labels are “normal” and “tumour”: one of them is wrong" in first.text
    assert "as 3 patients they may lie on both sides of a split" in first.text
    assert "labels" not in second.text and "as 2 patients" in second.text and third.slides == ("s7", "s8")
    many = Cohort(cohort().rows, cohort().status, KIND, "slide", False, [("s0", f"s{i}") for i in range(1, 9)])
    *_, last = [c for c in cautions([model(PROBS)], [], many, 0) if "names" in c.text]
    assert last.text == "3 more slides under several names: cohort_status.csv says which."


def test_html_in_notes_reasons_and_scanners_is_text(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    write_tiled(tmp_path, "s1", scanner=f"{hostile} 1")
    write_failed(tmp_path, "s3", f"{hostile} 2")
    write_model(tmp_path, "enc/a", lines(PROBS))
    write_explanations(tmp_path, "enc/a", notes={"s1": [f"{hostile} 3"]})
    html = page(tmp_path, ["a"])
    assert "<img src=x" not in html and all(f"&lt;img src=x onerror=alert(1)&gt; {k}" in html for k in (1, 2, 3))
    assert '<h2 id="not-used">' in html and 'href="#not-used">More' in html


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0004, "0.000"), (4e-4, "0.000"), (-0.0006, "−0.001"), (0.25, "+0.250"), (None, "–")]
)
def test_zero_has_no_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_models_whose_epoch_nothing_chose_are_named_with_their_folds() -> None:
    few, none = model(PROBS, unchosen_folds=[0, 3], n_folds=5), model(PROBS, unchosen_folds=[], n_folds=5)
    texts = [caution.text for caution in cautions([few, none], [], cohort(), 0)]
    assert (
        "Too few validation slides to choose an epoch by; the last one was kept: enc · a (2 of 5 folds)."
        " Their thresholds stand on those few slides." in texts
    )
    assert not any("Too few validation" in c.text for c in cautions([none], [], cohort(), 0))
