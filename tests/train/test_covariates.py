"""Models with covariates from folds to predictions: coded by the training part, trained, predicted and explained with them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.cohort import CPU
from tests.train.kinds import SMALL, TASKS, cohort_of, write_cohort
from wsi_mil.checkpoints import read_card
from wsi_mil.cohort.splits import Splits, draw_splits, protocol_roles
from wsi_mil.config import BagUnit, Covariates, Explain, Model, Split, parse_model
from wsi_mil.covariates import SlideCovariates
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError, StoreMismatchError
from wsi_mil.explain.stage import explain_slide, explain_validation
from wsi_mil.predict import covariate_facts, predict_cohort
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Task
from wsi_mil.train import Fold, train_fold

SETTINGS = Covariates(numbers=("age",), categories=("sex",))
CLINICAL = parse_model({"model": "clinical"})
BOTH = parse_model({"model": "abmil", "covariates": True, **SMALL})


class Known:
    """A cohort whose label follows the age of the patient, with features."""

    def __init__(self, folder: Path, kind: str, unit: BagUnit = "slide"):
        self.folder, self.unit, self.task = folder, unit, TASKS[kind]
        rows = cohort_of(kind, 24)
        self.rows = [replace(row, covariates=self.cells(row)) for row in rows]
        self.splits: Splits = draw_splits(self.rows, self.task, Split(folds=3))
        write_cohort(folder / "f", self.rows)

    @staticmethod
    def cells(row: SlideRow) -> dict[str, str]:
        number = int(row.patient_id[1:])
        cells = {"age": f"{40 + number}", "sex": "fm"[number % 2]}
        return {"sex": cells["sex"]} if number == 7 else {**cells, "sex": "x"} if number == 11 else cells

    @property
    def covariates(self) -> SlideCovariates:
        return SlideCovariates(SETTINGS, {row.slide_id: row.covariates for row in self.rows})

    def train(self, settings: Model, name: str, *, known: SlideCovariates | None = None, base: Path | None = None) -> None:
        for number in range(3):
            fold = Fold(self.splits, number, self.folder / "f", self.task, self.unit, covariates=known or self.covariates)
            own = base / f"fold-{number}" if base else None
            train_fold(fold, settings, self.folder / name / f"fold-{number}", CPU, base=own)

    def ensemble(self, name: str, task: Task | None = None, known: SlideCovariates | None = None) -> Ensemble:
        covariates = known or self.covariates
        return Ensemble(self.folder / name, self.splits, task or self.task, CPU, unit=self.unit, covariates=covariates)

    def outputs(self, name: str, known: SlideCovariates | None = None) -> dict[str, tuple[float, ...]]:
        predicted = predict_cohort(self.rows, self.folder / "f", self.ensemble(name, known=known), include_train=False)
        return {item.row.slide_id: item.prediction.outputs for item in predicted}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A cohort with trained `clinical` models in `c`."""
    known = Known(tmp_path_factory.mktemp("clinical"), "regression")
    known.train(CLINICAL, "c")
    return known


@pytest.mark.parametrize("kind", TASKS)
def test_clinical_learns_every_kind_from_covariates_and_reads_no_features(kind: str, tmp_path: Path) -> None:
    known = Known(tmp_path, kind)
    known.train(CLINICAL, "c")
    outputs = known.outputs("c")
    ages = np.array([float(row.covariates.get("age", "nan")) for row in known.rows])
    first = np.array([outputs[row.slide_id][0] for row in known.rows])
    is_known = ~np.isnan(ages)
    assert np.corrcoef(ages[is_known], first[is_known])[0, 1] > 0.6, "held-out slides, by a model that saw age and sex alone"
    for chunk in (tmp_path / "f").glob("*.zarr/features/c/**/*"):
        chunk.unlink() if chunk.is_file() else None
    assert known.outputs("c") == outputs, "features are gone, and nothing has changed"


