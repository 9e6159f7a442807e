"""Frozen records that stages pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NO_PATH = Path()
"""Path of a slide without an image file: its features were imported."""


class Status(StrEnum):
    """Status of a slide after a stage."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"
    SKIPPED = "skipped"


class Role(StrEnum):
    """Role of a slide in a fold."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    EXTERNAL = "external"


SHEET_ROLES = (Role.TRAIN, Role.VAL, Role.TEST)
"""Roles that the column `split` of a sheet can have; external groups are named in the configuration."""
CALIBRATION = "calibration"
"""Role in `predictions.csv` of slides that probabilities were fitted to: no model saw them, and they count in no figure."""


@dataclass(frozen=True)
class SlideRow:
    """One row of the cohort sheet.

    Attributes:
        slide_id: unique id of the slide.
        path: the slide file, its URL (text), or `NO_PATH`.
        label: label for one target, in the text of `cohort.labels`, or "" for a slide that is only to be predicted.
        patient_id: id of the patient, by whom slides are split into folds.
        mpp: µm per pixel of level 0; overrides the file's own value. None if not given.
        split: "train", "val" or "test" of a fixed split, or "".
        fold: name of the fold that holds the slide out, or "".
        annotation: file with annotations, or None.
        mask: a tissue mask made by another tool (GeoJSON or label image), or None.
        scanner: name of the scanner, or "" to read it from the file.
        group: group of the patient, such as a site (`split.group`), or "".
        part: cell of the column that `recalibrate` names, or "".
        overrides: settings for this slide only, {"tissue.method": …}.
        labels: labels of the targets that the slide has one for, by the target's name.
        covariates: cells of the columns that are covariates of a target, by column, without empty ones.
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
    group: str = ""
    part: str = ""
    overrides: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    covariates: dict[str, str] = field(default_factory=dict)

    def for_target(self, name: str) -> "SlideRow":
        """Return the row with the label of a target."""
        return replace(self, label=self.labels.get(name, ""))


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
    """All instances of a slide, or of a patient's slides.

    Attributes:
        slide_id: id of the slide, or of the patient if the bag holds all slides of one.
        features: float16 `(n, d)`, valid tiles only. If an image encoder is trained together with the model, images
            instead: float32 `(n, n_channels, height, width)`, intensities from 0 to 1.
        coords: int64 `(n, 2)`, (x, y) of the tiles' top-left corners, level-0 pixels, in the order of `features`.
        covariates: what is known of the patient besides, by column: numbers or their text, and categories; a missing value has no
            entry. None if nothing is known. Models that were not trained with covariates take no notice of it.
    """

    slide_id: str
    features: NDArray[np.float16] | NDArray[np.float32]
    coords: NDArray[np.int64]
    covariates: Mapping[str, str | float] | None = None


@dataclass(frozen=True)
class InstanceScores:
    """Scores of the instances of a bag by one explanation method.

    Attributes:
        method: name of the method.
        values: float32 `(n,)` in the order of the bag's `coords`; all NaN if the method has no result for the slide.
        kind: description of the values, in words.
        unit: "share" (sums to 1 over the bag), "logit" (of a share), "log_odds" (the explained quantity itself: log odds of a
            class or label, standardised value, log risk), "probability" (of the class or label), "deviation" (standard
            deviations), "contribution" (to the explained quantity, times the number of instances), "part" (likewise, not times
            it: sums to the explained quantity over the bag) or "sensitivity" (of the
            class to the instance's features, times probabilities, in means of the bag).
        comparable: whether values of different slides can be compared.
        comparable_weighted: whether they can be after weighting by the slide's probability (see `score_scaling`).
        zero: neutral value: evidence neither for nor against the class (0 for shares; for attention logits that of an even
            share, logsumexp - log n).
        reason: why the method has no result, or "".
        output: index of the explained output; scores that belong to none (attention) are weighted by its probability, if any.
            None if no model was used.
        log: figures about the computation, for the receipt.
    """

    method: str
    values: NDArray[np.float32]
    kind: str
    unit: str
    comparable: bool
    comparable_weighted: bool = False
    zero: float = 0.0
    reason: str = ""
    output: int | None = None
    log: dict[str, object] = field(default_factory=dict)

    def of_rows(self, rows: slice) -> "InstanceScores":
        """Return the scores of some of the instances."""
        return replace(self, values=self.values[rows])


Threshold = float | tuple[float, ...] | None
"""Decision threshold: one number, one for each label, or none."""
Predicted = int | tuple[int, ...] | None
"""What is predicted: index of a class, 1 or 0 for each label, 1 for the higher-risk group; None for a number."""


@dataclass(frozen=True)
class SlidePrediction:
    """Prediction for a slide by the folds that held its patient out.

    Attributes:
        folds: folds whose models were averaged.
        outputs: values of the prediction, mean over folds: for classes and labels their probabilities (`Task.outputs`).
        threshold: for two classes on the positive one's probability, for labels on each probability, for survival on the risk.
        predicted: what is predicted.
        outputs_of_fold: values of each model of `folds`.
        predicted_of_fold: what each of them predicts at its own threshold.
    """

    folds: tuple[int, ...]
    outputs: tuple[float, ...]
    threshold: Threshold
    predicted: Predicted
    outputs_of_fold: tuple[tuple[float, ...], ...]
    predicted_of_fold: tuple[Predicted, ...]
