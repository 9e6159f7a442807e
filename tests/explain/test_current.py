"""A slide is explained again only if something has changed that its scores are made from."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.cohort import TASK
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import Explain
from wsi_mil.explain.current import _cards, explain_stamp, is_explained
from wsi_mil.explain.stage import explain_slide
from wsi_mil.receipts import store_marker, store_path, write_receipt
from wsi_mil.records import Role, SlideRow
from wsi_mil.store import remove_store


@pytest.fixture
def row(trained) -> SlideRow:
    return trained[2][3]


def stamp(trained, tmp_path: Path, row: SlideRow, **changes) -> dict[str, str]:
    _cards.cache_clear()  # one process sees one version of the models
    given = {"models": tmp_path / "m", "splits": trained[0], "task": TASK, "settings": Explain(), "unit": "slide", **changes}
    return explain_stamp(row, [tmp_path / "f" / f"{row.slide_id}.json"], **given)


def test_scores_are_current_until_their_store_is_deleted(trained, tmp_path: Path, row: SlideRow) -> None:
    made = stamp(trained, tmp_path, row)
    receipt = tmp_path / "scores" / f"{row.slide_id}.json"
    assert not is_explained(receipt, made)
    features = tmp_path / "f" / f"{row.slide_id}.json"
    explain_slide(row, [features], trained[1], Explain(methods=("attention",)), receipt, stamp=made)
    assert is_explained(receipt, made)
    remove_store(store_path(receipt))
    assert not is_explained(receipt, made)


def test_settings_models_features_and_placement_change_the_stamp(trained, tmp_path: Path, row: SlideRow) -> None:
    splits: Splits = trained[0]
    first = stamp(trained, tmp_path, row)
    assert stamp(trained, tmp_path, row) == first
    assert stamp(trained, tmp_path, replace(row, label="", path=Path("elsewhere"))) == first, "neither label nor path matter"
    changed = [
        stamp(trained, tmp_path, row, settings=Explain(curve_points=3)),
        stamp(trained, tmp_path, replace(row, patient_id="p"), unit="patient"),
        stamp(trained, tmp_path, row, splits=Splits(splits.patients, splits.labels, splits.roles[:2])),
    ]
    roles = [{**of_fold, row.slide_id: Role.TRAIN} for of_fold in splits.roles]
    changed.append(stamp(trained, tmp_path, row, splits=Splits(splits.patients, splits.labels, tuple(roles))))
    features = tmp_path / "f" / f"{row.slide_id}.json"
    for path in (tmp_path / "m" / "fold-2" / "config.json", store_marker(features)):
        path.write_text(path.read_text().replace("{", '{"new": 1, ', 1))
        changed.append(stamp(trained, tmp_path, row))
    write_receipt(features, {})
    changed.append(stamp(trained, tmp_path, row))
    assert len({made["made_from"] for made in [first, *changed]}) == 1 + len(changed)


def test_a_slide_whose_explanation_fails_has_no_receipt_of_earlier_scores(trained, tmp_path: Path, row: SlideRow) -> None:
    receipt = tmp_path / "scores" / f"{row.slide_id}.json"
    features = tmp_path / "f" / f"{row.slide_id}.json"
    explain_slide(row, [features], trained[1], Explain(methods=("attention",)), receipt)
    remove_store(store_path(features))
    with pytest.raises(Exception, match="no readable store"):
        explain_slide(row, [features], trained[1], Explain(methods=("attention",)), receipt)
    assert not receipt.exists()
