"""MHIM's parts and masks (Tang et al. 2023) over ABMIL, on made slides with very little tumour: cohort, features, runs."""

import math
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import benchmarks.papers.runs as kept
from benchmarks.papers.cells import truth_and_probs
from benchmarks.papers.cohorts import Trained, extract_features
from benchmarks.papers.runs import Run
from wsi_mil.cohort import read_sheet
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Encoder, Model, Split, TileSettings, parse_model
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
"""As MHIM's code has it."""
R_HAM = {"random_ratio": 0.5, "low_ratio": 0.0, "high_ratio": 0.01, "high_share": 0.5}
"""As published for ABMIL on CAMELYON16; so are consistency and momentum where an arm does not say otherwise."""
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
"""By name, what each changes in MHIM's settings; the last two are controls of ours."""


@dataclass(frozen=True)
class Plan:
    """What the runs of one size have in common.

    Attributes:
        experiment: for names.
        slides: of the cohort, every second one with tumour.
        tumour: least and largest share of the tissue's cells (224 px) that are tumour.
        cells: rows and columns of cells in a slide.
        folds: of the cross-validation.
        epochs: the planned ones, over which the learning rate and the mask of high scores fall.
    """

    experiment: str = "mhim"
    slides: int = 120
    tumour: tuple[float, float] = (0.003, 0.012)
    cells: tuple[int, int] = (26, 34)
    folds: int = 3
    epochs: int = 100

    @property
    def cohort(self) -> dict[str, Any]:
        """All that decides the features, as plain JSON."""
        sizes = {"slides": self.slides, "tumour": list(self.tumour), "cells": list(self.cells), "seed": 0}
        return {**sizes, "tile": TileSettings().model_dump(mode="json"), "encoder": Encoder().model_dump(mode="json")}

    @property
    def folder(self) -> Path:
        """Slides, tiles and features; not committed."""
        return kept.KEPT / "mhim" / f"cohort-{fingerprint(self.cohort)[:8]}"

    def training(self, seed: int) -> dict[str, Any]:
        """As published, but for the length; the same for baseline and MHIM."""
        published = {"optimizer": "adam", "lr": 2e-4, "weight_decay": 1e-5, "schedule": "cosine", "class_weights": False}
        choice = {"select": "auroc", "min_val_bags": 1, "min_improvement": 0.0}
        stopping = {"patience": 30, "min_epochs": math.ceil(0.65 * self.epochs), "instance_dropout": 0.0}
        return {**published, **choice, **stopping, "epochs": self.epochs, "precision": "bfloat16", "seed": seed}


FULL = Plan()
FAST = Plan("mhim_fast", slides=24, tumour=(0.01, 0.03), cells=(13, 17), folds=2, epochs=20)


def entry(plan: Plan, arm: str, seed: int) -> Model:
    """An arm as an entry of `models`."""
    own = ABMIL if arm == BASE else {"model": "mhim", "base": BASE, **ARMS[arm]}
    return parse_model({**own, "train": plan.training(seed)})


def make_slides(plan: Plan, data: Path) -> None:
    """The slides and their sheet, where they are not there yet; the sheet is written last.

    Raises:
        FileNotFoundError: the tool that makes them is not beside DATA.
    """
    tool, sheet = data.parent / "bench" / "lung_cohort.py", plan.folder / "cohort.csv"
    sizes = ["--slides", plan.slides, "--tumour-fraction", *plan.tumour, "--cells", *plan.cells, "--seed", 0]
    command = [sys.executable, tool, plan.folder, "--patches", data / "lung", *sizes]
    with exclusive(sheet):
        if sheet.exists():
            return
        if not tool.is_file():
            raise FileNotFoundError(f"{tool}: no such file; the tool that makes slides from {data / 'lung'} is to lie there")
        subprocess.run([str(part) for part in command], check=True)


@cache
def prepare(plan: Plan, data: Path) -> list[SlideRow]:
    """Slides, tiles and features of the cohort; what is there is not made again.

    Raises:
        ConfigError: a slide without features, with what its receipt says.
    """
    make_slides(plan, data)
    rows = list(read_sheet(plan.folder / "cohort.csv", TASK).rows)
    extract_features(rows, TileSettings(), Encoder(), plan.folder)
    return rows


def split_of(plan: Plan, seed: int) -> Split:
    """Each seed draws its own folds, as in the paper."""
    return Split(folds=plan.folds, validation=0.2, seed=seed)


@dataclass(frozen=True)
class ArmRun:
    """All folds of an arm with one seed."""

    plan: Plan
    arm: str
    seed: int

    def plain(self) -> dict[str, Any]:
        """All that decides its figures, as plain JSON."""
        about = {"cohort": self.plan.cohort, "split": split_of(self.plan, self.seed).model_dump(mode="json"), "arm": self.arm}
        models = {arm: entry(self.plan, arm, self.seed).model_dump(mode="json") for arm in dict.fromkeys((BASE, self.arm))}
        return {**about, "models": models}

    def trained(self, splits: Splits) -> Trained:
        """Its models, taught by the baseline of their own fold and seed."""
        base = None if self.arm == BASE else ArmRun(self.plan, BASE, self.seed).trained(splits)
        settings = entry(self.plan, self.arm, self.seed)
        features = self.plan.folder / "features"
        return Trained(f"mhim/{self.arm}", settings, self.plain(), splits, features, CLASSES, base)

    def work(self, data: Path) -> dict[str, Any]:
        """What each fold's model says of the slides that it has not seen."""
        splits = draw_splits(prepare(self.plan, data), TASK, split_of(self.plan, self.seed))
        models = self.trained(splits)
        folds = [_fold(models, number) for number in range(splits.n_folds)]
        return {"auroc": sum(fold["auroc"] for fold in folds) / len(folds), "folds": folds}


def _fold(models: Trained, number: int) -> dict[str, Any]:
    said, card = models.said(number)
    kept_epoch = {"epoch_kept": card.epoch, "validation_auroc": card.validation["auroc"]}
    return {"auroc": auroc(*truth_and_probs(said)), **kept_epoch, "slides": said}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Each arm with each seed is a run, seed after seed."""
    plan = FAST if fast else FULL
    wanted = [(BASE, 0), ("r_ham", 0)] if fast else [(arm, seed) for seed in SEEDS for arm in (BASE, *ARMS)]
    found = [ArmRun(plan, arm, seed) for arm, seed in wanted]
    return [Run(f"{plan.experiment}/{r.arm}/seed-{r.seed}", r.plain(), r.seed, lambda r=r: r.work(data)) for r in found]
