"""Models that are compared within groups: one that adds a site's share of positive slides to its score is no better."""

from pathlib import Path

import numpy as np
import pytest

from tests.targets import NAME, block_of
from tests.test_report import CLASSES, REPORT, TASK, overview, write_explanations, write_tiled
from tests.test_report_kinds import QUESTIONS, table_of
from tests.test_report_overview import Table
from tests.train.cohort import write_features
from wsi_mil.bags import LabelledBag
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.config import Config, Statistics, parse_settings
from wsi_mil.figures import cohort_figures, group_figures
from wsi_mil.files import write_table
from wsi_mil.receipts import write_receipt
from wsi_mil.records import Bag, Role, SlideRow, Status
from wsi_mil.report import write_report
from wsi_mil.report.baseline import against
from wsi_mil.report.comparison import Groups, compare_models
from wsi_mil.report.registry import report_of
from wsi_mil.statistics import write_statistics

SHARES = {"A": 0.15, "B": 0.3, "C": 0.7, "D": 0.85}
"""Positive slides of each site."""
DRAWS = 300

Lines = list[dict[str, str]]


def made(n_of_site: int = 50) -> tuple[dict[str, Lines], dict[str, str]]:
    """Predictions of a model that sees a signal, and of one that sees it as badly and adds an offset of the site; the sites."""
    rng, tables, sites = np.random.default_rng(0), dict[str, Lines](mean=[], abmil=[]), dict[str, str]()
    for site, share in SHARES.items():
        for i in range(n_of_site):
            label, slide = int(i < round(share * n_of_site)), f"{site}{i:02d}"
            signal, sites[slide] = rng.normal(1.2 * label), site
            for name, score in (("mean", signal), ("abmil", signal + 5 * (share - 0.5) + rng.normal(0, 0.1))):
                tables[name].append(line(slide, label, 1 / (1 + np.exp(0.6 - score))))
    return tables, sites


def line(slide: str, label: int, p: float) -> dict[str, str]:
    probs = {"prob_normal": f"{1 - p:.6f}", "prob_tumour": f"{p:.6f}", "threshold": "0.5", "predicted": CLASSES[int(p >= 0.5)]}
    about = {"slide_id": slide, "patient_id": f"p{slide}", "label": CLASSES[label], "fold": str("ABCD".index(slide[0]))}
    return {**about, "role": "test", **probs, "bag": slide, "protocol": "held_out"}


def by_group(table: Lines, sites: dict[str, str]) -> dict[str, dict]:
    patients = [row["patient_id"] for row in table]
    return group_figures(TASK, TASK.read_outcomes(table), patients, [sites[row["slide_id"]] for row in table], draws=DRAWS)


def test_a_model_that_adds_the_site_is_better_over_all_slides_and_no_better_within_sites() -> None:
    tables, sites = made()
    pooled = against("abmil", "mean", compare_models(tables, REPORT, draws=DRAWS))
    within = against("abmil", "mean", compare_models(tables, REPORT, draws=DRAWS, groups=Groups("site", sites)))
    assert pooled is not None and pooled.sentence.startswith("abmil is better than mean: AUROC +0.0")
    assert within is not None and within.n == 200
    assert within.sentence.startswith("abmil has not been shown to be better than mean: mean AUROC over sites ")


def test_the_difference_is_that_of_the_means_over_groups_in_the_same_draws() -> None:
    tables, sites = made()
    means = {name: by_group(table, sites)["mean"] for name, table in tables.items()}
    (pair,) = compare_models(tables, REPORT, draws=DRAWS, groups=Groups("site", sites))
    assert (pair.first, pair.second, pair.figure) == ("mean", "abmil", "mean AUROC over sites")
    assert pair.difference.value == pytest.approx(means["mean"]["auroc"] - means["abmil"]["auroc"])
    spread = pair.difference.ci95[1] - pair.difference.ci95[0]
    low, high = means["mean"]["auroc_ci95"]
    assert spread < 0.3 * (high - low), "both models are drawn together, so what they share cancels"
    constant = {"mean": tables["mean"], "half": [line(r["slide_id"], CLASSES.index(r["label"]), 0.5) for r in tables["mean"]]}
    (half,) = compare_models(constant, REPORT, draws=DRAWS, groups=Groups("site", sites))
    assert half.difference.ci95 == pytest.approx((low - 0.5, high - 0.5)), "the draws are those of the mean's own interval"


def test_groups_without_a_figure_are_left_out_and_without_any_nothing_can_be_said() -> None:
    tables, sites = made(10)
    kept = [row for row in tables["mean"] if row["slide_id"][0] in "BC" or row["label"] == CLASSES[1]]
    with_two = [row for row in kept if row["slide_id"][0] in "BC"]
    (pair,) = compare_models({"a": kept, "b": reversed_of(kept)}, REPORT, draws=DRAWS, groups=Groups("site", sites))
    (both,) = compare_models({"a": with_two, "b": reversed_of(with_two)}, REPORT, draws=DRAWS, groups=Groups("site", sites))
    assert pair.difference.value == pytest.approx(both.difference.value) and pair.n > both.n
    one = [row for row in kept if row["label"] == CLASSES[1]]
    found = against("a", "b", compare_models({"a": one, "b": one}, REPORT, draws=50, groups=Groups("site", sites)))
    assert found is not None
    assert found.sentence.startswith("a cannot be compared with b: mean AUROC over sites cannot be computed on the same")


