import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.train.cohort import UNREGULARISED, create_network, fit_bags
from wsi_mil.bags import LabelledBag
from wsi_mil.config import Training
from wsi_mil.tasks import Classes, Regression, Survival, Task
from wsi_mil.train import predict_outputs
from wsi_mil.train.epochs import (
    Epoch,
    duration,
    epochs_left,
    for_task,
    is_better,
    is_over,
    length_in_words,
    time_left,
    with_epochs,
)


def test_fit_keeps_the_epoch_with_the_lowest_validation_loss(random_bags: Callable) -> None:
    network, val = create_network(), random_bags(6, seed=1)
    settings = Training(epochs=12, patience=12, lr=0.05, min_improvement=0, **UNREGULARISED)
    history, best = fit_bags(random_bags(10), val, settings, network)
    assert best == int(np.argmin([e.val_loss for e in history]))
    probs = predict_outputs(network, val, Classes.numbered(2))
    assert np.mean([-np.log(probs[i, b.label]) for i, b in enumerate(val)]) == pytest.approx(history[best].val_loss, rel=1e-5)


def test_an_epoch_that_is_better_by_less_than_min_improvement_is_not_kept(random_bags: Callable) -> None:
    train, val = random_bags(24), random_bags(8, seed=1)
    settings = Training(epochs=60, patience=60, lr=0.01, min_improvement=0.05, **UNREGULARISED)
    history, best = fit_bags(train, val, settings)
    losses = [e.val_loss for e in history]
    assert min(losses) < losses[best] and min(losses[best:]) >= losses[best] - 0.05
    assert all(loss > losses[best] + 0.05 for loss in losses[:best][-1:]) or best == 0


def test_fit_stops_when_patience_runs_out(random_bags: Callable) -> None:
    flipped = [LabelledBag(b.bag, 1 - b.label) for b in random_bags(6, seed=1)]
    history, best = fit_bags(random_bags(12), flipped, Training(epochs=40, patience=3, lr=0.01, **UNREGULARISED))
    assert len(history) == best + 1 + 3 < 40


def test_the_epoch_can_be_selected_by_auroc_and_ties_by_loss(random_bags: Callable) -> None:
    settings = Training(epochs=12, patience=12, lr=0.02, min_improvement=0, select="auroc", **UNREGULARISED)
    history, best = fit_bags(random_bags(10), random_bags(10, seed=1), settings)
    assert best == max(range(12), key=lambda i: (history[i].val_figure, -history[i].val_loss))


def test_of_equal_aurocs_a_loss_that_is_lower_by_min_improvement_is_better() -> None:
    settings = Training(select="auroc", min_improvement=0.05)
    first, small, large, ranks = (
        Epoch(number, 1.0, val_loss=loss, val_figure=figure, lr=0.1)
        for number, (loss, figure) in enumerate(((0.60, 0.90), (0.56, 0.90), (0.54, 0.90), (0.90, 0.901)), start=1)
    )
    assert not is_better(small, first, settings) and is_better(large, first, settings)
    assert is_better(ranks, large, settings) and not is_better(large, ranks, settings)


@pytest.mark.parametrize(
    ("task", "select", "min_improvement"),
    [
        (Classes.numbered(2), "auroc", 0.05),
        (Regression(), "loss", 0.0),
        (Survival("discrete", n_intervals=4), "loss", 0.0),
    ],
)
def test_auto_is_the_figure_where_the_loss_shows_confidence(task: Task, select: str, min_improvement: float) -> None:
    resolved = for_task(Training(min_improvement=0.05), task, 10)
    assert (resolved.select, resolved.min_improvement) == (select, min_improvement)
    assert for_task(Training(select="last"), task, 10).select == "last"


def test_where_the_figure_is_undefined_the_loss_selects_the_epoch() -> None:
    """R² of validation bags with one value is NaN in every epoch."""
    settings = Training(epochs=40, patience=3, select="auroc", **UNREGULARISED)
    history = [Epoch(n + 1, 1.0, val_loss=loss, val_figure=math.nan, lr=0.1) for n, loss in enumerate((0.9, 0.5, 0.7, 0.6))]
    assert is_better(history[1], history[0], settings) and not is_better(history[2], history[1], settings)
    assert not is_over(history, 1, settings) and is_over([*history, history[2]], 1, settings)


def test_no_stopping_before_min_epochs(random_bags: Callable) -> None:
    flipped = [LabelledBag(b.bag, 1 - b.label) for b in random_bags(6, seed=1)]
    settings = Training(epochs=40, patience=3, lr=0.01, **{**UNREGULARISED, "min_epochs": 20})
    history, _ = fit_bags(random_bags(12), flipped, settings)
    assert len(history) == 20


