import json
import math
from pathlib import Path

import pytest

from benchmarks.papers import key_tables, tables
from benchmarks.papers.cells import NOT_RUN, difference, over_seeds, read_results, repeat_figures
from benchmarks.papers.tables import page


def result(seed: int = 0, **figures: object) -> dict:
    machine = {"hardware": {"cpu": "abacus", "threads": 1}, "versions": {"torch": "2.0"}, "date": "2026-01-02", "seconds": 1800.0}
    return {"seed": seed, "settings": {"fold": seed}, "figures": figures, **machine}


def test_seeds_are_summed_up_and_missing_ones_are_counted() -> None:
    assert over_seeds([0.9, 0.8, 1.0], 3) == "0.900 ± 0.100"
    assert over_seeds([0.9, 0.8], 3) == "0.850 ± 0.071 (2 of 3)"
    assert over_seeds([0.9], 3) == "0.900 (1 of 3)"
    assert over_seeds([], 3) == over_seeds([math.nan], 3) == NOT_RUN


def test_a_difference_is_paired() -> None:
    # differences 0.1, 0.1, 0.4: mean 0.2, sd 0.1732, se 0.1; t(2) = 4.3027
    assert difference([1.0, 2.1, 3.4], [0.9, 2.0, 3.0]) == "+0.200 (-0.230 to +0.630)"
    assert difference([0.5], [0.75]) == "-0.250" and difference([], []) == NOT_RUN


def test_results_are_read_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "mnist_bags" / "mean-10").mkdir(parents=True)
    (tmp_path / "mnist_bags" / "mean-10" / "x.json").write_text(json.dumps({"seed": 3}))
    assert read_results(tmp_path) == {"mnist_bags/mean-10/x": {"seed": 3}}


def test_rows_that_are_not_run_say_so() -> None:
    results = {f"mnist_bags/mean-10/attention/seed-{s}": result(s, auroc=0.95 + s / 100, accuracy=0.9) for s in range(5)}
    results |= {f"mnist_bags/mean-10/instance_max/seed-{s}": result(s, auroc=0.96, accuracy=0.9) for s in (1, 3)}
    lines = page("{{table: mnist_bags}}\n\n{{table: mnist_differences}}", results).splitlines()
    row = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")[1:]] for line in lines if line}
    assert row["Attention"] == ["0.970 ± 0.016", NOT_RUN, NOT_RUN, "0.900 ± 0.000", ".996 ± .008"]
    assert row["Instance + max"][:2] == ["0.960 ± 0.000 (2 of 5)", "–"] and row["Gated attention"][0] == NOT_RUN
    # seeds 1 and 3 of both: 0.96 - 0.96, 0.98 - 0.96; t(1) = 12.706
    assert row["minus Instance + max"] == ["+0.010 (-0.117 to +0.137)", NOT_RUN]


def test_figures_of_a_cross_validation_are_of_all_held_out_images() -> None:
    parts = [
        {"a": {"label": 1, "prob": 0.9}, "b": {"label": 0, "prob": 0.6}},
        {"c": {"label": 1, "prob": 0.4}, "d": {"label": 0, "prob": 0.1}, "e": {"label": 0, "prob": 0.2}},
    ]
    figures = repeat_figures(parts)
    assert figures["accuracy"] == pytest.approx(3 / 5) and figures["precision"] == 0.5 and figures["sensitivity"] == 0.5
    assert figures["auroc"] == pytest.approx(5 / 6)
    assert figures["of_fold"]["1"]["accuracy"] == pytest.approx(2 / 3)


def test_colon_folds_are_shown_once_they_are_all_there() -> None:
    images = {f: {f"p{f}": {"label": 1, "prob": 0.8}, f"n{f}": {"label": 0, "prob": 0.3}} for f in range(10)}
    results = {f"colon/attention/fold-{f}": result(f, images=images[f]) for f in range(10)}
    results |= {f"colon/gated/fold-{f}": result(f, images=images[f]) for f in range(4)}
    lines = {line.split(" | ")[0].strip("| "): line for line in page("{{table: colon}}", results).splitlines()}
    assert (
        "1.000/1.000/1.000/1.000/1.000 (1 of 2 repeats)" in lines["Attention"]
        and ".904/.953/.855/.901/.968" in lines["Attention"]
    )
    assert f"{NOT_RUN} (4 of 10 folds)" in lines["Gated attention"] and NOT_RUN in lines["Instance + max"]


