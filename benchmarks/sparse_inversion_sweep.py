"""Compare settings of sparse inversion on validation slides.

    python benchmarks/sparse_inversion_sweep.py my.yaml [other.yaml …]

The run of each configuration must be complete up to `predict`, and its sheet must have annotations. A slide is scored by
the fold whose epoch it selected, never by one that holds it out, so that the figures of the report stay unbiased. Prints
mean tile AUROC and AUPRC over true positive slides, and the mean gain over the control (η = 0, shrunk by the same amount).
"""

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from wsi_mil.annotations import overlap_fractions
from wsi_mil.bags import bag_tensor
from wsi_mil.check import Plan, check
from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import ReadOff, SparseInversion
from wsi_mil.devices import set_threads
from wsi_mil.ensemble import Ensemble
from wsi_mil.evaluate.slides import Sources, slide_truth
from wsi_mil.explain.sparse_inversion import Refinement, read_off, refine, shrunk
from wsi_mil.metrics import auprc, auroc
from wsi_mil.models import MILModel
from wsi_mil.receipts import store_path
from wsi_mil.results import Results
from wsi_mil.store import read_attributes
from wsi_mil.tasks import Classes

STEPS, PENALTIES = (0.0, 0.3, 1.0, 3.0, 10.0), (0.0, 0.005, 0.02, 0.05)
SCORES: tuple[ReadOff, ...] = ("attention", "attention_logits", "evidence", "standardised_sum")
Key = tuple[float, float, int, ReadOff]


@dataclass(frozen=True)
class Case:
    """A true positive validation slide, and the model whose epoch it helped to select."""

    model: MILModel
    bag: Tensor
    truth: np.ndarray
    threshold: float | None


def cases(plan: Plan, encoder: str, entry: str, *, only_predicted: bool = True) -> list[Case]:
    """Return the validation slides of all folds that are positive with partial annotations, and are predicted as such."""
    config = plan.config
    positives = []
    name, target = next(iter(config.targets.items()))
    results, classes = Results(config.results).target(name), target.classes
    splits = read_splits(results.splits)
    ensemble = Ensemble(results.model(encoder, entry), splits, Classes(classes), torch.device("cpu"))
    tiles = config.results / "tiles" / config.encoders[encoder].tiling
    sources = Sources(config.results / "scores", tiles, None, Classes(classes), config.truth)
    rows = [row.for_target(name) for row in plan.rows]
    truths = {row.slide_id: slide_truth(row, sources).annotation for row in rows if row.label == classes[-1]}
    for fold, member in enumerate(ensemble.folds):
        for slide_id, role in splits.roles[fold].items():
            if role != "val" or truths.get(slide_id) is None:
                continue
            receipt = config.results / "features" / encoder / f"{slide_id}.json"
            bag = ensemble.read_bag(slide_id, [receipt])
            if only_predicted and ensemble.predict(bag, (fold,)).predicted != len(classes) - 1:
                continue
            box = read_attributes(store_path(receipt))["tile_px_level0"]
            truth = overlap_fractions(truths[slide_id].region, bag.coords, box=tuple(box)) >= config.truth.overlap
            positives.append(Case(member.model, bag_tensor(bag, member.model), truth.astype(np.int64), member.card.threshold))
    return [case for case in positives if 0 < case.truth.sum() < len(case.truth)]


def figures(case: Case, bag: Tensor, score: ReadOff) -> tuple[float, float]:
    """Return tile AUROC and AUPRC of a read-off of a bag."""
    values = read_off(case.model, score).of_model(case.model, bag, 1).scores
    columns = np.stack([-values, values], axis=1)
    return auroc(case.truth, columns), auprc(case.truth, columns)


def sweep(case: Case, counts: list[int]) -> dict[Key, tuple[float, float, float, float]]:
    """Return AUROC and AUPRC, and those of the control, for each setting; NaN if the refinement is refused."""
    results = {}
    for step, penalty, count in product(STEPS, PENALTIES, counts):
        settings = SparseInversion(step=step, penalty=penalty, steps=count)
        result = refine(case.model, case.bag, 1, settings, threshold=case.threshold)
        for score in SCORES:
            results[(step, penalty, count, score)] = _with_control(case, result, penalty, score)
    return results


def _with_control(case: Case, result: Refinement, penalty: float, score: ReadOff) -> tuple[float, float, float, float]:
    if result.refused:
        return (float("nan"),) * 4
    return *figures(case, result.bag, score), *figures(case, shrunk(case.bag, penalty, len(result.pull)), score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, help="configuration files of finished runs")
    parser.add_argument("--models", nargs="+", default=["abmil"], help="entries of `models`")
    parser.add_argument("--steps", nargs="+", type=int, default=[10], help="numbers of steps")
    parser.add_argument("--show", type=int, default=4, help="settings shown for each score, the best by AUPRC first")
    parser.add_argument(
        "--tiny", action="store_true", help="one step, and slides that are predicted wrongly too, to see that it runs"
    )
    args = parser.parse_args()
    set_threads(1)
    slides: list[dict[Key, tuple[float, float, float, float]]] = []
    for path in args.configs:
        plan = check(yaml.safe_load(path.read_text()))
        entries = [(encoder, entry) for encoder in plan.config.encoders for entry in args.models]
        found = [case for entry in entries for case in cases(plan, *entry, only_predicted=not args.tiny)]
        slides += [sweep(case, [1] if args.tiny else args.steps) for case in found]
    if not slides:
        sys.exit("no validation slide is positive, predicted as such and annotated in part: there is nothing to compare")
    keys = list(slides[0])
    table = np.array([[slide[key] for key in keys] for slide in slides])  # (n_slides, n_settings, 4)
    n_refused = np.isnan(table[..., 0]).any(axis=0).sum()
    print(f"{len(slides)} validation slides; settings refused on at least one: {n_refused} of {len(keys)}")
    print(f"{'step':>6}{'penalty':>9}{'steps':>7}{'score':>18}{'AUROC':>8}{'AUPRC':>8}{'minus control':>20}")
    best = {}
    for score in SCORES:
        rows = [i for i, key in enumerate(keys) if key[3] == score]
        no_inversion = next(i for i in rows if keys[i][:2] == (0.0, 0.0))
        ranked = sorted(rows, key=lambda i: -np.nan_to_num(table[:, i, 1].mean(), nan=-1))
        for i in [no_inversion, *ranked[: args.show]]:
            print(_line(keys[i], table[:, i].mean(axis=0)))
        auprc_ = float(table[:, ranked[0], 1].mean())
        best[score] = {"setting": keys[ranked[0]][:3], "auprc": None if np.isnan(auprc_) else round(auprc_, 4)}
    print(json.dumps(best))


def _line(key: Key, figures: np.ndarray) -> str:
    step, penalty, count, score = key
    (auroc_, auprc_), (gain_auroc, gain_auprc) = figures[:2], figures[:2] - figures[2:]
    return f"{step:6g}{penalty:9g}{count:7d}{score:>18}{auroc_:8.3f}{auprc_:8.3f}{gain_auroc:+10.4f}{gain_auprc:+10.4f}"


if __name__ == "__main__":
    main()
