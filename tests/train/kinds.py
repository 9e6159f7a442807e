"""Small cohorts of every kind of task, with features and folds."""

from pathlib import Path

import numpy as np

from tests.train.cohort import CPU, write_features
from wsi_mil.bags import LabelledBag
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import BagUnit, Split, parse_model
from wsi_mil.ensemble import Ensemble
from wsi_mil.records import Bag, SlideRow
from wsi_mil.tasks import Multilabel, Regression, Survival, Task
from wsi_mil.train import Fold, train_fold

TASKS: dict[str, Task] = {
    "multilabel": Multilabel(("er", "her2")),
    "regression": Regression("log1p", name="tmb"),
    "discrete": Survival("discrete", 3),
    "cox": Survival("cox"),
}
SMALL = {"embed_dim": 8, "train": {"epochs": 3, "cox_updates": 3, "min_epochs": 0, "min_val_bags": 1, "cox_lr": 0.01, "lr": 0.01}}
ABMIL = parse_model({"model": "abmil", **SMALL})


def labels_of(kind: str, driver: float, rng: np.random.Generator) -> str:
    """A label that grows, or whose event comes earlier, with the `driver`, from 0 to 1."""
    if kind == "multilabel":
        return f"{int(driver > 0.5)} {'?' if rng.random() < 0.2 else int(driver > 0.3)}"
    if kind == "regression":
        return repr(float(np.expm1(3 * driver)))
    return f"{10 * np.exp(-2 * driver) * rng.uniform(0.8, 1.2):.3f} {int(rng.random() < 0.7)}"


def cohort_of(kind: str, n_patients: int = 36, seed: int = 0) -> list[SlideRow]:
    """Rows of patients, every fourth of whom has two slides; the slides of a patient have the same label."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n_patients):
        label = labels_of(kind, number / n_patients, rng)
        slides = [f"s{number:02}{letter}" for letter in ("ab" if number % 4 == 0 else "a")]
        rows += [SlideRow(slide, Path("x"), label, f"p{number:02}") for slide in slides]
    return rows


def write_cohort(folder: Path, rows: list[SlideRow]) -> None:
    """Write feature stores of bags of 6 to 14 instances whose first feature has the patient's driver."""
    bags = []
    for i, row in enumerate(rows):
        rng = np.random.default_rng(i)
        features = rng.normal(size=(6 + i % 9, 12))
        features[:3, 0] += int(row.patient_id[1:]) / 10
        bags.append(LabelledBag(Bag(row.slide_id, features.astype(np.float16), np.zeros((len(features), 2), np.int64)), 0))
    write_features(folder, bags)


class Trained:
    """A cohort in a folder, and what is trained on it."""

    def __init__(self, folder: Path, kind: str, rows: list[SlideRow] | None = None, *, unit: BagUnit = "slide"):
        self.folder, self.task, self.unit = folder, TASKS[kind], unit
        self.rows = cohort_of(kind) if rows is None else rows
        self.splits: Splits = draw_splits(self.rows, self.task, Split(folds=3))
        if not (folder / "f").exists():
            write_cohort(folder / "f", self.rows)

    def fold(self, number: int) -> Fold:
        return Fold(self.splits, number, self.folder / "f", self.task, self.unit)

    def train(self, number: int, name: str = "m") -> Path:
        path = self.folder / name / f"fold-{number}"
        train_fold(self.fold(number), ABMIL, path, CPU)
        return path

    def ensemble(self, task: Task | None = None) -> Ensemble:
        for number in range(3):
            self.train(number)
        return Ensemble(self.folder / "m", self.splits, task or self.task, CPU, unit=self.unit)
