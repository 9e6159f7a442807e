import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.test_train import CLASSES, CPU
from wsi_mil.bags import bag_tensor
from wsi_mil.config import Explain, SparseInversion, offered, parse_base
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError
from wsi_mil.explain import explain_slide
from wsi_mil.explain.attention import attention_scores
from wsi_mil.explain.sparse_inversion import refine, refined_scores, soft_threshold
from wsi_mil.models import MILModel
from wsi_mil.records import SlideRow
from wsi_mil.splits import Splits
from wsi_mil.store import read_receipt, read_scores, store_path
from wsi_mil.train import Fold, train_fold


def explained(trained, row: SlideRow, tmp_path: Path, settings: Explain | None = None, splits: Splits | None = None):
    _, ensemble, _ = trained
    ensemble = Ensemble(ensemble.folder, splits, CLASSES, CPU) if splits else ensemble
    receipt = tmp_path / "scores" / f"{row.slide_id}.json"
    features = tmp_path / "f" / f"{row.slide_id}.json"
    explain_slide(row, [features], ensemble, settings or Explain(), receipt)
    return read_receipt(receipt), {m: read_scores(store_path(receipt), m)[1] for m in (settings or Explain()).methods}


def model_and_bag(trained, slide: str, tmp_path: Path) -> tuple[MILModel, torch.Tensor]:
    splits, ensemble, _ = trained
    fold = splits.placed(slide, splits.patients[slide]).folds[0]
    model = ensemble.folds[fold].model
    return model, bag_tensor(ensemble.read_bag(slide, [tmp_path / "f" / f"{slide}.json"]), model)


def test_scores_point_at_the_instances_that_make_the_bag_positive(trained, tmp_path: Path) -> None:
    _, _, rows = trained
    hits = {"attention": [], "sparse_inversion": []}
    for row in rows[:24]:
        receipt, scores = explained(trained, row, tmp_path)
        if row.label == "tumour" and receipt["predicted"] == 1:
            for method, values in scores.items():
                hits[method].append(set(np.argsort(values)[-2:]) == {0, 1})
    assert len(hits["attention"]) >= 10
    assert np.mean(hits["attention"]) > 0.8 and np.mean(hits["sparse_inversion"]) > 0.8


def test_attention_sums_to_one_and_is_that_of_the_fold_that_held_the_slide_out(trained, tmp_path: Path) -> None:
    _, scores = explained(trained, trained[2][3], tmp_path)
    model, bag = model_and_bag(trained, trained[2][3].slide_id, tmp_path)
    assert scores["attention"].sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(scores["attention"], attention_scores(model, bag, 1), atol=1e-7)


def test_a_new_patients_scores_are_the_mean_over_folds(trained, tmp_path: Path) -> None:
    _, ensemble, rows = trained
    receipt, scores = explained(trained, rows[-1], tmp_path)
    bag = ensemble.read_bag("s", [tmp_path / "f" / "s25.json"])
    each = [attention_scores(m.model, bag_tensor(bag, m.model), 1) for m in ensemble.folds]
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


def test_a_training_slide_is_not_explained_unless_asked_for(trained, tmp_path: Path) -> None:
    splits, _, rows = trained
    fixed = Splits(splits.patients, splits.labels, splits.roles[:1])
    row = next(r for r in rows if fixed.placed(r.slide_id, r.patient_id).role == "train")
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


def test_the_soft_threshold_by_hand() -> None:
    values = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert_close(soft_threshold(values, 1.0), torch.tensor([-2.0, 0.0, 0.0, 0.0, 2.0]))
    assert_close(soft_threshold(values, 0.0), values)


def test_one_step_is_the_papers_update(trained, tmp_path: Path) -> None:
    model, bag = model_and_bag(trained, "s01", tmp_path)
    variable = bag.clone().requires_grad_(True)
    loss = -torch.log_softmax(model(variable).logits[0], 0)[1]
    (gradient,) = torch.autograd.grad(loss, variable)
    prob = torch.exp(-loss.detach())
    margin_gradient = -gradient / (1 - prob)
    m, r = bag.abs().mean(), margin_gradient.square().mean().sqrt()
    expected = (bag - 0.7 * m / r * gradient - 0.05 * m).clamp_min(0)
    refined = refine(model, bag, 1, SparseInversion(step=0.7, penalty=0.05, steps=1))
    assert_close(refined.features, expected, rtol=1e-3, atol=1e-5)
    assert refined.log_prob[0] == pytest.approx(-float(loss.detach()), rel=1e-4)


