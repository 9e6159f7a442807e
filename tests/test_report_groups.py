"""Sites in the report: a made cohort whose label follows the site only, features saying the site, and what goes with a site."""

from pathlib import Path

import numpy as np

from tests.targets import NAME, block_of
from tests.test_report import write_tiled
from tests.train.cohort import CLASSES, CPU, TASK, write_features
from wsi_mil.bags import LabelledBag
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.cohort.splits import draw_splits, write_splits
from wsi_mil.config import Config, Predict, Split, Statistics, parse_base, parse_settings
from wsi_mil.ensemble import Ensemble
from wsi_mil.predict import predict_cohort, write_metrics, write_predictions
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Bag, SlideRow, Status
from wsi_mil.report import write_report
from wsi_mil.report.groups import GroupSection, group_section
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.registry import report_of as task_report_of
from wsi_mil.statistics import write_statistics
from wsi_mil.tasks import Multilabel, Regression, Task
from wsi_mil.train import Fold, train_fold

POSITIVE = {"A": (17, 20), "B": (2, 15), "C": (13, 16), "D": (3, 17), "E": (6, 6)}
"""Positive patients, and all of them, of each site."""
OFFSET = {"A": 2.0, "B": -2.0, "C": 2.5, "D": -1.5, "E": 2.0}
"""Of one feature of all tiles of a site."""
MODEL = {"model": "embedding_pool", "embed_dim": 8, "dropout": 0.0}
TRAINING = {"epochs": 15, "lr": 0.01, "min_epochs": 0, "min_val_bags": 1}


def made_cohort() -> tuple[list[SlideRow], list[LabelledBag]]:
    rows, bags = [], []
    for site, (n_positive, n) in POSITIVE.items():
        for i in range(n):
            label, slide = int(i < n_positive), f"{site}{i:02d}"
            features = np.random.default_rng([ord(site), i]).normal(scale=0.5, size=(5, 12))
            features[:, 3] += OFFSET[site]
            coords = np.stack([np.arange(5) * 224, np.zeros(5)], axis=1).astype(np.int64)
            bags.append(LabelledBag(Bag(slide, features.astype(np.float16), coords), label))
            name = CLASSES[label]
            rows.append(SlideRow(slide, Path("gone.svs"), name, f"p{slide}", group=site, labels={NAME: name}))
    return rows, bags


def report_of(folder: Path, split: dict[str, object]) -> tuple[dict, str]:
    """Figures and page of models that were trained on the made cohort."""
    rows, bags = made_cohort()
    content = {"cohort": "c.csv", "targets": block_of(*CLASSES), "results": folder, "encoders": {"enc": {}}, "split": split}
    config = parse_settings(Config, {**content, "models": {"pool": MODEL}, "explain": {"methods": []}})
    splits = draw_splits(rows, TASK, parse_settings(Split, split))
    write_splits(folder / f"splits/{NAME}.csv", splits)
    features, models = folder / "features/enc", folder / "models"
    write_features(features, bags)
    settings = parse_base({**MODEL, "train": TRAINING})
    for fold in range(splits.n_folds):
        train_fold(Fold(splits, fold, features, TASK), settings, models / f"fold-{fold}", CPU)
    ensemble = Ensemble(models, splits, TASK, CPU)
    predicted = predict_cohort(rows, features, ensemble, include_train=False)
    predictions, metrics = folder / f"predictions/{NAME}/enc/pool.csv", folder / f"metrics/{NAME}/enc/pool.json"
    write_predictions(predictions, predicted, TASK, ensemble.protocol)
    write_metrics(metrics, predicted, TASK, Predict(bootstrap=200), ensemble.metadata)
    for row in rows:
        write_tiled(folder, row.slide_id)
    write_status(folder / "cohort_status.csv", [SlideStatus(r.slide_id, Status.OK, "", "", {"enc": 5}) for r in rows])
    write_statistics([r.slide_id for r in rows], features, Statistics(), folder / "statistics/enc.json", threads=1)
    write_report(rows, config, folder / "report")
    return read_receipt(metrics), (folder / f"report/{NAME}.html").read_text()


