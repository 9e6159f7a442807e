"""The frozen records that travel between stages."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NO_PATH = Path()
"""Stands for the file of a slide that has none: its features were imported."""


class Status(StrEnum):
    """What became of a slide."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"
    SKIPPED = "skipped"


class Role(StrEnum):
    """What a fold uses a slide for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True)
class SlideRow:
    """One row of the cohort sheet.

    Attributes:
        path: the slide file, its URL (text), or `NO_PATH`.
        label: class name, or "" where only a prediction is wanted.
        mpp: µm per pixel of level 0 that overrides the file's own, or None.
        mask: a tissue mask made by another tool (GeoJSON or label image), or None.
        scanner: what digitised it, or "" where the file is to say so.
        overrides: settings of this slide alone, {"tissue.method": …}.
    """

    slide_id: str
    path: Path | str
    label: str = ""
    patient_id: str = ""
    mpp: float | None = None
    split: str = ""
    fold: str = ""
    annotation: Path | None = None
    mask: Path | None = None
    scanner: str = ""
    overrides: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one slide.

    Attributes:
        coords: int64 `(n, 2)`, (x, y) of the top-left corner, level-0 pixels.
        tissue_fraction: float32 `(n,)`, share of the footprint that is tissue.
        tile_px: side of a tile at the target mpp.
        tile_px_level0: (width, height) of the footprint, level-0 pixels.
    """

    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    tile_px: int
    tile_px_level0: tuple[int, int]


@dataclass(frozen=True)
class Bag:
    """All instances of one slide.

    Attributes:
        features: float16 `(n, d)`, valid tiles only. Where an image encoder is trained along, its images instead, float32
            `(n, n_channels, height, width)`, intensities from 0 to 1.
        coords: int64 `(n, 2)`, (x, y), level-0 pixels, row by row with `features`.
    """

    slide_id: str
    features: NDArray[np.float16] | NDArray[np.float32]
    coords: NDArray[np.int64]


@dataclass(frozen=True)
class InstanceScores:
    """What a method says about each instance of a bag.

    Attributes:
        method: name of the method.
        values: float32 `(n,)` in the order of the bag's `coords`; all NaN where there is nothing to show.
        kind: what the numbers are, in words.
        unit: "share" (sums to 1 over the bag), "logit" (of a share), "log_odds" (of the class), "probability" (of the
            class), "deviation" (standard deviations), "contribution" (to the log odds, times the number of instances) or
            "sensitivity" (of the class to the instance's features, times probabilities, in means of the bag).
        comparable: whether values of different slides may be compared.
        comparable_weighted: whether they may be once they are weighted by the slide's probability (see `score_scaling`).
        zero: the value that says nothing either way; of logits that of an even share, of shares 0.
        reason: why there is nothing to show, or "".
        target: index of the class that was asked for: whose evidence the values are, or, where they speak for no class
            (attention), by whose probability they are weighed; None where no model was asked.
        log: figures about how the scores came about, for the receipt.
    """

    method: str
    values: NDArray[np.float32]
    kind: str
    unit: str
    comparable: bool
    comparable_weighted: bool = False
    zero: float = 0.0
    reason: str = ""
    target: int | None = None
    log: dict[str, object] = field(default_factory=dict)

    def of_rows(self, rows: slice) -> "InstanceScores":
        """The scores of some of the instances."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True)
class SlidePrediction:
    """What the models that may speak for a slide say about it.

    Attributes:
        folds: folds whose models were averaged.
        probs: probability of each class, mean over folds.
        threshold: on the positive class's probability (two classes), else None.
        predicted: index of the predicted class.
        probs_of_fold: probabilities by each of `folds` alone.
        predicted_of_fold: the class that each of them predicts by its own threshold.
    """

    folds: tuple[int, ...]
    probs: tuple[float, ...]
    threshold: float | None
    predicted: int
    probs_of_fold: tuple[tuple[float, ...], ...]
    predicted_of_fold: tuple[int, ...]
