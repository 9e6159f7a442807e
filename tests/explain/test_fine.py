"""Finer scores: means over tilings, by hand where the bags are small."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.train.cohort import STORE_ATTRIBUTES, write_features
from wsi_mil.bags import LabelledBag, bag_tensor
from wsi_mil.config import Explain, Heatmap
from wsi_mil.ensemble import Ensemble
from wsi_mil.explain.attention import attention
from wsi_mil.explain.evidence import evidence
from wsi_mil.explain.fine import explain_fine
from wsi_mil.explain.fine_current import Fine, fine_stamp, is_fine_current
from wsi_mil.explain.stage import explain_slide
from wsi_mil.heatmaps.current import draw_stale
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import Bag, SlideRow
from wsi_mil.shifts import Shift, shifts
from wsi_mil.store import read_scores

SIDE = 224
DIMENSIONS = (6 * SIDE + 30, 5 * SIDE)
ROW = SlideRow("new", Path("x"), "", "somebody")
METHODS = ("attention", "attention_logits", "evidence", "standardised_sum", "sparse_inversion")
"""Methods of a gated ABMIL with every kind of unit."""


def bag_of(shift: Shift, *, lesion: tuple[int, int, int, int] | None, seed: int, same: bool = False) -> Bag:
    """Every tile of a tiling of a slide of 6 × 5 tiles; feature 0 is higher by the share of it that is lesion.

    Args:
        shift: the shift.
        lesion: (left, top, right, bottom).
        seed: of the other features.
        same: whether all features of all tiles are equal.
    """
    xs = np.arange(shift.right * SIDE // shift.steps, DIMENSIONS[0] - SIDE + 1, SIDE)
    ys = np.arange(shift.down * SIDE // shift.steps, DIMENSIONS[1] - SIDE + 1, SIDE)
    coords = np.array([(x, y) for y in ys for x in xs])
    features = np.random.default_rng(seed).random((len(coords), 12)) * (0 if same else 1)
    if lesion:
        low, high = np.maximum(coords, lesion[:2]), np.minimum(coords + SIDE, lesion[2:])
        features[:, 0] += 16 * np.maximum(high - low, 0).prod(axis=1) / SIDE**2
    return Bag(ROW.slide_id, features.astype(np.float16), coords)


def made(
    folder: Path,
    ensemble: Ensemble,
    bags: dict[Shift, Bag | str],
    *,
    methods: tuple[str, ...] = METHODS,
    outputs: tuple[str, ...] | str = "predicted",
) -> Fine:
    """Receipts of a slide with its usual tiling, `Shift(0, 0, steps)`, and shifted ones; a text is why one is empty."""
    steps = next(iter(bags)).steps
    features = {shift: folder / shift.name / f"{ROW.slide_id}.json" for shift in bags}
    for shift, bag in bags.items():
        content: dict[str, object] = {"slide_id": ROW.slide_id, "warnings": []}
        if isinstance(bag, str):
            content |= {"status": bag.partition(": ")[0], "reason": bag}
        else:
            write_features(features[shift].parent, [LabelledBag(bag, 0)])
            content |= {"status": "ok", "reason": "", "n_tiles": len(bag.coords)}
        write_receipt(features[shift], content)
    tiled = {"slide_id": ROW.slide_id, "dimensions": DIMENSIONS, "mpp": (0.5, 0.5), "tile_px_level0": (SIDE, SIDE)}
    tiled |= {name: STORE_ATTRIBUTES[name] for name in ("coords_digest", "slide_hash")}
    tiled |= {"bounds": None, "reader": "auto", "settings": {"tiling": {"mpp": 0.5, "tile_px": SIDE, "overlap": 0}}}
    write_receipt(folder / "tiles.json", tiled)
    own = features.pop(Shift(0, 0, steps))
    settings = Explain(methods=methods, outputs=outputs)
    explain_slide(ROW, [own], ensemble, settings, folder / "usual.json")
    fine = Fine(folder / "usual.json", folder / "tiles.json", [own], features, folder / "fine.json", folder / "cells.json")
    explain_fine(ROW, fine, ensemble, settings, stamp=fine_stamp(fine))
    return fine


def scores(fine: Fine, method: str) -> dict[tuple[int, int], float]:
    """Finer scores by the corner of the cell."""
    coords, values = read_scores(store_path(fine.receipt), f"{method}.fine")
    return {(x, y): float(value) for (x, y), value in zip(coords.tolist(), values, strict=True)}


@pytest.fixture
def ensemble(trained) -> Ensemble:
    return trained[1]


HALF_OFF = (SIDE + SIDE // 2, SIDE + SIDE // 2, 2 * SIDE + SIDE // 2, 2 * SIDE + SIDE // 2)
"""A lesion as large as a tile, and half a tile off the grid."""


def all_bags(steps: int, **options: object) -> dict[Shift, Bag]:
    return {s: bag_of(s, seed=i, **options) for i, s in enumerate((Shift(0, 0, steps), *shifts(steps)))}


def test_a_cell_has_the_mean_of_the_evidence_of_its_four_tiles(ensemble: Ensemble, tmp_path: Path) -> None:
    bags = all_bags(2, lesion=HALF_OFF)
    found = scores(made(tmp_path, ensemble, bags), "evidence")
    expected = []
    for bag in bags.values():
        of_folds = [evidence(m.model, bag_tensor(bag, m.model), 1).scores for m in ensemble.folds]
        covers = ((bag.coords <= (336, 336)) & (bag.coords + SIDE > (336, 336))).all(axis=1)
        assert covers.sum() == 1
        expected.append(np.mean(of_folds, axis=0)[covers][0])
    assert found[336, 336] == pytest.approx(np.mean(expected), abs=1e-5)
    assert set(found) == {(112 * column, 112 * row) for row in range(10) for column in range(12)}


def test_attention_is_a_share_of_a_bag_as_large_as_the_usual_one(ensemble: Ensemble, tmp_path: Path) -> None:
    """The tilings have 30, 25, 24 and 20 tiles: the multiple of an even share is what the mean is taken of."""
    bags = all_bags(2, lesion=HALF_OFF)
    sizes = [len(bag.coords) for bag in bags.values()]
    assert sizes == [30, 25, 24, 20]
    found = scores(made(tmp_path, ensemble, bags), "attention")
    multiples = []
    for bag in bags.values():
        shares = np.mean([attention(m.model, bag_tensor(bag, m.model), 1).scores for m in ensemble.folds], axis=0)
        covers = ((bag.coords <= (448, 224)) & (bag.coords + SIDE > (448, 224))).all(axis=1)
        multiples.append(float(shares[covers][0]) * len(bag.coords))
    assert found[448, 224] * 30 == pytest.approx(np.mean(multiples), rel=1e-5)


@pytest.mark.parametrize("steps", [2, 3])
def test_if_all_tiles_are_the_same_every_finer_score_is_the_same(ensemble: Ensemble, tmp_path: Path, steps: int) -> None:
    methods = ("attention", "attention_logits", "evidence", "contribution", "direction", "single", "integrated_gradients")
    fine = made(tmp_path, ensemble, all_bags(steps, lesion=None, same=True), methods=methods)
    for method in methods:
        values = np.array(list(scores(fine, method).values()))
        usual = read_scores(store_path(fine.usual), method)[1]
        assert len(values) > 30 * (steps - 1) ** 2 and np.allclose(values, usual[0], rtol=1e-5), method


def test_a_lesion_half_a_tile_off_the_grid_is_localised_better(ensemble: Ensemble, tmp_path: Path) -> None:
    """By every method, the four cells inside are the hottest; of usual tiles, the four that share it reach as far outside."""
    fine = made(tmp_path, ensemble, all_bags(2, lesion=HALF_OFF))
    inside = {(x, y) for x in (336, 448) for y in (336, 448)}
    for method in METHODS:
        found = scores(fine, method)
        assert set(sorted(found, key=found.__getitem__)[-4:]) == inside, method
        coords, usual = read_scores(store_path(fine.usual), method)
        tile = {(x, y): float(value) for (x, y), value in zip(coords.tolist(), usual, strict=True)}
        painted = {(x, y): tile[x // SIDE * SIDE, y // SIDE * SIDE] for x, y in found}
        assert sum(painted[cell] >= min(painted[own] for own in inside) for cell in set(found) - inside) >= 12


def test_outputs_and_prediction_are_those_of_the_usual_bag(ensemble: Ensemble, tmp_path: Path) -> None:
    """The usual bag has a lesion, the shifted ones none, so that these are predicted negative."""
    bags = all_bags(2, lesion=None)
    bags[Shift(0, 0, 2)] = bag_of(Shift(0, 0, 2), seed=0, lesion=(0, 0, 2 * SIDE, SIDE))
    fine = made(tmp_path, ensemble, bags)
    usual, receipt = read_receipt(fine.usual), read_receipt(fine.receipt)
    assert usual["predicted"] == receipt["predicted"] == 1 and usual["probs"] == receipt["probs"]
    assert {m["output"] for m in receipt["methods"].values()} == {1}
    tilings = {name: m["tilings"] for name, m in receipt["methods"].items()}
    assert tilings["attention.fine"] == 4 and tilings["sparse_inversion.fine"] == 1, "sparse inversion refuses the others"
    assert scores(fine, "sparse_inversion")[0, 0] == read_scores(store_path(fine.usual), "sparse_inversion")[1][0]


def test_every_output_that_is_asked_for_has_finer_scores_and_a_channel(ensemble: Ensemble, tmp_path: Path) -> None:
    fine = made(tmp_path, ensemble, all_bags(2, lesion=HALF_OFF), methods=("attention", "evidence"), outputs=("tumour", "normal"))
    further = [name for name in read_receipt(fine.usual)["methods"] if "@" in name]
    assert sorted(further) in (["attention@normal", "evidence@normal"], ["attention@tumour", "evidence@tumour"])
    methods = read_receipt(fine.receipt)["methods"]
    assert set(methods) == {"attention.fine", "evidence.fine", *(name.replace("@", ".fine@") for name in further)}
    store, other = store_path(fine.receipt), further[1].replace("@", ".fine@")
    first, second = (read_scores(store, name)[1] for name in ("evidence.fine", other))
    assert np.allclose(first, -second, atol=1e-4), "log odds of either class"
    draw_stale(ROW, fine.receipt, fine.cells, ["evidence.fine"], Heatmap(gallery=0), tmp_path / "h")
    with tifffile.TiffFile(tmp_path / "h" / "evidence.fine.ome.tif") as tif:
        assert tif.series[0].shape == (2, 10, 13) and tif.series[0].axes == "CYX"
    assert {path.name for path in (tmp_path / "h").glob("*.png")} == {"evidence.fine.png", f"{other}.png"}


def test_a_method_without_a_result_has_none_on_the_finer_grid_for_the_same_reason(ensemble: Ensemble, tmp_path: Path) -> None:
    bags = all_bags(2, lesion=(0, 0, 2 * SIDE, SIDE))
    bags[Shift(0, 0, 2)] = bag_of(Shift(0, 0, 2), seed=0, lesion=None)
    fine = made(tmp_path, ensemble, bags)
    methods = read_receipt(fine.receipt)["methods"]
    assert "predicted negative" in methods["sparse_inversion.fine"]["reason"]
    assert np.isnan(list(scores(fine, "sparse_inversion").values())).all()
    assert np.isfinite(list(scores(fine, "attention").values())).all()


def test_an_empty_tiling_takes_no_part_and_one_that_failed_leaves_nothing_to_show(ensemble: Ensemble, tmp_path: Path) -> None:
    bags = {**all_bags(2, lesion=HALF_OFF), Shift(1, 1, 2): "empty: no tile of the shifted grid has enough tissue"}
    fine = made(tmp_path / "empty", ensemble, bags)
    about = read_receipt(fine.receipt)
    assert about["fine"]["tilings"] == 3 and about["fine"]["tiles"]["1-1-of-2"].startswith("empty")
    assert np.isfinite(list(scores(fine, "evidence").values())).all()
    fine = made(tmp_path / "failed", ensemble, {**bags, Shift(1, 0, 2): "failed: x.svs: cannot be read"})
    about = read_receipt(fine.receipt)
    assert "x.svs: cannot be read" in about["methods"]["evidence.fine"]["reason"]
    assert all(m["reason"] and m["tilings"] == 0 for m in about["methods"].values())
    assert np.isnan(list(scores(fine, "evidence").values())).all()


def test_finer_scores_are_current_until_the_usual_scores_or_shifted_features_change(ensemble: Ensemble, tmp_path: Path) -> None:
    fine = made(tmp_path, ensemble, all_bags(2, lesion=HALF_OFF))
    assert is_fine_current(fine, fine_stamp(fine))
    first = fine.receipt.read_bytes()
    explain_fine(ROW, fine, ensemble, Explain(methods=METHODS), stamp=fine_stamp(fine))
    assert fine.receipt.read_bytes() == first
    for changed in (fine.usual, fine.features[Shift(1, 0, 2)]):
        content = changed.read_text()
        changed.write_text(content + " ")
        assert not is_fine_current(fine, fine_stamp(fine))
        changed.write_text(content)
    store_path(fine.cells).joinpath("zarr.json").unlink()
    assert not is_fine_current(fine, fine_stamp(fine))
