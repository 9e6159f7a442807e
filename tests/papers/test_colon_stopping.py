import numpy as np
import pytest

from benchmarks.papers import colon_stopping
from benchmarks.papers.colon_stopping import Recorder, Validated, kept, record
from benchmarks.papers.histology import Fold, Image
from benchmarks.papers.stopping_table import colon_stopping as table
from tests.papers.test_tables import result
from wsi_mil.config import Split
from wsi_mil.records import Role
from wsi_mil.train.epochs import Epoch


def loss(epoch: Validated) -> float:
    return epoch.loss


def test_early_stopping_keeps_the_first_lowest_epoch_before_patience_ends() -> None:
    curve = [Validated(value, 0.0) for value in (5.0, 3.0, 3.0, 4.0, 4.0, 1.0)]
    assert kept(curve, loss, epochs=6, patience=4) == 5
    assert kept(curve, loss, epochs=6, patience=3) == 1  # ends after the fifth epoch: three after the second are not lower
    assert kept(curve, loss, epochs=5, patience=9) == 1
    errors = [Validated(0.1 * at, 0.5 - 0.2 * at) for at in range(3)]
    assert kept(errors, loss, epochs=3, patience=3) == 0
    assert kept(errors, lambda e: e.error + e.loss, epochs=3, patience=3) == 2


def images_of(numbers: range) -> list[Image]:
    pixels = np.random.default_rng(0).integers(0, 255, (len(numbers), 4, 27, 27, 3)).astype(np.uint8)
    for own, number in zip(pixels, numbers, strict=True):
        own[:, 10:17, 10:17] = 40 if number % 2 else 220
    return [Image(f"i{n}", n % 2, own, np.zeros((4, 2), np.int64)) for n, own in zip(numbers, pixels, strict=True)]


def test_averaged_weights_are_the_mean_of_those_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colon_stopping, "WINDOWS", {"2-3": (2, 3)})
    fold = Fold("s", "attention", 0, Split(folds=2, validation=0.25), 27)
    model, images = fold.untrained(), images_of(range(6))
    recorder = Recorder(model, images[:4], images[4:])
    name, parameter = next((n, p) for n, p in model.named_parameters() if p.dim() == 1)
    for number, shift in ((1, 5.0), (2, 1.0), (3, 3.0), (4, 7.0)):
        parameter.data.fill_(shift)
        recorder([Epoch(number, 0.5, 0.25 * number, 0.5, 1e-4)])
    assert [epoch.loss for epoch in recorder.curve] == [0.25, 0.5, 0.75, 1.0] and len(recorder.probs) == 4
    recorder.averaged("2-3")
    assert model.state_dict()[name].tolist() == pytest.approx([2.0] * len(parameter))


def test_rules_are_read_off_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colon_stopping, "WINDOWS", {"1-2": (1, 2)})
    monkeypatch.setattr(colon_stopping, "TO_THE_END", {"epochs": 3, "patience": 3, "select": "last"})
    monkeypatch.setattr(colon_stopping, "RULES", {"last": lambda _: 2, "loss": lambda c: kept(c, loss, epochs=3, patience=3)})
    fold, images = Fold("s", "attention", 1, Split(folds=2, validation=0.25), 27), images_of(range(16))
    figures = record(fold, images)
    test = {image.name for image in fold.images(images, Role.TEST)}
    assert figures["kept"]["last"] == 3 and set(figures["images"]) == {
        "last",
        "loss",
        "mean weights of epochs 1-2",
        "mean probability of epochs 1-2",
    }
    assert all(set(of_rule) == test for of_rule in figures["images"].values())


def test_the_table_waits_for_all_folds_and_pools_their_images() -> None:
    of = {
        f: {
            "kept": {"loss": 3 + f},
            "images": {"loss": {f"p{f}": {"label": 1, "prob": 0.8}, f"n{f}": {"label": 0, "prob": 0.9 if f == 4 else 0.3}}},
        }
        for f in range(10)
    }
    results = {f"colon_stopping/attention/fold-{f}": result(f, **of[f]) for f in range(10)}
    assert table(results).splitlines()[2].startswith("| loss | 3 to 12 | 0.950 (")
    assert "not yet run (9 of 10 folds)" in table({k: v for k, v in results.items() if not k.endswith("9")})
