from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.cohort import CPU, TASK
from wsi_mil.bags import bag_tensor
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import EXPLANATIONS, MODELS, Explain, SparseInversion, parse_base, resolved, supports
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError
from wsi_mil.explain.agreement import with_permuted_weights
from wsi_mil.explain.attention import attention
from wsi_mil.explain.registry import RANDOMISED, ExplainRequest, scores_of
from wsi_mil.explain.stage import explain_slide, explain_validation
from wsi_mil.metrics import spearman
from wsi_mil.models import MILModel
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import Bag, SlideRow
from wsi_mil.store import read_scores
from wsi_mil.train import Fold, train_fold


def explained(trained, row: SlideRow, tmp_path: Path, settings: Explain | None = None, splits: Splits | None = None):
    _, ensemble, _ = trained
    ensemble = Ensemble(ensemble.folder, splits, TASK, CPU) if splits else ensemble
    receipt = tmp_path / "scores" / f"{row.slide_id}.json"
    features = tmp_path / "f" / f"{row.slide_id}.json"
    explain_slide(row, [features], ensemble, settings or Explain(), receipt)
    methods = resolved((settings or Explain()).methods, ensemble.folds[0].card.architecture.best)
    return read_receipt(receipt), {m: read_scores(store_path(receipt), m)[1] for m in methods}


