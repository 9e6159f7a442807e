from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.papers import nested
from benchmarks.papers.nested import NestedRun, design, inner_loss
from benchmarks.papers.tables import page
from tests.papers.test_tables import result
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.records import Role, SlideRow

CLASSES = nested.CLASSES
NAMES = [f"i{n}" for n in range(32)]


def blocks(shift: float) -> dict[int, dict[str, dict[str, np.ndarray]]]:
    """Noise at all scales; at 128 px the means of odd images are shifted."""
    rng = np.random.default_rng(0)
    return {
        side: {
            name: {
                kind: rng.normal(size=6) + (shift if (side, kind) == (128, "mean") and n % 2 else 0) for kind in ("mean", "std")
            }
            for n, name in enumerate(NAMES)
        }
        for side in nested.SIDES
    }


def splits_of(run: NestedRun) -> Splits:
    rows = [SlideRow(name, Path(name), label=CLASSES[n % 2], patient_id=name) for n, name in enumerate(NAMES)]
    return draw_splits(rows, nested.TASK, run.split)


def test_columns_are_those_of_the_choice_in_its_order() -> None:
    own = blocks(0.0)
    columns = design(own, ["i3", "i1"], ((64, 224), ("mean", "std"), 1.0))
    expected = np.concatenate([own[64]["i1"]["mean"], own[64]["i1"]["std"], own[224]["i1"]["mean"], own[224]["i1"]["std"]])
    assert columns.shape == (2, 24) and np.array_equal(columns[1], expected)


def test_the_inner_loss_is_that_of_images_that_were_not_fitted() -> None:
    labels = np.arange(30) % 2
    noise = np.random.default_rng(1).normal(size=(30, 200))
    assert inner_loss(noise, labels, 1.0, seed=0) > np.log(2)  # fitted perfectly, but worse than chance on others
    assert inner_loss(noise + 2 * labels[:, None], labels, 1.0, seed=0) < 0.1


def test_a_fold_chooses_the_scale_that_tells_the_classes_apart_and_predicts_each_held_out_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nested, "SCALES", ((64,), (128,)))
    run = NestedRun("breast", 1)
    own, splits = blocks(6.0), splits_of(run)
    folds = [run._fold(own, splits, number) for number in range(splits.n_folds)]
    assert {tuple(fold["chosen"]["scales"]) for fold in folds} == {(128,)}
    images = {name: image for fold in folds for name, image in fold["images"].items()}
    assert set(images) == set(NAMES) and all((image["prob"] > 0.5) == bool(image["label"]) for image in images.values())


def test_by_block_no_block_is_in_two_parts_of_the_split_or_of_the_inner_one() -> None:
    names = [f"ytma{block}_0_{kind}{n}_ccd" for block in range(6) for kind in ("benign", "malignant") for n in range(2)]
    rows = [SlideRow(name, Path(name), label=CLASSES["malignant" in name], patient_id=name) for name in names]
    rows = [replace(row, group=nested.block_of(row.slide_id)) for row in rows]
    run = NestedRun("breast", 0, by_block=True)
    splits = draw_splits(rows, nested.TASK, run.split)
    held_out = [{nested.block_of(name) for name in splits.slides(number, Role.TEST)} for number in range(splits.n_folds)]
    assert sorted(next(iter(blocks)) for blocks in held_out) == [f"ytma{block}_0" for block in range(6)]
    block, labels = np.repeat(np.arange(6), 4), np.tile([0, 0, 1, 1], 6)
    columns = np.eye(6)[block] * (2 * labels - 1)[:, None]  # a feature for each block, of use within its block only
    groups = [f"b{of}" for of in block]
    assert inner_loss(columns, labels, 1.0, seed=0) < 0.5 < inner_loss(columns, labels, 1.0, seed=0, groups=groups)


def test_the_table_counts_what_folds_chose() -> None:
    chosen = {"scales": [64, 128], "statistics": ["mean", "std"], "penalty": 0.01}
    folds = [
        {"chosen": chosen, "images": {"a": {"label": 1, "prob": 0.9}, "b": {"label": 0, "prob": 0.2}}},
        {"chosen": chosen, "images": {"c": {"label": 1, "prob": 0.4}, "d": {"label": 0, "prob": 0.1}}},
    ]
    lines = page("{{table: nested}}", {"nested/breast/draw-0": result(0, folds=folds)}).splitlines()
    breast = next(line for line in lines if line.startswith("| breast"))
    assert ".750/1.000/.500/.667/1.000 (1 of 5 draws)" in breast and "64 + 128 px, mean and std, C 0.01 (2)" in breast
    assert "not yet run" in next(line for line in lines if line.startswith("| colon"))