def reversed_of(table: Lines) -> Lines:
    return [line(row["slide_id"], CLASSES.index(row["label"]), 1 - float(row["prob_tumour"])) for row in table]


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_one_group_is_the_comparison_over_all_slides_of_every_kind(name: str) -> None:
    question = QUESTIONS[name]
    table = [row for row in table_of(question) if row["label"]]
    outputs = [key for key in question.cells[0] if key in ("risk", "value", "prob_er", "prob_her2")]
    other = [{**row, **{key: str(-float(row[key])) for key in outputs}} for row in table]
    tables, sites = {"own": table, "other": other}, {row["slide_id"]: "A" for row in table}
    (plain,) = compare_models(tables, report_of(question.task), draws=50)
    (grouped,) = compare_models(tables, report_of(question.task), draws=50, groups=Groups("site", sites))
    assert plain.difference == grouped.difference and plain.difference.value > 0


def bag_of(slide: str) -> LabelledBag:
    """Features of a slide that say nothing."""
    features = np.random.default_rng([ord(slide[0]), int(slide[1:])]).normal(size=(3, 8)).astype(np.float16)
    return LabelledBag(Bag(slide, features, np.array([[0, 0], [224, 0], [448, 0]])), 0)


def report(folder: Path, *, group: str | None) -> tuple[str, str]:
    """The overview, and the page of both models of the made cohort."""
    tables, sites = made()
    split = {"group": group, "folds": "all"} if group else {}
    settings = {"cohort": "c.csv", "targets": block_of(*CLASSES), "results": folder, "encoders": {"enc": {}}, "split": split}
    models = {"abmil": {"model": "abmil"}, "mean": {"model": "mean_linear"}}
    config = parse_settings(Config, {**settings, "models": models, "explain": {"methods": []}})
    rows = [
        SlideRow(
            r["slide_id"], Path("gone.svs"), r["label"], r["patient_id"], labels={NAME: r["label"]}, group=sites[r["slide_id"]]
        )
        for r in tables["mean"]
    ]
    for name, table in tables.items():
        write_table(folder / f"predictions/{NAME}/enc/{name}.csv", list(table[0]), [row.values() for row in table])
        outcomes, patients = TASK.read_outcomes(table), [row["patient_id"] for row in table]
        parts = {k: outcomes.rows(np.arange(50 * k, 50 * k + 50)) for k in range(4)}
        figures = {"n_slides": len(table), **cohort_figures(TASK, outcomes, patients, parts, draws=DRAWS)}
        if group:
            figures["of_group"] = by_group(table, sites)
            for k, own in enumerate(figures["of_group"]["groups"].values()):
                own["folds"] = [k]
        write_receipt(folder / f"metrics/{NAME}/enc/{name}.json", {"protocol": "held_out", **figures})
        write_explanations(folder, f"enc/{name}")
    for row in rows:
        write_tiled(folder, row.slide_id)
    write_status(folder / "cohort_status.csv", [SlideStatus(row.slide_id, Status.OK, "", "", {"enc": 9}) for row in rows])
    write_features(folder / "features/enc", [bag_of(row.slide_id) for row in rows])
    slides, receipt = [row.slide_id for row in rows], folder / "statistics/enc.json"
    write_statistics(slides, folder / "features/enc", Statistics(), receipt, threads=1)
    labels = {row.slide_id: row.label for row in rows}
    roles = tuple({s: Role.TEST if s[0] == site else Role.TRAIN for s in labels} for site in SHARES)
    write_splits(folder / f"splits/{NAME}.csv", Splits({row.slide_id: row.patient_id for row in rows}, labels, roles))
    write_report(rows, config, folder / "report")
    return overview(folder), (folder / f"report/{NAME}.html").read_text()


def test_the_page_compares_and_orders_models_within_groups_and_says_so(tmp_path: Path) -> None:
    index, page = report(tmp_path, group="site")
    assert "enc · mean is a linear model of the mean of the features; the other model on these features has not been" in page
    assert "enc · abmil has not been shown to be better than enc · mean, a linear model" in page
    assert ": mean AUROC over sites " in page and "is better than" not in page.replace("shown to be better than", "")
    assert (
        "<p>The mean AUROC over sites of one model minus that of another" in page and "draws of patients within each site" in page
    )
    assert "Its mean AUROC over sites, by which models are ordered and compared, is 0." in page
    assert "Models are in the order of their mean AUROC over sites, by which they are" in page
    rows = Table(index).rows[1:3]
    assert [row[1:3] for row in rows] == [["enc · mean", "mean AUROC over sites"], ["enc · abmil", "mean AUROC over sites"]]
    assert float(rows[0][3]) >= float(rows[1][3])


def test_without_groups_the_page_compares_over_all_slides(tmp_path: Path) -> None:
    index, page = report(tmp_path, group=None)
    assert "enc · abmil is better than enc · mean" in page and "over sites" not in page and "within each" not in page
    assert [row[1:3] for row in Table(index).rows[1:3]] == [["enc · abmil", "AUROC"], ["enc · mean", "AUROC"]]