@pytest.mark.parametrize(
    ("n_bags", "accumulate", "min_epochs", "epochs"),
    [(16, 1, 0, 40), (16, 2, 0, 80), (15, 2, 0, 80), (1600, 1, 0, 1), (1600, 1, 20, 20)],
)
def test_updates_are_rounded_up_to_whole_epochs_and_no_fewer_than_the_least(
    n_bags: int, accumulate: int, min_epochs: int, epochs: int
) -> None:
    settings = with_epochs(Training(updates=640, accumulate=accumulate, min_epochs=min_epochs), n_bags)
    assert settings.epochs == epochs and with_epochs(settings, 7) == settings
    assert with_epochs(Training(epochs=3, min_epochs=20), n_bags).epochs == 3


def test_fit_does_the_number_of_updates_in_the_settings(random_bags: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, network, seen = random_bags(5), create_network(), []
    monkeypatch.setattr(network, "after_update", seen.append)
    history, _ = fit_bags(bags, bags, Training(updates=12, min_epochs=0), network)
    assert len(seen) == 15 and seen[-1] == 1 and len(history) == 3
    assert [e.lr for e in history] == pytest.approx([2e-4, 1.5e-4, 0.5e-4])


def test_the_last_epoch_is_kept_with_select_last(random_bags: Callable) -> None:
    network, bags = create_network(), random_bags(16)
    history, best = fit_bags(bags, bags, Training(epochs=6, patience=1, select="last", lr=0.05, **UNREGULARISED), network)
    assert best == 5 and len(history) == 6 and history[best].val_loss > min(e.val_loss for e in history)
    probs = predict_outputs(network, bags, Classes.numbered(2))
    kept = np.mean([-np.log(max(p[b.label], 1e-12)) for p, b in zip(probs, bags, strict=True)])
    assert kept == pytest.approx(history[-1].val_loss, rel=1e-4)


def test_a_tie_of_aurocs_does_not_restart_patience(random_bags: Callable) -> None:
    settings = Training(epochs=60, patience=4, lr=0.01, min_improvement=0, select="auroc", **UNREGULARISED)
    history, best = fit_bags(random_bags(24), random_bags(8, seed=1), settings)
    gained = max(e.val_figure for e in history)
    first = next(i for i, e in enumerate(history) if e.val_figure == gained)
    assert len(history) == first + 1 + 4 < 60
    assert best == min((i for i, e in enumerate(history) if e.val_figure == gained), key=lambda i: history[i].val_loss)


def curve(losses: list[float]) -> list[Epoch]:
    """Epochs with these validation losses; their AUROC falls with the loss."""
    return [Epoch(i + 1, 0.0, loss, 1 - loss, 0.1) for i, loss in enumerate(losses)]


@pytest.mark.parametrize("select", ["loss", "auroc"])
@pytest.mark.parametrize(
    ("losses", "best", "left"),
    [
        pytest.param([], 0, (30, 8), id="at the start: not before min_epochs"),
        pytest.param([0.7, 0.6], 1, (28, 6), id="min_epochs bind"),
        pytest.param([0.7] * 6 + [0.5, 0.9], 6, (22, 4), id="patience binds: until the fifth epoch after the seventh"),
        pytest.param([0.7] * 27 + [0.5], 27, (2, 2), id="the last epoch binds"),
    ],
)
def test_what_is_left_at_most_and_if_nothing_improves(select: str, losses: list[float], best: int, left: tuple[int, int]) -> None:
    settings = Training(epochs=30, patience=5, min_epochs=8, min_improvement=0.05, select=select)  # type: ignore[arg-type]
    assert epochs_left(curve(losses), best, settings) == left
    worse = curve([*losses, *[0.99] * left[1]])
    assert is_over(worse, best, settings) and not is_over(worse[:-1], best, settings)


def test_without_selection_all_epochs_are_left() -> None:
    assert epochs_left(curve([0.1]), 0, Training(epochs=30, patience=5, select="last")) == (29, 29)


def test_the_time_left_is_said_in_one_line() -> None:
    settings = Training(epochs=30, patience=5, min_epochs=8)
    assert time_left(curve([0.7, 0.6]), 1, settings, seconds_per_epoch=25) == (
        "at most 11 min 40 s more, 2 min 30 s if nothing improves from now on"
    )
    assert time_left(curve([0.7] * 27 + [0.5]), 27, settings, seconds_per_epoch=25) == "at most 50 s more"
    assert time_left(curve([0.5] + [0.9] * 7), 0, settings, seconds_per_epoch=25) == "patience has run out"
    assert time_left(curve([0.5] * 30), 29, settings, seconds_per_epoch=25) == "all epochs are done"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (12_050, "3 h 20 min")]
)
def test_times_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_length_is_said_before_the_first_epoch() -> None:
    settings = with_epochs(Training(updates=640, accumulate=3, patience=5, min_epochs=8), 16)
    assert length_in_words(settings, 16) == "training lasts at most 107 epochs of 16 bags, 642 updates; it may end after 8"
    assert length_in_words(Training(epochs=4, select="last"), 5) == "training lasts at most 4 epochs of 5 bags, 20 updates"
