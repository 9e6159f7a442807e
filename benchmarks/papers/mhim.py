"""Components and masks of MHIM (Tang et al. 2023) over ABMIL, on synthetic slides with very little tumour."""

import math
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import benchmarks.papers.runs as run_files
from benchmarks.papers.cells import truth_and_probs
from benchmarks.papers.cohorts import FoldModels, extract_features
from benchmarks.papers.runs import Run
from wsi_mil.cohort import read_sheet
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import ClassesTarget, Encoder, Model, Split, TileSettings, parse_model
from wsi_mil.files import exclusive
from wsi_mil.metrics import auroc
from wsi_mil.receipts import fingerprint
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Classes

CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
SEEDS = (0, 1, 2)

BASE = "baseline"
ABMIL = {"model": "abmil", "gated": False, "embed_dim": 512, "activation": "relu", "attention_bias": False}
"""Settings of ABMIL in the code of MHIM's authors."""
R_HAM = {"random_ratio": 0.5, "low_ratio": 0.0, "high_ratio": 0.01, "high_share": 0.5}
"""Masks as published for ABMIL on CAMELYON16; consistency and momentum too, unless an arm changes them."""
UNMASKED = {**R_HAM, "random_ratio": 0.0, "high_ratio": 0.0}
ARMS: dict[str, dict[str, Any]] = {
    "masking": {**R_HAM, "consistency": 0.0, "momentum": 0.0},
    "siamese": {**R_HAM, "consistency": 0.0},
    "r_ham": R_HAM,
    "ham": {**R_HAM, "random_ratio": 0.0, "high_share": 1.0},
    "l_ham": {**R_HAM, "random_ratio": 0.0, "low_ratio": 0.8},
    "lr_ham": {**R_HAM, "low_ratio": 0.2},
    "unmasked": {**UNMASKED, "consistency": 0.0},
    "random": {**R_HAM, "high_ratio": 0.0},
}
"""Settings of MHIM that each arm changes; the last two arms are our controls."""


@dataclass(frozen=True)
class Plan:
    """Cohort and training shared by the runs of one size.

    Attributes:
        experiment: name of the experiment.
        slides: number of slides; every second one has tumour.
        tumour: minimum and maximum share of the tissue's cells (224 px) that are tumour.
        cells: rows and columns of cells in a slide.
        folds: folds of the cross-validation.
        epochs: number of epochs, over which the learning rate and the mask of high scores decrease.
    """

    experiment: str = "mhim"
    slides: int = 120
    tumour: tuple[float, float] = (0.003, 0.012)
    cells: tuple[int, int] = (26, 34)
    folds: int = 3
    epochs: int = 100

    @property
    def cohort(self) -> dict[str, Any]:
        """Everything that determines the features, as plain JSON."""
        sizes = {"slides": self.slides, "tumour": list(self.tumour), "cells": list(self.cells), "seed": 0}
        return {**sizes, "tile": TileSettings().model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}

    @property
    def folder(self) -> Path:
        """Folder of slides, tiles and features, not committed."""
        return run_files.CACHE / "mhim" / f"cohort-{fingerprint(self.cohort)[:8]}"

    def training(self, seed: int) -> dict[str, Any]:
        """Return the training settings: as published but for the length, the same for baseline and MHIM."""
        published = {"optimizer": "adam", "lr": 2e-4, "weight_decay": 1e-5, "schedule": "cosine", "class_weights": False}
        selection = {"select": "auroc", "min_val_bags": 1, "min_improvement": 0.0}
        stopping = {"patience": 30, "min_epochs": math.ceil(0.65 * self.epochs), "instance_dropout": 0.0}
        return {**published, **selection, **stopping, "epochs": self.epochs, "precision": "bfloat16", "seed": seed}


FULL = Plan()
FAST = Plan("mhim_fast", slides=24, tumour=(0.01, 0.03), cells=(13, 17), folds=2, epochs=20)


