from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.io import savemat

from benchmarks.papers import breast, colon, colon_keys, histology
from benchmarks.papers.histology import Fold, Image, folds, rotate_and_flip, vary_stains
from tests.papers.conftest import shared
from wsi_mil.config import SparseInversion, Split
from wsi_mil.records import Role

RNG = np.random.default_rng


def write_nuclei(folder: Path, number: int, *, epithelial: list[tuple[float, float]], others: list[tuple[float, float]]) -> None:
    """An image of 60×40 pixels, dark at its nuclei; files as the set has them, (1, 1) the top-left pixel."""
    pixels = np.full((40, 60, 3), 230, np.uint8)
    for x, y in epithelial + others:
        pixels[round(y) - 1, round(x) - 1] = (100, 20, number)
    (folder / f"img{number}").mkdir(parents=True)
    Picture.fromarray(pixels).save(folder / f"img{number}" / f"img{number}.bmp")
    for kind, result in (("epithelial", epithelial), ("fibroblast", []), ("inflammatory", []), ("others", others)):
        points = np.array(result, float) if result else np.zeros((0, 2), np.uint8)
        savemat(folder / f"img{number}" / f"img{number}_{kind}.mat", {"detection": points})


def test_colon_patches_are_centred_at_nuclei(tmp_path: Path) -> None:
    write_nuclei(tmp_path, 10, epithelial=[(50.2, 20.9)], others=[(2, 39), (31, 7)])
    write_nuclei(tmp_path, 9, epithelial=[], others=[(60, 40)])
    first, second = colon.read_colon(tmp_path)
    assert (first.name, first.label, second.name, second.label) == ("img9", 0, "img10", 1)
    assert second.patches.shape == (3, 27, 27, 3) and second.positive.tolist() == [True, False, False]
    assert (second.patches[:, 13, 13] == (100, 20, 10)).all() and (first.patches[0, 13, 13] == (100, 20, 9)).all()
    assert second.coords.tolist() == [[49 - 13, 20 - 13], [1 - 13, 38 - 13], [30 - 13, 6 - 13]]


def test_beyond_the_edge_the_image_is_mirrored() -> None:
    pixels = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7, 1).repeat(3, axis=2)
    patches, coords = colon.patches_at(pixels, np.array([[0, 4], [9, 2]]), 3)
    assert patches[0, :, :, 0].tolist() == [[22, 21, 22], [29, 28, 29], [22, 21, 22]]
    assert coords.tolist() == [[-1, 3], [5, 1]]


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"img1/img1\.bmp"):
        colon.read_colon(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"\*_benign\*\.tif"):
        breast.read_breast(tmp_path / "none")


def test_the_published_colon_set_is_whole() -> None:
    images = colon.read_colon(shared("colon"))
    assert len(images) == 100 and sum(len(image.patches) for image in images) == 22_444
    assert sum(image.label for image in images) == 51
    middle = np.concatenate([image.patches[:, 13, 13] for image in images]).mean()
    corner = np.concatenate([image.patches[:, 0, 0] for image in images]).mean()
    assert middle < corner - 20  # nuclei are dark


def write_breast(folder: Path, kind: str, number: int, *, cells: int) -> None:
    """Stained in the first `cells` patches of the second row of the grid, otherwise glass."""
    pixels = np.full((768, 896, 3), 240, np.uint8)
    stain = (150, 60, 140) if kind == "malignant" else (190, 150, 60)
    pixels[32:64, : 32 * cells] = stain
    folder.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(pixels).save(folder / f"ytma{number}_{kind}{number}.tif")


def test_breast_images_are_cut_into_patches_that_are_not_white(tmp_path: Path) -> None:
    write_breast(tmp_path / "more", "malignant", 2, cells=5)
    write_breast(tmp_path, "benign", 1, cells=3)
    pixels = np.asarray(Picture.open(tmp_path / "ytma1_benign1.tif")).copy()
    pixels[64:72, 32:64], pixels[64:73, 64:96] = 100, 100  # 8 of 32 rows: just 75 % white; 9 rows: less
    Picture.fromarray(pixels).save(tmp_path / "ytma1_benign1.tif")
    benign, malignant = breast.read_breast(tmp_path)
    assert (benign.label, malignant.label) == (0, 1) and malignant.patches.shape == (5, 32, 32, 3)
    assert benign.coords.tolist() == [[0, 32], [32, 32], [64, 32], [64, 64]]
    assert (malignant.patches == (150, 60, 140)).all()


def test_the_grid_of_the_published_size_has_672_patches() -> None:
    pixels = np.zeros((768, 896, 3), np.uint8)
    pixels[32 * 3 : 32 * 4, 32 * 5 : 32 * 6] = 7
    patches, coords = breast.grid(pixels, 32)
    assert len(patches) == 28 * 24 and coords[3 * 28 + 5].tolist() == [160, 96] and patches[3 * 28 + 5].min() == 7
    assert patches.sum() == 32 * 32 * 3 * 7


def test_an_image_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    Picture.new("RGB", (768, 896)).save(tmp_path / "a_benign1.tif")
    with pytest.raises(ValueError, match=r"a_benign1\.tif.*896×768.*768×896"):
        breast.read_image(tmp_path / "a_benign1.tif", 0)


