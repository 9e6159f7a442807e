"""The classical sets: bags, folds, and their table."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.papers.classical import CHOICES, DRAWS, FOLDS, MODELS, SETS, ClassicalRun, ClassicalSet, read_set, runs, training
from benchmarks.papers.classical_table import PUBLISHED, TITLES, classical
from wsi_mil.config import parse_model


def write_set(data: Path, name: str, n: int = 40) -> None:
    """Bags of 1, 2 and 3 instances in turn; a positive bag has an instance far out on the first axis. Fold k holds out bag k."""
    rng = np.random.default_rng(0)
    sizes = np.array([1 + at % 3 for at in range(n)])
    features = rng.normal(size=(sizes.sum(), 5)).astype(np.float32) * 3 + 7
    labels = np.arange(n) % 2 == 1
    features[np.cumsum(sizes)[labels] - 1, 0] += 40
    train = np.ones((DRAWS, FOLDS, n), bool)
    for fold in range(FOLDS):
        train[:, fold, fold::FOLDS] = False
    (data / "classical").mkdir(parents=True, exist_ok=True)
    np.savez(data / "classical" / f"{name}.npz", features=features, bag_sizes=sizes, labels=labels, train=train)


def test_bags_are_cut_by_their_sizes_and_standardised_by_the_instances_of_the_training_part(tmp_path: Path) -> None:
    write_set(tmp_path, "fox")
    bags = ClassicalSet.read(tmp_path / "classical" / "fox.npz")
    part = np.zeros(40, bool)
    part[[0, 4, 5]] = True  # one, two and three instances
    items = bags.bags(part)
    assert [len(item.bag.features) for item in items[:4]] == [1, 2, 3, 1] and [item.label for item in items[:3]] == [0, 1, 0]
    fitted = np.concatenate([items[at].bag.features for at in (0, 4, 5)])
    assert np.allclose(fitted.mean(axis=0), 0, atol=1e-5) and np.allclose(fitted.std(axis=0), 1, atol=1e-5)


def test_every_model_is_an_entry_with_a_title_and_every_set_has_all_draws(tmp_path: Path) -> None:
    assert set(TITLES) == set(MODELS) and set(PUBLISHED) <= set(MODELS)
    entries = [{**entry, "train": training(choice)} for entry in MODELS.values() for choice in CHOICES]
    assert all(parse_model(entry).train.updates == 1600 for entry in entries)
    assert len(runs(tmp_path, fast=False)) == len(SETS) * len(MODELS) * DRAWS


@pytest.mark.slow
def test_a_draw_predicts_every_bag_once_and_the_table_has_its_mean_accuracy(tmp_path: Path) -> None:
    write_set(tmp_path, "tiger")
    read_set.cache_clear()
    run = ClassicalRun("tiger", "gated", 1)
    figures = run.work(tmp_path)
    read_set.cache_clear()
    assert sorted(name for fold in figures["folds"] for name in fold["images"]) == sorted(f"b{at}" for at in range(40))
    hits = [[(bag["prob"] >= 0.5) == bag["label"] for bag in fold["images"].values()] for fold in figures["folds"]]
    accuracy = np.mean([np.mean(fold) for fold in hits])
    assert accuracy > 0.8
    table = classical({run.name: {"figures": figures}})
    row = next(line for line in table.splitlines() if line.startswith("| Gated attention"))
    assert f"{accuracy:.3f} (1 of 5 draws) [.845]" in row and row.count("not yet run") == 3