def test_a_model_that_knows_the_site_is_at_chance_within_each_and_the_report_warns(tmp_path: Path) -> None:
    figures, page = report_of(tmp_path, {"group": "site", "folds": "all", "external": ["E"]})
    low, high = figures["of_group"]["mean"]["auroc_ci95"]
    assert (
        low < 0.5 < high and list(figures["of_group"]["groups"]) == list("ABCD") and figures["of_group"]["mean"]["n_groups"] == 4
    )
    assert [figures["of_group"]["groups"][site]["folds"] for site in "ABCD"] == [[0], [1], [2], [3]]
    assert figures["n_slides"] == 68, "external slides count in no figure but their own"
    external = figures["of_external"]["groups"]["E"]
    assert (external["n_bags"], external["folds"], external["lacks"]) == (6, [0, 1, 2, 3], "slide of class 'normal'")
    assert external["auroc"] is None and external["sensitivity"] is not None
    assert "Within a site, enc · pool (" in page and "not been shown to be better than chance (mean AUROC over sites)" in page
    assert "a logistic regression tells the site with AUROC" in page and "site and label: Cramér" in page
    assert '<td>E<span class="small">external, mean of all folds; 6 slides, 6 patients</span>' in page
    assert "has no slide of class &#39;normal&#39;, so some figures cannot be computed (–)" in page


def test_the_same_model_looks_good_with_folds_by_patient_and_the_report_warns(tmp_path: Path) -> None:
    figures, page = report_of(tmp_path, {"group": "site", "folds": 3, "whole_groups": False, "external": ["E"]})
    assert figures["auroc_ci95"][0] > 0.6 and figures["auroc"] > 0.7
    low, high = figures["of_group"]["mean"]["auroc_ci95"]
    assert low < 0.5 < high
    assert "The site alone predicts the label as well as the best model does (AUROC 0.7" in page
    assert "Within a site, enc · pool (" in page and "Models were trained on slides of the same site" in page


def section_of(folder: Path, task: Task, target: dict[str, object], labels: list[str]) -> GroupSection:
    """What a page says of the sites of 40 slides, half of them of Bern, whose features say nothing."""
    rows = [SlideRow(f"s{i:02d}", Path("x"), label, f"p{i:02d}", group=("Bern", "Chur")[i % 2]) for i, label in enumerate(labels)]
    bags = [
        LabelledBag(Bag(r.slide_id, np.eye(3, 4, i % 2).astype(np.float16), np.zeros((3, 2), np.int64)), 0)
        for i, r in enumerate(rows)
    ]
    write_features(folder / "features/enc", bags)
    write_statistics([r.slide_id for r in rows], folder / "features/enc", Statistics(), folder / "statistics/enc.json", threads=1)
    content = {"cohort": "c.csv", "targets": {"t": target}, "results": folder, "encoders": {"enc": {}}}
    config = parse_settings(Config, {**content, "models": {"pool": MODEL}, "split": {"group": "site", "whole_groups": False}})
    model = ModelPage("t", "enc", "pool", {}, {}, {"methods": {}}, None)
    found = group_section(rows, [model], task_report_of(task), config)
    assert found is not None
    return found


def test_the_page_names_the_label_that_follows_from_the_site_and_no_label_where_there_is_none(tmp_path: Path) -> None:
    markers = {"kind": "multilabel", "columns": ["er", "her2"]}
    labels = [f"{i // 2 % 2} {int(i % 2 == 0)}" for i in range(40)]
    section = section_of(tmp_path / "a", Multilabel(("er", "her2")), markers, labels)
    assert section.sentences[-1].startswith(
        "site and label 'her2': Cramér's V 1.000 (0: independent, 1: one follows from the other; the strongest of 2 labels). The"
        " site alone, without any image, predicts this label with AUROC 1.000"
    )
    assert section.limitations[0].text.startswith(
        "site and label 'her2' go together (Cramér's V 1.00, the strongest of 2 labels)"
    )
    none = section_of(tmp_path / "b", Multilabel(("er", "her2")), markers, [f"{i // 2 % 2} {i // 4 % 2}" for i in range(40)])
    assert none.sentences[-1].endswith("patients. Labels that are independent of it can give as much by chance.")
    assert not none.limitations
    values = section_of(
        tmp_path / "c", Regression(), {"kind": "regression", "column": "tmb"}, [f"{i % 2}.{i:02d}" for i in range(40)]
    )
    assert values.sentences[-1].startswith("site and value: Cramér's V ")
    assert (
        "values in 5 parts from low to high). The site alone, without any image, predicts the part with" in values.sentences[-1]
    )
    equal = section_of(tmp_path / "d", Regression(), {"kind": "regression", "column": "tmb"}, ["0.0"] * 40)
    assert equal.sentences[-1].startswith("Whether site and value go together cannot be measured: one of them has a single value")
