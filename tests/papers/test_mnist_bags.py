import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.papers import keys, mnist_bags
from benchmarks.papers.mnist_bags import Digits, MnistBags, Setting, bag_figures, bag_set, draw_bags, read_digits, read_idx
from benchmarks.papers.mnist_keys import KeySetting, positive_bags, sharpen, work
from tests.papers.conftest import shared
from wsi_mil.bags import bag_tensor
from wsi_mil.config import SparseInversion

LABELS = np.array([9, 1, 2, 3, 4])
"""Only digit 0 is the target."""


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def bars(n: int, seed: int) -> Digits:
    """Nines are bright at the left, all others at the right."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 30, (n, 28, 28)).astype(np.uint8), rng.integers(7, 10, n)
    images[labels == 9, 4:24, 4:9] = 250
    images[labels != 9, 4:24, 18:23] = 250
    return Digits(images, labels)


def test_an_idx_file_is_read_in_its_shape(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    write_idx(tmp_path / "a.gz", array)
    assert np.array_equal(read_idx(tmp_path / "a.gz"), array)


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(struct.pack(">HBB", 0, 13, 1) + struct.pack(">If", 1, 0.5)))
    with pytest.raises(ValueError, match=r"a\.gz: expected .*000008, found 00000d01"):
        read_idx(tmp_path / "a.gz")


def test_every_other_bag_holds_the_target() -> None:
    bags = draw_bags(LABELS, 100, mean=3.7, spread=0, rng=np.random.default_rng(0))
    assert {len(rows) for rows in bags} == {3}
    assert all((0 in rows) == (number % 2 == 0) for number, rows in enumerate(bags))
    counts = np.bincount(np.concatenate(bags[1::2]), minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 20
    # of three draws with 1/5 each, given that one hits at least: 0.6 / (1 - 0.8³) = 1.23
    assert np.mean([(rows == 0).sum() for rows in bags[::2]]) == pytest.approx(1.23, abs=0.25)


def test_a_bag_has_one_digit_at_least() -> None:
    bags = draw_bags(LABELS, 40, mean=1, spread=3, rng=np.random.default_rng(1))
    assert min(map(len, bags)) == 1 and max(map(len, bags)) > 3


def test_the_same_seed_draws_the_same_bags_and_no_other_does() -> None:
    def rows_of(part: str, seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in data.bag_rows(part, 10, 6, seed)]

    data = MnistBags(bars(50, 0), bars(50, 1), bars(50, 2))
    assert rows_of("train", 3) == rows_of("train", 3)
    assert len({str(rows_of(part, seed)) for part in ("train", "val", "test") for seed in (3, 4)}) == 6


def test_bags_hold_intensities_in_rows_of_twenty() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[1, 2, 5] = 51
    items = list(bag_set(Digits(images, np.array([9, 1, 2])), [np.array([1] * 22), np.array([2, 0])]))
    first, second = items
    assert first.bag.features.shape == (22, 1, 28, 28) and first.bag.features.dtype == np.float32
    assert first.bag.features[21, 0, 2, 5] == pytest.approx(0.2) and first.bag.features.sum() == pytest.approx(22 * 0.2)
    assert first.bag.coords[[0, 19, 20, 21]].tolist() == [[0, 0], [532, 0], [0, 28], [28, 28]]
    assert (first.label, second.label) == (0, 1)


def test_figures_of_bags_are_cut_at_one_half() -> None:
    probs = np.array([0.9, 0.5, 0.49, 0.1])
    result = bag_figures(np.array([1, 1, 1, 0]), np.stack([1 - probs, probs], axis=1))
    assert result["accuracy"] == 0.75 and result["sensitivity"] == pytest.approx(2 / 3) and result["auroc"] == 1.0
    assert result["accuracy_ci95"][0] < 0.75 <= result["accuracy_ci95"][1]


def test_a_setting_is_trained_and_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_bags, "VAL_BAGS", 10)
    monkeypatch.setattr(mnist_bags, "TEST_BAGS", 16)
    for name in ("TEST_POSITIVES", "SWEEP_POSITIVES", "VAL_POSITIVES"):
        monkeypatch.setattr(f"benchmarks.papers.mnist_keys.{name}", {10: 3})
    monkeypatch.setattr(keys, "SWEEP", [SparseInversion(step=5.0, penalty=0.003, steps=2)])
    monkeypatch.setattr(keys, "DRAWS", 50)
    data = MnistBags(bars(60, 0), bars(60, 1), bars(60, 2))
    setting = Setting(10, 24, "attention", 0, (("epochs", 6), ("patience", 6), ("min_improvement", 0.0)))
    assert data.work(setting)["auroc"] > 0.9
    result = work(data, KeySetting(setting))
    assert result["scores"]["evidence"]["tile_auroc"] > 0.9
    assert result["settings"]["pixels, best for attention"] == [5.0, 0.003, 2]
    assert [row["setting"] for row in result["sweep"]] == [None, [5.0, 0.003, 2]]


def test_key_bags_are_the_first_positive_ones_of_the_test() -> None:
    data = MnistBags(bars(60, 0), bars(60, 1), bars(60, 2))
    result = positive_bags(data, "test", Setting(10, 8, "attention", 0), 3)
    rows = data.bag_rows("test", 10, mnist_bags.TEST_BAGS, mnist_bags.TEST_SEED)
    assert [annotated.bag.slide_id for annotated in result] == ["bag-0", "bag-2", "bag-4"]
    for number, annotated in enumerate(result):
        assert np.array_equal(annotated.positive, data.test.labels[rows[2 * number]] == 9) and annotated.positive.any()
        left = annotated.bag.features[:, 0, 4:24, 4:9].mean(axis=(1, 2)) > 0.5
        assert np.array_equal(left, annotated.positive)


def test_sharpened_attention_keeps_its_order() -> None:
    data = MnistBags(bars(40, 0), bars(40, 1), bars(40, 2))
    model, _ = data.model(Setting(10, 6, "attention", 0, (("epochs", 1),)))
    bag = bag_tensor(next(iter(data.bags("test", 10, 1, 0))).bag, model)
    before = model.instance_scores(bag, 1)["attention_logits"]
    sharpen(model, 3.0)
    assert torch.allclose(model.instance_scores(bag, 1)["attention_logits"], 3 * before)


def test_the_published_digits_are_whole() -> None:
    folder = shared("mnist")
    data = MnistBags.read(folder)
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (50_000, 10_000, 10_000)
    assert (data.test.labels == 9).sum() == 1009 and read_digits(folder, "t10k").labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.images.mean() / 255 == pytest.approx(mnist_bags.MEAN, abs=2e-3)


def test_the_validation_loss_chooses_the_epoch_as_in_the_paper() -> None:
    """Whatever the package's own default is."""
    choices = [Setting(10, 50, model, 0).as_json()["model"]["train"]["select"] for model in mnist_bags.MODELS]
    assert choices == ["loss"] * 6
