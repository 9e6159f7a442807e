from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.papers import epoch_choice
from benchmarks.papers.epoch_choice import ChoiceRun, Recorder, kept, runs
from benchmarks.papers.mhim import FULL, TASK
from benchmarks.papers.tables import page
from tests.papers.test_tables import result
from tests.train.cohort import create_network
from wsi_mil.bags import BagSet
from wsi_mil.cohort.splits import Splits
from wsi_mil.metrics import auroc, brier
from wsi_mil.records import Role
from wsi_mil.train import predict_outputs
from wsi_mil.train.epochs import Epoch

LOSS, PLAIN_LOSS, AUROC, PLAIN_AUROC, LAST = epoch_choice.RULES
CURVE = [
    {"val_loss": 0.70, "val_auroc": 0.4, "auroc": 0.10, "brier": 0.25},
    {"val_loss": 0.66, "val_auroc": 0.8, "auroc": 0.20, "brier": 0.24},
    {"val_loss": 0.67, "val_auroc": 0.9, "auroc": 0.30, "brier": 0.23},
    {"val_loss": 0.655, "val_auroc": 0.9, "auroc": 0.40, "brier": 0.26},
    {"val_loss": 0.90, "val_auroc": 0.7, "auroc": 0.50, "brier": 0.30},
]


def test_each_rule_keeps_the_epoch_that_the_package_would() -> None:
    chosen = {rule: kept(CURVE, rule) for rule in epoch_choice.RULES}
    assert chosen == {LOSS: 0, PLAIN_LOSS: 3, AUROC: 2, PLAIN_AUROC: 3, LAST: 4}


def test_figures_of_the_test_slides_are_recorded_after_each_epoch(random_bags: Callable) -> None:
    network, bags = create_network(), BagSet.of(random_bags(6))
    recorder = Recorder(network, bags)
    recorder([Epoch(1, 0.5, 0.25, 0.75, 1e-4)])
    labels, probs = np.asarray(bags.truth.labels), predict_outputs(network, bags, TASK)
    expected = {"val_loss": 0.25, "val_auroc": 0.75, "auroc": auroc(labels, probs), "brier": brier(labels, probs)}
    assert recorder.as_json() == [expected]


def test_a_fifth_of_the_labels_is_wrong_but_none_that_is_tested() -> None:
    right = {f"s{number}": number % 2 for number in range(20)}
    splits = Splits({s: s for s in right}, {s: ("normal", "tumour")[label] for s, label in right.items()}, ({},))
    for role in (Role.TRAIN, Role.VAL):
        taught = ChoiceRun(FULL, "gated", "wrong-20", 3).labels_of(splits, role)
        assert sum(taught[slide] != right[slide] for slide in right) == 4
        assert taught == ChoiceRun(FULL, "dsmil", "wrong-20", 3).labels_of(splits, Role.TRAIN)
        assert taught != ChoiceRun(FULL, "gated", "wrong-20", 4).labels_of(splits, role)
        assert ChoiceRun(FULL, "gated", "wrong-0", 3).labels_of(splits, role) == right
    assert ChoiceRun(FULL, "gated", "wrong-20", 3).labels_of(splits, Role.TEST) == right


def test_there_is_a_run_for_each_seed_condition_and_model() -> None:
    names = [run.name for run in runs(Path("data"), fast=False)]
    assert len(set(names)) == len(names) == 30 and names[0] == "epoch_choice/wrong-0/gated/seed-0"


def test_the_table_has_a_row_for_each_rule_and_compares_the_same_folds() -> None:
    results = {f"epoch_choice/wrong-0/gated/seed-{s}": result(s, folds=[CURVE, CURVE]) for s in range(5)}
    lines = page("{{table: epoch_choice wrong-0}}", results).splitlines()
    last = next(line for line in lines if "| the last |" in line)
    assert last.startswith("| gated ABMIL | the last | 5 (5 to 5) | 0.500 ± 0.000 | +0.400")
    assert next(line for line in lines if "TransMIL" in line).count("not yet run") == 1