def entry(plan: Plan, arm: str, seed: int) -> Model:
    """Return an arm as an entry of `models`."""
    own = ABMIL if arm == BASE else {"model": "mhim", "base": BASE, **ARMS[arm]}
    return parse_model({**own, "train": plan.training(seed)})


def make_slides(plan: Plan, data: Path) -> None:
    """Create the slides and their sheet if the sheet is missing; it is written last.

    Raises:
        FileNotFoundError: the script that creates them is missing.
    """
    tool, sheet = data.parent / "bench" / "lung_cohort.py", plan.folder / "cohort.csv"
    sizes = ["--slides", plan.slides, "--tumour-fraction", *plan.tumour, "--cells", *plan.cells, "--seed", 0]
    command = [sys.executable, tool, plan.folder, "--patches", data / "lung", *sizes]
    with exclusive(sheet):
        if sheet.exists():
            return
        if not tool.is_file():
            raise FileNotFoundError(f"{tool}: expected the script that creates slides from {data / 'lung'}, found no file")
        subprocess.run([str(part) for part in command], check=True)


@cache
def prepare(plan: Plan, data: Path) -> list[SlideRow]:
    """Create slides, tiles and features of the cohort, as far as they are missing.

    Raises:
        ConfigError: a slide without features, with the reason in its receipt.
    """
    make_slides(plan, data)
    targets = {"tumour": ClassesTarget(kind="classes", classes=CLASSES)}
    rows = [row.for_target("tumour") for row in read_sheet(plan.folder / "cohort.csv", targets).rows]
    extract_features(rows, TileSettings(), Encoder(), plan.folder)
    return rows


def split_of(plan: Plan, seed: int) -> Split:
    """Return the settings of the split; each seed draws other folds, as in the paper."""
    return Split(folds=plan.folds, validation=0.2, seed=seed)


@dataclass(frozen=True)
class ArmRun:
    """All folds of an arm for one seed."""

    plan: Plan
    arm: str
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        cohort = {"cohort": self.plan.cohort, "split": split_of(self.plan, self.seed).model_dump(mode="json"), "arm": self.arm}
        models = {arm: entry(self.plan, arm, self.seed).model_dump(mode="json") for arm in dict.fromkeys((BASE, self.arm))}
        return {**cohort, "models": models}

    def fold_models(self, splits: Splits) -> FoldModels:
        """Return its models; their teacher is the baseline of the same fold and seed."""
        base = None if self.arm == BASE else ArmRun(self.plan, BASE, self.seed).fold_models(splits)
        settings = entry(self.plan, self.arm, self.seed)
        features = self.plan.folder / "features"
        return FoldModels(f"mhim/{self.arm}", settings, self.as_json(), splits, features, CLASSES, base)

    def work(self, data: Path) -> dict[str, Any]:
        """Return AUROC and predictions of each fold's model for its test slides."""
        splits = draw_splits(prepare(self.plan, data), TASK, split_of(self.plan, self.seed))
        models = self.fold_models(splits)
        folds = [fold_figures(models, number) for number in range(splits.n_folds)]
        return {"auroc": sum(fold["auroc"] for fold in folds) / len(folds), "folds": folds}


def fold_figures(models: FoldModels, number: int) -> dict[str, Any]:
    """Return AUROC and predictions of a fold for its test slides, and facts about its training."""
    predictions, card = models.predictions(number)
    training = {"epoch_kept": card.epoch, "validation_auroc": card.validation["auroc"]}
    return {"auroc": auroc(*truth_and_probs(predictions)), **training, "slides": predictions}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each arm and seed, seed by seed."""
    plan = FAST if fast else FULL
    pairs = [(BASE, 0), ("r_ham", 0)] if fast else [(arm, seed) for seed in SEEDS for arm in (BASE, *ARMS)]
    arm_runs = [ArmRun(plan, arm, seed) for arm, seed in pairs]
    return [Run(f"{plan.experiment}/{r.arm}/seed-{r.seed}", r.as_json(), r.seed, lambda r=r: r.work(data)) for r in arm_runs]