def test_folds_that_rank_alike_on_other_scales_are_told_beside_all_images_together() -> None:
    results = {}
    for f in range(10):
        shift = 0.4 * (f % 2)  # 0.8 over 0.6, or 0.4 over 0.2: of the pairs of all images a quarter is the wrong way round
        images = {f"p{f}": {"label": 1, "prob": 0.8 - shift}, f"n{f}": {"label": 0, "prob": 0.6 - shift}}
        results[f"colon/attention/fold-{f}"] = result(f, images=images)
    (line,) = (line for line in page("{{table: colon}}", results).splitlines() if line.startswith("| Attention"))
    assert "AUROC 0.750 (" in line and "over folds 1.000 ± 0.000" in line


def test_repeats_of_a_cross_validation_that_are_missing_are_counted() -> None:
    images = {f: {f"p{f}": {"label": 1, "prob": 0.8}, f"n{f}": {"label": 0, "prob": 0.3}} for f in range(20)}
    results = {f"breast/attention/fold-{f}": result(f, images=images[f]) for f in range(9)}
    results |= {f"breast/gated/fold-{f}": result(f, images=images[f]) for f in range(20)}
    lines = {line.split(" | ")[0].strip("| "): line for line in page("{{table: breast}}", results).splitlines()}
    assert "1.000/1.000/1.000/1.000/1.000 (2 of 5 repeats)" in lines["Attention"]
    assert "1.000/1.000/1.000/1.000/1.000 |" in lines["Gated attention"]


def key_result(seed: int, attention: float, refined: float) -> dict:
    of = {m: dict.fromkeys(key_tables.KEY_FIGURES, v) for m, v in (("attention", attention), ("pixels → attention", refined))}
    return result(seed, scores=of, sweep=[])


def test_key_scores_are_held_against_attention_seed_by_seed() -> None:
    results = {f"mnist_keys/mean-50/attention/seed-{s}": key_result(s, 0.5 + s / 10, 0.6 + s / 10) for s in range(3)}
    results["mnist_keys/mean-50/attention/seed-0-sharpened-3"] = key_result(0, 0.1, 0.2)
    plain, sharp, none = page(
        "{{table: mnist_keys/mean-50/attention}}\n=\n{{table: mnist_keys/mean-50/attention sharpened 3}}\n="
        "\n{{table: mnist_keys/mean-50/attention sharpened 10}}",
        results,
    ).split("=\n")
    assert "| attention a | 0.600 ± 0.100" in plain and "| inversion of pixels → attention | 0.700 ± 0.100" in plain
    assert "+0.100 (+0.100 to +0.100)" in plain
    assert "| 0.200 (1 of 3)" in sharp and NOT_RUN in none


def test_key_scores_that_matter_less_are_folded() -> None:
    of = {m: dict.fromkeys(key_tables.KEY_FIGURES, 0.5) for m in ("attention", "gradient_input", "pixels → retained")}
    made = page(
        "{{table: mnist_keys/mean-50/attention}}", {"mnist_keys/mean-50/attention/seed-0": result(0, scores=of, sweep=[])}
    )
    first, folded = made.split("<details><summary>All 3 scores</summary>\n\n| score")
    assert "| attention a |" in first and "gradient" not in first and "retained" not in first
    assert all(row in folded for row in ("| attention a |", "| gradient × pixels |", "| inversion of pixels → retained |"))
    assert folded.endswith("|\n\n</details>")


def test_the_verdict_is_by_condition() -> None:
    def run(seed: int, gain: float) -> dict:
        methods = ("pixels → attention", "pixels → attention (control)", "pixels → evidence", "features → evidence")
        of = {key: {"f1": 0.5} for key in ("attention", "evidence", "standardised_sum", *methods)}
        return result(seed, scores=of | {"pixels → attention": {"f1": 0.5 + gain}}, sweep=[])

    names = ("mean-10/attention/seed-0", "mean-10/attention/seed-1", "mean-10/attention/seed-0-sharpened-3")
    results = {f"mnist_keys/{name}": run(n, gain) for n, (name, gain) in enumerate(zip(names, (0.1, 0.1, -0.2), strict=True))}
    _, _, plain, sharp = page("{{table: key_verdict}}", results).splitlines()
    assert plain.startswith("| mean-10/attention | 2 | 0.500 | +0.100 (+0.100 to +0.100) | +0.100")
    assert sharp.startswith("| mean-10/attention sharpened-3 | 1 | 0.500 | -0.200 | -0.200 | +0.000")


def test_the_page_of_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError, match="mnist_bagz"):
        page("{{table: mnist_bagz}}", {})


def test_every_table_of_the_text_is_made_without_a_single_run() -> None:
    made = page(tables.TEXT.read_text(encoding="utf-8"), {})
    assert "{{" not in made and NOT_RUN in made and "make papers DATA=" in made
