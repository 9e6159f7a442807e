from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image, write_aperio
from wsi_mil import notebook
from wsi_mil.config import Encoder, TileSettings, Tiling, Tissue
from wsi_mil.errors import ConfigError, SlideError
from wsi_mil.notebook import class_probs, encoded_slide, fitted_model, tile_scores

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
    with pytest.raises(ConfigError, match="method 'attention': this model offers evidence, probability"):
        tile_scores(model, bags[37].bag, "attention")


def test_no_bags_and_a_model_that_needs_another_are_refused(random_bags: Callable) -> None:
    with pytest.raises(ConfigError, match="got 2 and 0"):
        fitted_model(random_bags(2), [], {"model": "abmil"})
    with pytest.raises(ConfigError, match="needs no other one, got 'mhim'"):
        fitted_model(random_bags(2), random_bags(2), {"model": "mhim", "base": "abmil"})