def test_stain_factors_of_one_change_nothing_and_glass_stays_white(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG(0).uniform(0.2, 0.9, (4, 5, 7, 3)).astype(np.float32)
    images[0] = 1.0
    altered = vary_stains(images, RNG(1))
    assert np.allclose(altered[0], 1.0) and np.abs(altered[1:] - images[1:]).max() > 0.01
    monkeypatch.setattr(histology, "STAIN_SPREAD", 0.0)
    assert np.allclose(vary_stains(images, RNG(1)), images, atol=1e-5)


def test_patches_are_turned_each_by_itself() -> None:
    one = np.arange(3 * 3, dtype=np.float32).reshape(1, 3, 3, 1).repeat(3, axis=3)
    result = {tuple(patch[:, :, 0].ravel()) for patch in rotate_and_flip(one.repeat(200, axis=0), RNG(0))}
    square = one[0, :, :, 0]
    all_eight = {tuple(np.rot90(m, k).ravel()) for m in (square, square[:, ::-1]) for k in range(4)}
    assert result == all_eight


def test_bags_have_channels_first_and_are_altered_only_with_a_generator() -> None:
    patches = RNG(0).integers(0, 255, (6, 5, 5, 3)).astype(np.uint8)
    image = Image("i", 1, patches, np.zeros((6, 2), np.int64))
    assert np.allclose(image.bag().features, patches.transpose(0, 3, 1, 2) / 255)
    first, second = image.bag(RNG(1)).features, image.bag(RNG(1)).features
    assert np.array_equal(first, second) and not np.allclose(first, image.bag().features)


def test_a_further_draw_of_the_folds_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    spread = [(8.0 + 11 * i, 6.0 + 5 * i) for i in range(5)]
    for number in range(1, 41):
        write_nuclei(tmp_path / "colon", number, epithelial=spread[: 2 * (number % 2)], others=spread[2:])
    names = [run.name for run in colon.runs(tmp_path, fast=False)]
    assert len(names) == 10 * sum(colon.REPEATS.values())
    assert set(names[10 * len(colon.REPEATS) :]) == {f"colon/attention/fold-{n}" for n in range(10, 20)}
    images = colon.read_colon(tmp_path / "colon")
    first, second = (
        [{i.name for i in colon.fold_of("attention", at + n).images(images, Role.TEST)} for n in range(10)] for at in (0, 10)
    )
    assert set.union(*first) == set.union(*second) == {image.name for image in images} and first != second
    assert folds(images, colon.SPLIT).slides(3, Role.TEST) == folds(images, colon.fold_of("gated", 13).split).slides(3, Role.TEST)
    assert colon.fold_of("attention", 9).as_json()["split"]["repeats"] == 1


def test_a_fold_learns_and_says_what_it_thinks_of_the_images_it_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write_breast(tmp_path, "benign", number, cells=4 + number)
        write_breast(tmp_path, "malignant", number, cells=9 - number)
    monkeypatch.setitem(histology.TRAIN, "epochs", 6)
    images, split = breast.read_breast(tmp_path), Split(folds=3, repeats=2, validation=0.3)
    fold = Fold("breast", "attention", 4, split, 32)
    result = fold.work(lambda: images)["images"]
    assert list(result) == [image.name for image in fold.images(images, Role.TEST)] and len(result) == 4
    probs = {label: [prediction["prob"] for prediction in result.values() if prediction["label"] == label] for label in (0, 1)}
    assert min(probs[1]) > max(probs[0])
    assert not set(result) & {image.name for role in (Role.TRAIN, Role.VAL) for image in fold.images(images, role)}
    assert folds(images, split).n_folds == 6


def test_key_nuclei_are_scored_by_the_fold_that_holds_their_image_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = [(8.0 + 11 * i, 6.0 + 5 * i) for i in range(5)]
    for number in range(1, 13):  # three of four are positive, so that a model that knows nothing takes all for positive
        n = 1 + number % 3 if number % 4 else 0
        write_nuclei(tmp_path / "colon", number, epithelial=spread[:n], others=spread[n:])
    monkeypatch.setattr(colon, "SPLIT", Split(folds=3, validation=0.3))
    monkeypatch.setattr(colon_keys, "SWEEP", [SparseInversion(step=1.0, penalty=0.003, steps=1)])
    monkeypatch.setattr(colon_keys.keys, "DRAWS", 20)
    for name, value in (("epochs", 4), ("patience", 4), ("lr", 1e-3)):
        monkeypatch.setitem(histology.TRAIN, name, value)
    result = colon_keys.work("attention", tmp_path)
    assert result["summary"]["bags"] == 9 and result["summary"]["instances"] == 45 and result["summary"]["bags_missed"] == 0
    assert result["summary"]["share_positive"] == pytest.approx((2 + 3 + 1) * 3 / 45)
    assert len(result["sweeps"]) == 3 and [row["setting"] for row in result["sweeps"][0]] == [None, [1.0, 0.003, 1]]
    assert {"attention", "pixels → attention", "pixels, best for evidence → evidence (control)"} <= set(result["scores"])


@pytest.mark.parametrize("images", [colon, breast])
def test_the_validation_loss_chooses_the_epoch_as_in_the_papers(images: ModuleType, tmp_path: Path) -> None:
    """Whatever the package's own default is."""
    choices = [run.settings["model"]["train"]["select"] for run in images.runs(tmp_path, fast=False)]
    assert choices and set(choices) == {"loss"}
