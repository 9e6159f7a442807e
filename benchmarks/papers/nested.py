"""Colon and breast images: a linear model of mean features, its scales, statistics and penalty chosen inside each training part.

The images are slides as in `frozen`, with the same folds. Tiles of three sizes go through the default encoder. The breast images
are also split by tissue block: each block has images of both classes, so folds of single images have every block in both
parts. To see how much staining and background tell, colours stand in for features, of both sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import benchmarks.papers.runs as run_files
from benchmarks.papers.cohorts import extract_features
from benchmarks.papers.frozen import FOLDS, TILES, read_rows
from benchmarks.papers.histology import CLASSES, TASK
from benchmarks.papers.runs import Run
from wsi_mil.bags import read_bag_of
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Encoder, Split, TileSettings
from wsi_mil.receipts import fingerprint
from wsi_mil.records import Role, SlideRow

SIDES = (64, 128, 224)
"""Sides of the tiles in pixels; each overlaps its neighbours by half."""
COLOURS = 0
"""In place of a side: the colours of the image, red, green and blue from 0 to 255, without an encoder."""

SCALES = ((64,), (128,), (224,), (64, 128), (128, 224), (64, 128, 224))
STATISTICS = (("mean",), ("mean", "std"))
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""scikit-learn's C."""
INNER_FOLDS = 5

Floats = NDArray[np.float64]
Choice = tuple[tuple[int, ...], tuple[str, ...], float]


def tiles(side: int) -> TileSettings:
    """Return the settings of tiles of a size."""
    return TILES.model_copy(update={"tiling": TILES.tiling.model_copy(update={"tile_px": side, "overlap": side // 2})})


@cache
def statistics_of(data: Path, images: str, side: int) -> dict[str, dict[str, Floats]]:
    """Return mean and standard deviation of the features of each image, `(d,)`; extract them first if they are missing."""
    if side == COLOURS:
        pixels = {row.slide_id: np.asarray(Picture.open(row.path).convert("RGB"), float) for row in read_rows(data, images)}
        return {name: {"mean": own.mean(axis=(0, 1)), "std": own.std(axis=(0, 1))} for name, own in pixels.items()}
    settings = {"tile": tiles(side).model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}
    folder = run_files.CACHE / "frozen" / f"{images}-{fingerprint({'images': images, 'mpp': TILES.tiling.mpp, **settings})[:8]}"
    rows = read_rows(data, images)
    extract_features(rows, tiles(side), Encoder(), folder)
    names = [row.slide_id for row in rows]
    features = {name: read_bag_of(name, [folder / "features" / f"{name}.json"]).features for name in names}
    return {name: {"mean": own.mean(axis=0, dtype=float), "std": own.std(axis=0, dtype=float)} for name, own in features.items()}


@dataclass(frozen=True)
class NestedRun:
    """All folds of one draw.

    Attributes:
        images: "colon" or "breast".
        draw: seed of the split.
        by_block: whether each fold holds out a whole tissue block, of which breast images have the name.
        colours: whether colours stand in for features.
    """

    images: str
    draw: int
    by_block: bool = False
    colours: bool = False

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        kind = "_colours" * self.colours + "_by_block" * self.by_block
        return f"nested/{self.images}{kind}/draw-{self.draw}"

    @property
    def scales(self) -> tuple[tuple[int, ...], ...]:
        """Sets of sides to choose from."""
        return ((COLOURS,),) if self.colours else SCALES

    @property
    def split(self) -> Split:
        """Settings of the split, as in `frozen` or by block; its validation part belongs to the training part here."""
        if self.by_block:
            return Split(folds="all", group="block", validation=0.1, seed=self.draw)
        return Split(folds=FOLDS[self.images][0], validation=0.1, seed=self.draw)

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        grid = {
            "scales": [list(s) for s in self.scales],
            "statistics": [list(s) for s in STATISTICS],
            "penalties": list(PENALTIES),
        }
        tiling = {"tile": TILES.model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}
        return {"images": self.images, **tiling, **grid, "inner": INNER_FOLDS, "split": self.split.model_dump(mode="json")}

    def work(self, data: Path) -> dict[str, Any]:
        """Return the predictions of each fold for its test images, and what it chose."""
        splits = draw_splits(self.rows(data), TASK, self.split)
        blocks = {side: statistics_of(data, self.images, side) for side in {side for scale in self.scales for side in scale}}
        return {"folds": [self._fold(blocks, splits, number) for number in range(splits.n_folds)]}

    def rows(self, data: Path) -> list[SlideRow]:
        """Return the images, each with its tissue block as its group."""
        return [replace(row, group=block_of(row.slide_id)) for row in read_rows(data, self.images)]

    def _fold(self, blocks: dict[int, dict[str, dict[str, Floats]]], splits: Splits, number: int) -> dict[str, Any]:
        train = [*splits.slides(number, Role.TRAIN), *splits.slides(number, Role.VAL)]
        test = splits.slides(number, Role.TEST)
        labels = np.array([CLASSES.index(splits.labels[name]) for name in train])
        groups = [block_of(name) for name in train] if self.by_block else None
        choices = [(scales, kinds, c) for scales, kinds, c in product(self.scales, STATISTICS, PENALTIES)]
        losses = [
            inner_loss(design(blocks, train, choice), labels, choice[2], seed=self.draw, groups=groups) for choice in choices
        ]
        chosen = choices[int(np.argmin(losses))]
        fitted = linear(chosen[2]).fit(design(blocks, train, chosen), labels)
        probs = fitted.predict_proba(design(blocks, test, chosen))[:, 1]
        images = {n: {"label": CLASSES.index(splits.labels[n]), "prob": float(p)} for n, p in zip(test, probs, strict=True)}
        return {"chosen": {"scales": list(chosen[0]), "statistics": list(chosen[1]), "penalty": chosen[2]}, "images": images}


def block_of(name: str) -> str:
    """Return the tissue block and day of a breast image, the part of its name before its class."""
    return name.partition("_benign")[0].partition("_malignant")[0]


def design(blocks: dict[int, dict[str, dict[str, Floats]]], names: list[str], choice: Choice) -> Floats:
    """Return the columns of a choice `(n_images, k)`."""
    scales, kinds, _ = choice
    return np.stack([np.concatenate([blocks[side][name][kind] for side in scales for kind in kinds]) for name in names])


def linear(c: float) -> Pipeline:
    """Return an unfitted logistic regression of standardised columns."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))


def inner_loss(columns: Floats, labels: NDArray[np.int64], c: float, *, seed: int, groups: Sequence[str] | None = None) -> float:
    """Return the mean loss of an inner cross-validation of rows `(n, k)`, which keeps groups whole if there are any."""
    inner = (StratifiedKFold if groups is None else StratifiedGroupKFold)(INNER_FOLDS, shuffle=True, random_state=seed)
    probs = np.zeros(len(labels))
    for fit_on, judge in inner.split(columns, labels, groups):
        probs[judge] = linear(c).fit(columns[fit_on], labels[fit_on]).predict_proba(columns[judge])[:, 1]
    return float(log_loss(labels, probs))


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each draw of the data sets that are available."""
    if fast:
        return []
    available = [images for images in FOLDS if (data / images).is_dir()]
    selected = [NestedRun(images, draw) for images in available for draw in range(FOLDS[images][1])]
    if "colon" in available:
        selected.append(NestedRun("colon", 0, colours=True))
    if "breast" in available:
        selected += [NestedRun("breast", 0, by_block=True, colours=colours) for colours in (False, True)]
    return [Run(r.name, r.as_json(), r.draw, lambda r=r: r.work(data)) for r in selected]
