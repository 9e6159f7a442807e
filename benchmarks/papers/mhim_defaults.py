"""What masking adds with the package's own training: MHIM over gated ABMIL and over TransMIL, on synthetic slides.

The cohort is chosen by a rule that was written down before anything was run: of the shares of tumour in `TRIED`, in this order,
the first with which the baseline (gated ABMIL, seed 0, mean AUROC of the folds) is between 0.70 and 0.90.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.papers.cohorts import FoldModels
from benchmarks.papers.mhim import CLASSES, FULL, TASK, Plan, fold_figures, prepare, split_of
from benchmarks.papers.runs import Run
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Model, parse_model

TRIED = ((0.003, 0.012), (0.002, 0.008), (0.001, 0.004), (0.005, 0.02))
"""Minimum and maximum share of the tissue that is tumour, in the order in which they are tried."""
CHOSEN = TRIED[0]
BETWEEN = (0.70, 0.90)
SEEDS = (0, 1, 2, 3, 4)
NOTHING_HIDDEN = {"random_ratio": 0.0, "low_ratio": 0.0, "high_ratio": 0.0, "consistency": 0.0}
BASES: dict[str, dict[str, Any]] = {
    "gated": {"model": "abmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
}
ARMS: dict[str, dict[str, Any]] = {"mhim": {}, "unmasked": NOTHING_HIDDEN}
"""Settings of MHIM that an arm changes: none, and the control that hides nothing, which is only a second training."""


def entry(base: str, arm: str | None, seed: int) -> Model:
    """Return a base, or an arm over it, as an entry of `models`."""
    own = BASES[base] if arm is None else {"model": "mhim", "base": base, **ARMS[arm]}
    return parse_model({**own, "train": {"seed": seed}})


@dataclass(frozen=True)
class DefaultsRun:
    """All folds of a base, or of an arm over it, for one seed.

    Attributes:
        plan: the cohort and its folds.
        base: name in `BASES`.
        arm: name in `ARMS`; None is the base itself.
        seed: seed of folds and training.
    """

    plan: Plan
    base: str
    arm: str | None
    seed: int

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        low, high = (f"{100 * share:g}" for share in self.plan.tumour)
        return f"mhim_defaults/{low}-{high}/{self.base if self.arm is None else f'{self.arm}-{self.base}'}/seed-{self.seed}"

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        models = {str(arm): entry(self.base, arm, self.seed).model_dump(mode="json") for arm in dict.fromkeys((None, self.arm))}
        return {"cohort": self.plan.cohort, "split": split_of(self.plan, self.seed).model_dump(mode="json"), "models": models}

    def fold_models(self, splits: Splits) -> FoldModels:
        """Return its models; the teacher of an arm is the base of the same fold and seed."""
        base = None if self.arm is None else replace(self, arm=None).fold_models(splits)
        settings, features = entry(self.base, self.arm, self.seed), self.plan.folder / "features"
        return FoldModels(f"mhim_defaults/{self.arm}-{self.base}", settings, self.as_json(), splits, features, CLASSES, base)

    def work(self, data: Path) -> dict[str, Any]:
        """Return AUROC and predictions of each fold's model for its test slides."""
        splits = draw_splits(prepare(self.plan, data), TASK, split_of(self.plan, self.seed))
        models = self.fold_models(splits)
        folds = [fold_figures(models, number) for number in range(splits.n_folds)]
        return {"auroc": sum(fold["auroc"] for fold in folds) / len(folds), "folds": folds}


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return the baseline for each share that was tried, then a run for each base, arm and seed, seed by seed."""
    if fast:
        return []
    tried = [DefaultsRun(replace(FULL, tumour=share), "gated", None, 0) for share in TRIED[: TRIED.index(CHOSEN)]]
    plan = replace(FULL, tumour=CHOSEN)
    chosen = [DefaultsRun(plan, base, arm, seed) for seed in SEEDS for base in BASES for arm in (None, *ARMS)]
    return [Run(r.name, r.as_json(), r.seed, lambda r=r: r.work(data)) for r in [*tried, *chosen]]