def test_refining_makes_the_bag_sparser_and_leaves_bag_and_model_as_they_were(trained, tmp_path: Path) -> None:
    model, bag = model_and_bag(trained, "s01", tmp_path)
    before, weights = bag.clone(), [p.clone() for p in model.parameters()]
    refined = refine(model, bag, 1, SparseInversion(steps=20, penalty=0.05))
    assert refined.nonzero[-1] < refined.nonzero[0] and len(refined.log_prob) == 21
    assert_close(bag, before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))


def test_without_a_penalty_the_probability_only_rises(trained, tmp_path: Path) -> None:
    model, bag = model_and_bag(trained, "s01", tmp_path)
    log_prob = refine(model, bag, 1, SparseInversion(penalty=0.0, step=0.05)).log_prob
    assert all(later >= earlier - 1e-7 for earlier, later in itertools.pairwise(log_prob))


def test_a_prediction_that_flips_is_refused(trained, tmp_path: Path) -> None:
    row = next(r for r in trained[2][:24] if r.label == "tumour" and explained(trained, r, tmp_path)[0]["predicted"] == 1)
    harsh = Explain(sparse_inversion=SparseInversion(step=1e-6, penalty=0.5, steps=40))
    receipt, scores = explained(trained, row, tmp_path, harsh)
    assert np.isnan(scores["sparse_inversion"]).all()
    assert receipt["methods"]["sparse_inversion"]["reason"] == "the prediction flipped while the bag was refined"


def test_attention_can_be_read_off_the_refined_bag(trained, tmp_path: Path) -> None:
    model, bag = model_and_bag(trained, "s01", tmp_path)
    values = refined_scores(model, bag, 1, "attention")
    assert np.allclose(values, attention_scores(model, bag, 1))


def test_a_bag_with_negative_features_is_shrunk_towards_zero_from_both_sides(random_bags: Callable, trained, tmp_path) -> None:
    model, bag = model_and_bag(trained, "s01", tmp_path)
    signed = bag - bag.mean()
    refined = refine(model, signed, 1, SparseInversion(step=1e-6, penalty=0.01, steps=1)).features
    penalty = 0.01 * signed.abs().mean()
    assert_close(refined, soft_threshold(signed, float(penalty)), atol=1e-4, rtol=0)
    assert CPU.type == "cpu" and float(refined.min()) < 0


def test_scores_of_a_slide_in_its_patients_bag_are_its_own_rows(trained, tmp_path: Path) -> None:
    splits, ensemble, _ = trained
    patient = next(p for p in splits.patients.values() if list(splits.patients.values()).count(p) > 1)
    slides = sorted(s for s, p in splits.patients.items() if p == patient)
    receipts = [tmp_path / "f" / f"{s}.json" for s in slides]
    whole = ensemble.read_bag(patient, receipts)
    model = ensemble.folds[splits.placed(slides[0], patient).folds[0]].model
    expected = attention_scores(model, bag_tensor(whole, model), 1)
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


@pytest.mark.parametrize("kind", ["instance_pool", "embedding_pool", "transmil", "dsmil"])
def test_every_model_is_explained_by_what_it_offers(trained, tmp_path: Path, kind: str) -> None:
    splits, _, rows = trained
    small = {"embed_dim": 16, **({"heads": 2, "landmarks": 4} if kind == "transmil" else {}), "train": {"epochs": 2, "lr": 0.01}}
    settings = parse_base({"model": kind, **small})
    for fold in range(3):
        train_fold(Fold(splits, fold, tmp_path / "f", CLASSES), settings, tmp_path / kind / f"fold-{fold}", CPU)
    own = (splits, Ensemble(tmp_path / kind, splits, CLASSES, CPU), rows)
    methods = tuple(m for m in ("attention", "sparse_inversion") if offered(m, settings.offers))
    found = [explained(own, row, tmp_path, Explain(methods=methods)) for row in rows[:12]]
    receipt, scores = next((r, s) for r, s in found if not r["methods"]["sparse_inversion"]["reason"])
    unit, kind_of_scores = ("share", "attention on the refined bag") if kind == "transmil" else ("log_odds", "log odds")
    assert receipt["methods"]["sparse_inversion"]["unit"] == unit
    assert kind_of_scores in receipt["methods"]["sparse_inversion"]["kind"] and np.isfinite(scores["sparse_inversion"]).all()
    if "attention" in methods:
        assert float(scores["attention"].sum()) == pytest.approx(1, abs=1e-5)
    else:
        with pytest.raises(ConfigError, match=f"{kind} does not offer attention, only"):
            explained(own, rows[-1], tmp_path, Explain())
