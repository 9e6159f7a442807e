import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import tissue_image, write_aperio
from wsi_mil import notebook
from wsi_mil.config import Encoder, Method, TileSettings, Tiling, Tissue, parse_model
from wsi_mil.errors import ConfigError, SlideError
from wsi_mil.models import MILModel, ValueOutputs, create_model
from wsi_mil.notebook import class_probs, draw_scores, encoded_slide, fitted_for, fitted_model, tile_scores
from wsi_mil.records import Bag, InstanceScores, SlideRow
from wsi_mil.tasks import Multilabel, Regression, Survival, Task
from wsi_mil.tile import tile_slide

TINY = Encoder(encoder="test_efficientnet.r160_in1k", weights="random", dtype="float32")
TILES = TileSettings(tiling=Tiling(tile_px=96), tissue=Tissue(mpp=4.0, min_area_um2=1000))


def test_features_that_are_there_are_not_made_again(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = encoded_slide(slide, tmp_path / "out", tiling=TILES, encoder=TINY, device="cpu")
    assert bag.slide_id == "slide" and len(bag.features) == len(bag.coords) > 3
    assert (bag.coords[:, 0].max(), bag.coords[:, 1].max()) < (608, 358), "tissue ends there"
    monkeypatch.setattr(notebook, "_encoder", lambda *_: pytest.fail("the encoder was built again"))
    again = encoded_slide(slide, tmp_path / "out", tiling=TILES, encoder=TINY, device="cpu")
    assert np.array_equal(again.features, bag.features) and np.array_equal(again.coords, bag.coords)


def test_a_slide_of_glass_is_an_error_with_its_reason(tmp_path: Path) -> None:
    glass = write_aperio(tmp_path / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    with pytest.raises(SlideError, match=r"glass\.svs: empty: no tissue found"):
        encoded_slide(glass, tmp_path / "out", tiling=TILES, encoder=TINY, device="cpu")


def test_contributions_of_a_fitted_model_with_covariates_add_up(random_bags: Callable) -> None:
    ages = [float(40 + 7 * (n % 5)) for n in range(40)]
    bags = [
        replace(item, bag=replace(item.bag, covariates={"age": age})) for item, age in zip(random_bags(40), ages, strict=True)
    ]
    settings = {"model": "abmil", "covariates": True, "embed_dim": 8, "attention_dim": 4, "train": {"epochs": 3, "min_epochs": 0}}
    fitted = fitted_for(bags[:24], bags[24:36], settings, Regression(), covariates={"numbers": ["age"]})
    fitted.model.set_covariate_effects(torch.full_like(fitted.model.covariate_weights, 3.0))
    scores = tile_scores(fitted.model, bags[37].bag, "contribution", output=0)
    assert not scores.reason and np.isfinite(scores.values).all()


def test_the_same_name_in_another_folder_is_another_slide(slide: Path, tmp_path: Path) -> None:
    other = write_aperio(tmp_path / "b" / "slide.svs", tissue_image(640, 448, seed=3))
    first, second = (encoded_slide(path, tmp_path / "out", tiling=TILES, encoder=TINY, device="cpu") for path in (slide, other))
    assert np.array_equal(first.coords, second.coords) and not np.array_equal(first.features, second.features)


def test_a_model_is_fitted_and_says_what_it_offers_only(random_bags: Callable) -> None:
    bags = random_bags(40)
    settings = {"model": "instance_pool", "embed_dim": 16, "train": {"lr": 0.01}}
    model = fitted_model(bags[:24], bags[24:36], settings)
    assert [class_probs(model, b.bag)[1] > 0.5 for b in bags[36:]] == [False, True, False, True]
    scores = tile_scores(model, bags[37].bag, "probability")
    assert set(np.argsort(scores.values)[-2:]) == {0, 1} and scores.unit == "probability"
    with pytest.raises(ConfigError, match="method 'attention': this model supports evidence, probability"):
        tile_scores(model, bags[37].bag, "attention")


SMALL = {"model": "instance_pool", "pool": "mean", "embed_dim": 8, "train": {"lr": 0.02, "cox_lr": 0.02, "epochs": 30}}


@pytest.mark.parametrize(
    ("task", "label"),
    [
        (Multilabel(("a", "b")), lambda y, n: (y, float("nan") if y else 0.0)),
        (Regression("log1p"), lambda y, n: 1.0 + 50 * y),
        (Survival("discrete", 3), lambda y, n: (10.0 - 8 * y + n % 5, int(y or n % 3 > 0))),
        (Survival("cox"), lambda y, n: (10.0 - 8 * y + n % 5, int(y or n % 3 > 0))),
    ],
    ids=["multilabel", "regression", "discrete", "cox"],
)
def test_a_model_of_every_kind_is_fitted_predicts_and_is_explained(random_bags: Callable, task: Task, label: Callable) -> None:
    bags = [replace(item, label=label(item.label, n)) for n, item in enumerate(random_bags(40))]
    quiet = {**SMALL, "train": {**SMALL["train"], "min_epochs": 0, "select": "last"}}
    fitted = fitted_for(bags[:24], bags[24:36], quiet, task)
    assert type(fitted.task) is type(task) and not fitted.model.training
    outputs = [fitted.outputs(item.bag) for item in bags[36:]]
    assert min(outputs[1][0], outputs[3][0]) > max(outputs[0][0], outputs[2][0])
    scores = tile_scores(fitted.model, bags[37].bag, "evidence", output=0)
    assert set(np.argsort(scores.values)[-2:]) == {0, 1} and scores.output == 0
    last = 1 if isinstance(task, Multilabel) else 0
    assert tile_scores(fitted.model, bags[37].bag, "gradient_input").output == last
    with pytest.raises(ConfigError, match=f"0 to {last}, got {last + 1}"):
        tile_scores(fitted.model, bags[37].bag, "evidence", output=last + 1)


@pytest.mark.parametrize("loss", ["discrete", "cox"])
def test_risks_are_relative_to_the_mean_of_the_training_bags_as_are_their_explanations(random_bags: Callable, loss: str) -> None:
    bags = [replace(item, label=(20.0 - 15 * item.label + n / 10, 1)) for n, item in enumerate(random_bags(40))]
    quick = {**SMALL, "train": {"cox_updates": 5, "epochs": 5, "min_epochs": 0, "select": "last"}}
    fitted = fitted_for(bags[:24], bags[24:36], quick, Survival(loss, configured_horizons=(18.0, 6.0)))
    train = np.array([fitted.outputs(item.bag) for item in bags[:24]])
    assert train[:, 0].mean() == pytest.approx(0, abs=1e-6) and np.median(train[:, 0]) == pytest.approx(train[0, 1], abs=1e-6)
    assert train.shape[1] == 4 and (train[:, 2] <= 1).all() and (train[:, 2] >= train[:, 3]).all() and (train[:, 3] >= 0).all()
    alone = Bag("one", bags[37].bag.features[:1], bags[37].bag.coords[:1])
    score = tile_scores(fitted.model, alone, "evidence").values[0]
    assert score == pytest.approx(fitted.outputs(alone)[0], abs=1e-5)


def test_a_kind_that_a_model_cannot_learn_is_refused(random_bags: Callable) -> None:
    with pytest.raises(ConfigError, match="model clam learns classes, not survival"):
        fitted_for(random_bags(4), random_bags(4), {"model": "clam"}, Survival())


def test_no_bags_and_a_model_that_needs_another_are_refused(random_bags: Callable) -> None:
    with pytest.raises(ConfigError, match="got 2 and 0"):
        fitted_model(random_bags(2), [], {"model": "abmil"})
    with pytest.raises(ConfigError, match="without a base model, got 'mhim'"):
        fitted_model(random_bags(2), random_bags(2), {"model": "mhim", "base": "abmil"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bag, MILModel]:
    """A folder with a slide's tiles, its bag, and an untrained model of three classes."""
    folder = tmp_path_factory.mktemp("drawn")
    path = write_aperio(folder / "slide.svs", tissue_image(640, 448))
    bag = encoded_slide(path, folder / "out", tiling=TILES, encoder=TINY, device="cpu")
    torch.manual_seed(0)
    model = create_model(parse_model({"model": "abmil", "embed_dim": 16}), feature_dim=bag.features.shape[1], n_classes=3)
    return folder / "out", bag, model.eval()


def picture(drawn: tuple[Path, Bag, MILModel], scores: InstanceScores, folder: Path, name: str = "a.png") -> bytes:
    _, bag, model = drawn
    draw_scores(model, bag, scores, folder, folder / name)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("method", ["attention", "evidence", "gradient_input"])
def test_scores_are_drawn_for_the_class_that_they_are_of(drawn: tuple[Path, Bag, MILModel], method: Method) -> None:
    """Attention, which speaks for no class, by the probability of the one that was asked for."""
    folder, bag, model = drawn
    scores = [tile_scores(model, bag, method, output=output) for output in range(3)]
    assert [s.output for s in scores] == [0, 1, 2]
    of_class_2, taken_for_1 = (picture(drawn, s, folder) for s in (scores[2], replace(scores[2], output=1)))
    assert of_class_2 != taken_for_1 and of_class_2 == picture(drawn, scores[2], folder)


def test_scores_of_no_class_or_another_bag_and_classes_that_are_none_are_refused(drawn: tuple[Path, Bag, MILModel]) -> None:
    folder, bag, model = drawn
    scores = tile_scores(model, bag, "attention")
    n = len(bag.coords)
    for wrong, found in ((replace(scores, output=None), f"{n} of class None"), (scores.of_rows(slice(2)), "2 of class 1")):
        with pytest.raises(ConfigError, match=f"slide: expected scores of {n} tiles for a class, got {found}"):
            picture(drawn, wrong, folder)
    for output in (-1, 3):
        with pytest.raises(ConfigError, match=f"output: expected the index of a class, label or number, 0 to 2, got {output}"):
            tile_scores(model, bag, "attention", output=output)


def test_in_the_results_of_a_run_the_tiling_of_the_bag_is_found(drawn: tuple[Path, Bag, MILModel], tmp_path: Path) -> None:
    """Beside it are one that is coarser, one whose tiles are as many elsewhere, and one in which the slide has none."""
    made, bag, model = drawn
    scores = tile_scores(model, bag, "attention")
    alone = picture(drawn, scores, made)
    results = tmp_path / "results"
    tilings = {"a_coarse": Tiling(tile_px=160), "b_shifted": Tiling(tile_px=64), "z_glass": Tiling(tile_px=600)}
    for name, tiling in tilings.items():
        about = TileSettings(tiling=tiling, tissue=TILES.tissue)
        tile_slide(SlideRow("slide", made.parent / "slide.svs"), about, results / "tiles" / name / "slide.json")
    with pytest.raises(ConfigError, match=r"slide: the tiles in .*/results/tiles or .* are not those of the bag"):
        picture(drawn, scores, results)
    shutil.copytree(made / "tiles", results / "tiles" / "m_own")
    assert picture(drawn, scores, results) == alone
    with pytest.raises(ConfigError, match=r"slide: expected slide\.json in .*/nowhere/tiles .* found none"):
        draw_scores(model, bag, scores, tmp_path / "nowhere", tmp_path / "a.png")


def test_a_bag_that_lacks_tiles_is_drawn_on_the_tiling_that_has_them(drawn: tuple[Path, Bag, MILModel], tmp_path: Path) -> None:
    """As `extract` leaves out tiles that it cannot read; on tilings of several sizes that all have them, nothing is."""
    made, bag, model = drawn
    part = replace(bag, features=bag.features[1:3], coords=bag.coords[1:3])
    draw_scores(model, part, tile_scores(model, part, "attention"), made, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    for name, px in (("large", 96), ("small", 48)):
        about = TileSettings(tiling=Tiling(tile_px=px), tissue=Tissue(method="none"))
        tile_slide(SlideRow("slide", made.parent / "slide.svs"), about, tmp_path / "tiles" / name / "slide.json")
    with pytest.raises(ConfigError, match=r"tilings in .* have the bag's tiles in several sizes: large, small; give"):
        draw_scores(model, part, tile_scores(model, part, "attention"), tmp_path, tmp_path / "b.png")


def test_scores_of_a_risk_are_drawn_without_a_probability(drawn: tuple[Path, Bag, MILModel], tmp_path: Path) -> None:
    folder, bag, _ = drawn
    settings = parse_model({"model": "abmil", "embed_dim": 16})
    model = create_model(settings, feature_dim=bag.features.shape[1], outputs=ValueOutputs(centre=0.2)).eval()
    draw_scores(model, bag, tile_scores(model, bag, "gradient_input"), folder, tmp_path / "risk.png")
    draw_scores(model, bag, tile_scores(model, bag, "evidence"), folder, tmp_path / "evidence.png")
    assert (tmp_path / "risk.png").read_bytes() != (tmp_path / "evidence.png").read_bytes()