def model_and_bag(trained, slide: str, tmp_path: Path) -> tuple[MILModel, torch.Tensor]:
    splits, ensemble, _ = trained
    fold = splits.placement(slide, splits.patients[slide]).folds[0]
    model = ensemble.folds[fold].model
    return model, bag_tensor(ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"]), model)


def test_scores_point_at_the_instances_that_make_the_bag_positive(trained, tmp_path: Path) -> None:
    _, _, rows = trained
    hits = {method: [] for method in resolved(Explain().methods, "standardised_contribution")}
    for row in rows[:24]:
        receipt, scores = explained(trained, row, tmp_path)
        if row.label == "tumour" and receipt["predicted"] == 1:
            for method, values in scores.items():
                hits[method].append(set(np.argsort(values)[-2:]) == {0, 1})
    assert len(hits["attention"]) >= 10
    assert set(hits) == {"attention", "sparse_inversion", "standardised_contribution"}
    assert all(np.mean(found) > 0.8 for found in hits.values())


def test_attention_sums_to_one_and_is_that_of_the_fold_that_held_the_slide_out(trained, tmp_path: Path) -> None:
    _, scores = explained(trained, trained[2][3], tmp_path)
    model, bag = model_and_bag(trained, trained[2][3].slide_id, tmp_path)
    assert scores["attention"].sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(scores["attention"], attention(model, bag, 1).scores, atol=1e-7)


def test_a_new_patients_scores_are_the_mean_over_folds(trained, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    receipt, scores = explained(trained, rows[-1], tmp_path)
    bag = ensemble.read_bag("s", [tmp_path / "f" / "s25.json"])
    each = [attention(m.model, bag_tensor(bag, m.model), 1).scores for m in ensemble.folds]
    assert receipt["folds"] == [0, 1, 2] and np.allclose(scores["attention"], np.mean(each, axis=0), atol=1e-7)


def test_a_slide_predicted_negative_has_no_key_instances(trained, tmp_path: Path) -> None:
    found = 0
    for row in trained[2]:
        receipt, scores = explained(trained, row, tmp_path)
        if receipt["predicted"] == 0:
            found += 1
            assert np.isnan(scores["sparse_inversion"]).all() and np.isfinite(scores["attention"]).all()
            assert "predicted negative" in receipt["methods"]["sparse_inversion"]["reason"]
    assert found >= 10


def test_each_class_that_is_asked_for_has_scores_of_its_own(trained, tmp_path: Path) -> None:
    settings = Explain(methods=("evidence", "sparse_inversion"), outputs=("normal", "tumour"), curve_points=0)
    for row in trained[2][2:4]:  # one of each class
        receipt, scores = explained(trained, row, tmp_path, settings)
        _, normal = read_scores(tmp_path / "scores" / f"{row.slide_id}.zarr", "evidence@normal")
        assert np.allclose(normal, -scores["evidence"], atol=1e-4) and receipt["output"] == 1
        entries = {name: receipt["methods"][f"sparse_inversion{name}"] for name in ("", "@normal")}
        assert {name: entry["output"] for name, entry in entries.items()} == {"": 1, "@normal": 0}
        reasons = [entry["reason"] for entry in entries.values()]
        other = "predicted negative" if receipt["predicted"] == 0 else "not predicted as normal"
        assert sorted(reasons) == ["", f"{other}: sparse inversion finds no key instances"]
    receipt, scores = explained(trained, row, tmp_path, settings.model_copy(update={"outputs": ("normal",)}))
    assert np.array_equal(scores["evidence"], normal) and receipt["output"] == 0 and receipt["asked_by_prediction"] == [1]


def test_a_training_slide_is_not_explained_unless_asked_for(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    fixed = Splits(splits.patients, splits.labels, splits.roles[:1])
    row = next(r for r in rows if fixed.placement(r.slide_id, r.patient_id).role == "train")
    receipt, scores = explained(trained, row, tmp_path, splits=fixed)
    assert np.isnan(scores["attention"]).all() and "probs" not in receipt
    assert "training slide" in receipt["methods"]["attention"]["reason"]
    receipt, scores = explained(trained, row, tmp_path, Explain(include_train=True), splits=fixed)
    assert np.isfinite(scores["attention"]).all() and receipt["role"] == "train"


def test_explaining_twice_gives_the_same_receipt(trained, tmp_path: Path) -> None:
    explained(trained, trained[2][3], tmp_path)
    first = (tmp_path / "scores" / "s03.json").read_bytes()
    explained(trained, trained[2][3], tmp_path)
    assert (tmp_path / "scores" / "s03.json").read_bytes() == first


def test_a_refusal_is_said_and_leaves_no_scores(trained, tmp_path: Path) -> None:
    row = next(r for r in trained[2][:24] if r.label == "tumour" and explained(trained, r, tmp_path)[0]["predicted"] == 1)
    harsh = Explain(sparse_inversion=SparseInversion(step=0, penalty=0.9, steps=40))
    receipt, scores = explained(trained, row, tmp_path, harsh)
    assert np.isnan(scores["sparse_inversion"]).all()
    assert "lost every feature" in receipt["methods"]["sparse_inversion"]["reason"]
    log = next(iter(receipt["methods"]["sparse_inversion"]["folds"].values()))
    assert log["stopped"] == "refused" and 0 < log["steps"] < 40
    assert np.isnan(read_scores(tmp_path / "scores" / f"{row.slide_id}.zarr", "sparse_inversion_control")[1]).all()


def test_scores_of_a_slide_in_its_patients_bag_are_its_own_rows(trained, tmp_path: Path) -> None:
    splits, ensemble, _ = trained
    patient = next(p for p in splits.patients.values() if list(splits.patients.values()).count(p) > 1)
    slides = sorted(s for s, p in splits.patients.items() if p == patient)
    receipts = [tmp_path / "f" / f"{s}.json" for s in slides]
    whole = ensemble.read_bag(patient, receipts)
    model = ensemble.folds[splits.placement(slides[0], patient).folds[0]].model
    expected = attention(model, bag_tensor(whole, model), 1).scores
    found = []
    for slide in slides:
        receipt = tmp_path / "scores" / f"{slide}.json"
        row = SlideRow(slide, Path("x"), splits.labels[slide], patient)
        explain_slide(row, receipts, ensemble, Explain(methods=("attention",)), receipt)
        coords, values = read_scores(store_path(receipt), "attention")
        assert np.array_equal(coords, ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"]).coords)
        assert read_receipt(receipt)["bag_instances"] == len(whole.coords)
        found.append(values)
    assert len(found[0]) != len(found[1]) and np.allclose(np.concatenate(found), expected, atol=1e-7)


@pytest.mark.parametrize(
    "kind", sorted(set(MODELS) - {"abmil", "mhim", "clinical"})
)  # ABMIL: other tests; clinical sees no slides
def test_every_model_is_explained_by_the_methods_that_it_supports(trained, tmp_path: Path, kind: str) -> None:
    splits, _, rows = trained
    own_settings = {"transmil": {"heads": 2, "landmarks": 4}, "dtfd": {"draws": 2}}.get(kind, {})
    shared = {} if kind == "mean_linear" else {"embed_dim": 16, "train": {"epochs": 2, "lr": 0.01}}
    settings = parse_base({"model": kind, **shared, **own_settings})
    for fold in range(3):
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), settings, tmp_path / kind / f"fold-{fold}", CPU)
    own = (splits, Ensemble(tmp_path / kind, splits, TASK, CPU), rows)
    methods = tuple(m for m in EXPLANATIONS if supports(settings.provides, m))
    found = [explained(own, row, tmp_path, Explain(methods=methods)) for row in rows[:12]]
    receipt, scores = next((r, s) for r, s in found if not r["methods"]["sparse_inversion"]["reason"])
    unit, kind_of_scores = ("deviation", "centred contribution") if kind == "transmil" else ("log_odds", "log odds")
    assert receipt["methods"]["sparse_inversion"]["unit"] == unit
    assert kind_of_scores in receipt["methods"]["sparse_inversion"]["kind"] and np.isfinite(scores["sparse_inversion"]).all()
    assert all(np.isfinite(values).all() for values in scores.values()) and "gradient_input" in scores
    if "attention" in methods:
        assert float(scores["attention"].sum()) == pytest.approx(1, abs=1e-5)
    else:
        with pytest.raises(ConfigError, match=f"{kind} does not support attention; it provides"):
            explained(own, rows[-1], tmp_path, Explain())


def test_the_streams_of_dsmil_are_compared_for_each_output_that_is_explained(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    settings = parse_base({"model": "dsmil", "embed_dim": 16, "train": {"epochs": 2, "lr": 0.01}})
    for fold in range(3):
        train_fold(Fold(splits, fold, tmp_path / "f", TASK), settings, tmp_path / "dsmil" / f"fold-{fold}", CPU)
    own, row = (splits, Ensemble(tmp_path / "dsmil", splits, TASK, CPU), rows), rows[0]
    asked = Explain(methods=("probability",), outputs=("normal", "tumour"), curve_points=0)
    found = explained(own, row, tmp_path, asked)[0]["streams_rank_correlations"]
    model, bag = model_and_bag(own, row.slide_id, tmp_path)
    for output, name in enumerate(("normal", "tumour")):
        assert found[name] == pytest.approx(spearman(*(of.numpy() for of in model.streams(bag, output))), abs=1e-6)
    assert list(explained(own, row, tmp_path)[0]["streams_rank_correlations"]) == ["tumour"]


def test_the_control_stands_beside_sparse_inversion_and_differs_from_it(trained, tmp_path: Path) -> None:
    row = next(r for r in trained[2][:24] if r.label == "tumour" and explained(trained, r, tmp_path)[0]["predicted"] == 1)
    receipt, scores = explained(trained, row, tmp_path)
    about = receipt["methods"]["sparse_inversion"]
    _, control = read_scores(tmp_path / "scores" / f"{row.slide_id}.zarr", "sparse_inversion_control")
    assert np.isfinite(control).all() and not np.allclose(control, scores["sparse_inversion"])
    assert "η = 0" in receipt["methods"]["sparse_inversion_control"]["kind"]
    assert -1 <= about["rank_correlation_with_control"] <= 1 and about["reason"] == ""


def test_curves_stand_in_the_receipt_of_a_slide_predicted_positive_and_beat_random_orders(trained, tmp_path: Path) -> None:
    gains = []
    for row in trained[2][:24]:
        receipt, _ = explained(trained, row, tmp_path, Explain(curve_points=5))
        for about in receipt["methods"].values():
            assert ("curves" in about) == (receipt["predicted"] == 1)
            if "curves" in about and row.label == "tumour":
                curves = about["curves"]
                assert len(curves["shares"]) == len(curves["deletion"]) == len(curves["random_insertion"]) == 6
                assert curves["deletion"][0] == curves["insertion"][-1] == pytest.approx(receipt["probs"][1], abs=1e-5)
                gains.append(curves["random_deletion_area"] - curves["deletion_area"])
    assert len(gains) >= 20 and np.mean(gains) > 0.2
    without = explained(trained, trained[2][3], tmp_path, Explain(curve_points=0))[0]["methods"]["attention"]
    assert "curves" not in without and without["untested"] == "explain.curve_points is 0"


def test_validation_slides_are_scored_by_the_fold_that_they_chose(trained, tmp_path: Path) -> None:
    splits, ensemble, _ = trained
    receipt = tmp_path / "scores" / "validation" / "fold-1.json"
    explain_validation(1, tmp_path / "f", ensemble, Explain(), receipt)
    content = read_receipt(receipt)
    wanted = {slide for slide, role in splits.roles[1].items() if role == "val"}
    assert set(content["slides"]) == wanted and content["fold"] == 1 and wanted
    for slide, about in content["slides"].items():
        coords, values = read_scores(tmp_path / "scores" / "validation" / "fold-1" / f"{slide}.zarr", "attention")
        bag = ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"])
        expected = attention(ensemble.folds[1].model, bag_tensor(bag, ensemble.folds[1].model), 1).scores
        assert np.array_equal(coords, bag.coords) and np.allclose(values, expected, atol=1e-7)
        assert about["folds"] == [1] and len(about["outputs"]) == 2
        attended = about["methods"]["attention"]
        assert ("curves" in attended) == (about["predicted"] == 1) == ("untested" not in attended)


def test_scores_are_compared_with_those_of_permuted_weights_and_the_model_is_left_as_it_is(trained, tmp_path: Path) -> None:
    _, ensemble, _ = trained
    model = ensemble.folds[1].model
    permuted = with_permuted_weights(model)
    for own, other in zip(model.parameters(), permuted.parameters(), strict=True):
        assert torch.equal(own.flatten().sort().values, other.flatten().sort().values)
    assert any(not torch.equal(own, other) for own, other in zip(model.parameters(), permuted.parameters(), strict=True))
    explain_validation(1, tmp_path / "f", ensemble, Explain(), tmp_path / "fold-1.json")
    for slide, about in read_receipt(tmp_path / "fold-1.json")["slides"].items():
        bag = bag_tensor(ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"]), model)
        expected = abs(spearman(attention(model, bag, 1).scores, attention(permuted, bag, 1).scores))
        assert about["methods"]["attention"][RANDOMISED] == pytest.approx(expected, abs=1e-5) and expected < 0.9
        assert RANDOMISED not in about["methods"]["sparse_inversion_control"]


def test_models_that_speak_for_a_slide_together_are_compared(trained, tmp_path: Path) -> None:
    receipt, _ = explained(trained, trained[2][-1], tmp_path)
    about = receipt["methods"]["attention"]
    assert about["n_models"] == 3 and 0 < about["agreement"] <= 1
    assert "agreement" not in explained(trained, trained[2][3], tmp_path)[0]["methods"]["attention"]


def test_a_slide_with_one_tile_or_equal_scores_is_not_put_in_order(trained, tmp_path: Path) -> None:
    splits, ensemble, rows = trained
    row = next(r for r in rows[:24] if r.label == "tumour" and explained(trained, r, tmp_path)[0]["predicted"] == 1)
    bag = ensemble.read_bag(row.slide_id, [tmp_path / "f" / f"{row.slide_id}.json"])
    fold = splits.placement(row.slide_id, row.patient_id).folds
    for rows_of_bag, words in (([0], "there is one tile only"), ([0, 0, 0], "all tiles have the same score")):
        part = Bag(bag.slide_id, bag.features[rows_of_bag], bag.coords[rows_of_bag])
        request = ExplainRequest(ensemble, part, ensemble.predict(part, fold), 1)
        assert request.is_predicted
        for scores in scores_of(request, Explain(methods=("attention", "evidence"))):
            assert scores.log == {"untested": words}