def test_the_coding_is_of_the_training_part_alone_and_stands_in_the_card(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(CLINICAL, "c")
    for number in range(3):
        card = read_card(tmp_path / f"c/fold-{number}")
        training = {row.slide_id: row.covariates for row in known.rows}
        bags = [training[s] for s in known.splits.bags(number, protocol_roles("held_out")[0], "slide")]
        ages = [float(cells["age"]) for cells in bags if "age" in cells]
        assert card.coding is not None and card.coding.numbers[0].mean == pytest.approx(np.mean(ages))
        assert card.coding.numbers[0].n_missing == sum("age" not in cells for cells in bags)
        assert card.coding.categories[0].values == tuple(sorted({cells["sex"] for cells in bags}))
        raw = json.loads((tmp_path / f"c/fold-{number}/config.json").read_text())
        assert raw["coding"]["categories"][0]["values"] == list(card.coding.categories[0].values)


def test_what_is_missing_or_unseen_is_counted(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(CLINICAL, "c")
    ensemble = known.ensemble("c")
    facts = covariate_facts(predict_cohort(known.rows, tmp_path / "f", ensemble, include_train=False), ensemble)
    assert facts["covariates"] == {
        "columns": ["age", "sex"],
        "n_slides": len(known.rows),
        "missing": {"age": 1},
        "unseen": {"sex": {"x": 1}},
    }


@pytest.mark.parametrize(
    ("kind", "unit"), [("multilabel", "slide"), ("regression", "patient"), ("discrete", "slide"), ("cox", "patient")]
)
def test_a_model_with_covariates_predicts_by_them_and_by_the_slide(kind: str, unit: BagUnit, tmp_path: Path) -> None:
    known = Known(tmp_path, kind, unit)
    known.train(BOTH, "b")
    outputs = known.outputs("b")
    older = {slide: {**cells, "age": "99"} for slide, cells in known.covariates.of_slide.items()}
    moved = known.outputs("b", SlideCovariates(SETTINGS, older))
    assert all(outputs[slide] != moved[slide] for slide in outputs), "the same features, another age"
    assert len({values[0] for values in outputs.values()}) > 12


def test_mhim_takes_the_covariates_of_its_base_and_refuses_a_base_with_others(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(BOTH, "b")
    settings = parse_model({"model": "mhim", "base": "b", "train": SMALL["train"]})
    known.train(settings, "m", base=tmp_path / "b")
    assert read_card(tmp_path / "m/fold-0").coding == read_card(tmp_path / "b/fold-0").coding
    assert known.outputs("m") != known.outputs("b")
    others = SlideCovariates(SETTINGS, {s: {**c, "age": "50"} for s, c in known.covariates.of_slide.items()})
    with pytest.raises(StoreMismatchError, match="the base model was trained on other data: coding"):
        known.train(settings, "n", known=others, base=tmp_path / "b")


def test_a_model_that_needs_covariates_says_so_without_them(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    fold = Fold(known.splits, 0, tmp_path / "f", known.task)
    with pytest.raises(ConfigError, match="model clinical needs covariates: give --target the key covariates"):
        train_fold(fold, CLINICAL, tmp_path / "c", CPU)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Covariates(numbers=("age",)), r"expected categories: \[sex\], found categories: \[\]; give"),
        (Covariates(numbers=("weight",), categories=("sex",)), r"expected numbers: \[age\], found numbers: \[weight\]; give"),
        (
            Covariates(categories=("sex", "age")),
            r"expected numbers: \[age\], found numbers: \[\]; categories: \[sex\], found categories: \[sex, age\]",
        ),
    ],
)
def test_other_covariates_than_the_models_were_trained_with_are_a_fault(trained: Known, given: Covariates, found: str) -> None:
    others = SlideCovariates(given, trained.covariates.of_slide)
    with pytest.raises(ConfigError, match=rf"c/fold-0 was trained with other covariates: {found}"):
        trained.outputs("c", others)


def test_scores_add_up_with_the_covariates_of_the_slide_and_the_receipt_has_their_share(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(BOTH, "b")
    row = known.rows[0]
    settings = Explain(methods=("contribution", "evidence"), curve_points=0)
    explain_slide(row, [tmp_path / "f" / f"{row.slide_id}.json"], known.ensemble("b"), settings, tmp_path / "s.json")
    receipt = json.loads((tmp_path / "s.json").read_text())
    assert receipt["covariates"]["cells"] == row.covariates
    parts = receipt["methods"]["contribution"]["models"]
    assert np.mean([p["total"] for p in parts]) == pytest.approx(receipt["covariates"]["total"], rel=1e-4)
    assert all(abs(p["residual"]) < 1e-5 for p in parts)
    fold = known.ensemble("b").folds[receipt["folds"][0]]
    assert fold.card.coding is not None
    coded = fold.card.coding.encode(row.covariates)
    expected = fold.model.covariate_effects.numpy()[0] @ (coded - np.array(fold.card.coding.mean))
    assert receipt["covariates"]["share"] == pytest.approx(expected, rel=1e-3)


def test_what_the_slides_alone_predict_is_the_same_whatever_the_covariates(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(BOTH, "b")
    row, settings = known.rows[0], Explain(methods=("evidence",), curve_points=0)
    older = SlideCovariates(SETTINGS, {s: {**c, "age": "99"} for s, c in known.covariates.of_slide.items()})
    found = []
    for name, own in {"s": known.covariates, "t": older}.items():
        ensemble = known.ensemble("b", known=own)
        explain_slide(row, [tmp_path / "f" / f"{row.slide_id}.json"], ensemble, settings, tmp_path / f"{name}.json")
        found.append(json.loads((tmp_path / f"{name}.json").read_text()))
    alone = [receipt["covariates"]["slides_alone"] for receipt in found]
    assert alone[0] == alone[1] and found[0]["outputs"] != found[1]["outputs"]
    share = found[0]["covariates"]["share"]
    assert found[0]["outputs"][1] - alone[0]["outputs"][1] == pytest.approx(share, rel=1e-3), "standardised value"


def test_validation_slides_have_what_the_slides_alone_predict(tmp_path: Path) -> None:
    known = Known(tmp_path, "regression")
    known.train(BOTH, "b")
    explain_validation(
        0, tmp_path / "f", known.ensemble("b"), Explain(methods=("evidence",), curve_points=0), tmp_path / "v.json"
    )
    slides = json.loads((tmp_path / "v.json").read_text())["slides"]
    assert slides and all(len(own["covariates"]["slides_alone"]["outputs"]) == 2 for own in slides.values())
