"""Key instances: compare every score of instances with their labels, including sparse inversion and its control.

Positive bags are scored. If the model predicts a bag as negative, all its positive instances are missed (F1), and it is left
out of AUROC and AUPRC. Scores are scaled to 0 to 1 within each bag, pooled over bags, and cut at a threshold selected on
validation bags for each score; intervals are over bags.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_mil.bags import LabelledBag, bag_tensor
from wsi_mil.config import READ_OFF, SparseInversion, supports
from wsi_mil.evaluate.figures import SlideFigures, differences, method_figures
from wsi_mil.evaluate.localisation import Detections, Floats, best_f1, best_threshold, f1, tile_figures
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.sparse_inversion import PIXELS, Domain, refine, shrunk
from wsi_mil.models import MILModel
from wsi_mil.records import Bag
from wsi_mil.tasks import Classes
from wsi_mil.train import predict_outputs

TARGET, DRAWS = 1, 1000
SWEEP = [SparseInversion(step=s, penalty=p, steps=t) for s, p, t in product((1.0, 5.0, 20.0), (0.003, 0.03, 0.1), (5, 15))]
"""Settings of inversion of pixels to compare on validation bags."""
DEFAULTS = (
    ("pixels", "pixels", PIXELS),
    ("features, mild", "features", SparseInversion(step=5.0, penalty=0.003, steps=10)),
    ("features", "features", SparseInversion()),
)
"""Name, level and settings of inversions that are always measured; the last are the package's defaults for features."""
SELECTION_SCORES = ("attention", "evidence")
"""Read-offs that select the best setting of a sweep."""
SHOWN = ("f1", "f1_oracle", "pooled_auroc", "pooled_auprc", "tile_auroc")


@dataclass(frozen=True)
class AnnotatedBag:
    """A positive bag, and which of its instances are positive, `(n,)`."""

    bag: Bag
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Inversion:
    """Sparse inversion of pixels, or of the embeddings after the encoder.

    Attributes:
        name: name in tables.
        level: "pixels" or "features".
        settings: η, λ, T.
    """

    name: str
    level: str
    settings: SparseInversion


@dataclass(frozen=True)
class ScoredBag:
    """A bag and the scores of its instances by each method.

    Attributes:
        name: name of the bag.
        positive: which instances are positive, `(n,)`.
        is_shown: whether the model predicts the bag as positive.
        scores: by method, 0 to 1 within the bag, `(n,)`; empty if the bag is not shown.
        log: steps of each inversion, and why it was refused; the effective number of instances attended to.
    """

    name: str
    positive: NDArray[np.bool_]
    is_shown: bool
    scores: Mapping[str, Floats]
    log: Mapping[str, Any] = field(default_factory=dict)


def score_bags(model: MILModel, bags: Iterable[AnnotatedBag], inversions: Sequence[Inversion], domain: Domain) -> list[ScoredBag]:
    """Score the instances of bags by every method.

    Args:
        model: frozen, in eval mode, with its image encoder.
        bags: bags of images.
        inversions: inversions to measure in addition to the plain scores.
        domain: range and background of the pixels.
    """
    head = copy.deepcopy(model)
    head.instance_encoder = nn.Identity()
    return [_score_bag(model, head, annotated, inversions, domain) for annotated in bags]


def _score_bag(
    model: MILModel, head: MILModel, annotated: AnnotatedBag, inversions: Sequence[Inversion], domain: Domain
) -> ScoredBag:
    name = annotated.bag.slide_id
    bag = bag_tensor(annotated.bag, model)
    if predict_outputs(model, [LabelledBag(annotated.bag, TARGET)], Classes.numbered(2))[0, TARGET] < 0.5:
        return ScoredBag(name, annotated.positive, False, {})
    with torch.no_grad():
        features = model.instances(bag)
    scores = plain_scores(model, bag)
    scores["gradient_input of features"] = _read(head, features, "gradient_input")
    log: dict[str, Any] = {}
    cache: dict[tuple[str, SparseInversion], tuple[dict[str, Floats], dict[str, Any]]] = {}
    if "attention" in scores:
        scores["attention × norm"] = scores["attention"] * features[0].norm(dim=1).double().numpy()
        log["attended"] = float(1 / np.square(scores["attention"]).sum())
    for inversion in inversions:
        network, values = (model, bag) if inversion.level == "pixels" else (head, features)
        space = domain if inversion.level == "pixels" else Domain.of_features(features)
        key = inversion.level, inversion.settings
        cache[key] = cache.get(key) or inverted_scores(network, values, inversion.settings, space)
        of_inversion, log[inversion.name] = cache[key]
        scores |= {f"{inversion.name} → {read_off}": score for read_off, score in of_inversion.items()}
    return ScoredBag(name, annotated.positive, True, {key: within_bag(score) for key, score in scores.items()}, log)


def plain_scores(model: MILModel, bag: Tensor) -> dict[str, Floats]:
    """Return scores of the bag without inversion by all methods that the model supports but Jacobian maps."""
    supported = [name for name in METHODS if name != "jacobian_map" and supports(model.provides, name)]
    return {name: _read(model, bag, name) for name in supported}


def inverted_scores(
    model: MILModel, bag: Tensor, settings: SparseInversion, domain: Domain
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Return scores of the refined bag and of its control (η = 0, shrunk by the same amount), and a log.

    A bag whose refinement is refused is scored unchanged.
    """
    result = refine(model, bag, TARGET, settings, domain=domain)
    refined = bag if result.refused else result.bag
    control = bag if result.refused else shrunk(bag, settings.penalty, len(result.pull), domain)
    scores = {"retained": (refined - domain.background).abs()[0].flatten(1).sum(dim=1).double().numpy()}
    for name in READ_OFF:
        if supports(model.provides, name):
            scores[name] = _read(model, refined, name)
            scores[f"{name} (control)"] = _read(model, control, name)
    return scores, {"steps": len(result.pull), "refused": result.refused}


def within_bag(scores: Floats) -> Floats:
    """Return scores scaled from 0 (lowest) to 1 (highest) of a bag; zeros if all are equal."""
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)


def thresholds(val: Sequence[ScoredBag]) -> dict[str, float]:
    """Return the threshold of each score with the best F1 on validation bags."""
    positive = np.concatenate([s.positive for s in val])
    return {method: best_threshold(positive, np.concatenate([_values(s, method) for s in val])) for method in _methods(val)}


def figures(test: Sequence[tuple[ScoredBag, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Return F1, oracle F1, AUROC, AUPRC and mean AUROC within bags of each score, with intervals.

    Args:
        test: bags, and the thresholds of the model that scored each.
    """
    of_method = {}
    for method in _methods([s for s, _ in test]):
        slides = _slides(test, method)
        over_all = method_figures(slides, draws=DRAWS)
        over_shown = method_figures([s for s in slides if s.is_shown], draws=DRAWS)
        source = {name: over_all if name.startswith("f1") else over_shown for name in SHOWN}
        of_method[method] = {key: source[name][key] for name in SHOWN for key in (name, f"{name}_ci95")}
    return of_method


def score_differences(
    test: Sequence[tuple[ScoredBag, Mapping[str, float]]], pairs: Iterable[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return the difference of mean AUROC within bags for each pair of scores, with its interval."""
    shown = [(s, t) for s, t in test if s.is_shown]
    return [row for pair in pairs for row in differences({m: _slides(shown, m) for m in pair}, draws=DRAWS)]


def pairs_of(inversions: Iterable[Inversion], scores: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of scores to compare: each inversion with the plain score, and with its control."""
    named = [(f"{inversion.name} → {score}", score) for inversion in inversions for score in scores]
    return [pair for name, score in named for pair in ((name, score), (name, f"{name} (control)"))]


def sweep(
    model: MILModel, val: Sequence[AnnotatedBag], domain: Domain, settings: Sequence[SparseInversion]
) -> list[dict[str, Any]]:
    """Return oracle F1 and pooled AUROC of each setting on pixels, on validation bags; the first row has no inversion."""
    rows: list[dict[str, Any]] = [{"setting": None, **_sweep_figures(score_bags(model, val, [], domain), "")}]
    for one in settings:
        bags = score_bags(model, val, [Inversion("", "pixels", one)], domain)
        rows.append({"setting": [one.step, one.penalty, one.steps], **_sweep_figures(bags, " → ")})
    return rows


def best_of(rows: Sequence[Mapping[str, Any]], score: str) -> SparseInversion:
    """Return the setting of a sweep with the best oracle F1; of equal ones the first, which is the mildest."""
    best = max((row for row in rows if row["setting"]), key=lambda row: row[score]["f1_oracle"] if score in row else 0.0)
    step, penalty, steps = best["setting"]
    return SparseInversion(step=step, penalty=penalty, steps=steps)


def inversions_for(rows: Sequence[Mapping[str, Any]]) -> list[Inversion]:
    """Return the inversions to measure on test bags: the defaults, and the best on validation bags by two read-offs."""
    best = [Inversion(f"pixels, best for {score}", "pixels", best_of(rows, score)) for score in SELECTION_SCORES]
    return [*(Inversion(*default) for default in DEFAULTS), *best]


def summary(scored_bags: Sequence[ScoredBag]) -> dict[str, Any]:
    """Return numbers of bags and of instances attended to, and mean steps and refusals of inversions."""
    shown = [s for s in scored_bags if s.is_shown]
    counts: dict[str, Any] = {
        "bags": len(scored_bags),
        "bags_missed": len(scored_bags) - len(shown),
        "instances": int(sum(len(s.positive) for s in scored_bags)),
        "share_positive": float(np.concatenate([s.positive for s in scored_bags]).mean()),
    }
    if shown and "attended" in shown[0].log:
        counts["attended"] = float(np.mean([s.log["attended"] for s in shown]))
    names = [name for name in shown[0].log if name != "attended"] if shown else []
    return counts | {
        "inversions": {
            name: {
                "mean_steps": float(np.mean([s.log[name]["steps"] for s in shown])),
                "refused": sum(bool(s.log[name]["refused"]) for s in shown),
            }
            for name in names
        }
    }


def _sweep_figures(bags: Sequence[ScoredBag], prefix: str) -> dict[str, dict[str, float]]:
    shown = [s for s in bags if s.is_shown]
    positive = np.concatenate([s.positive for s in bags])
    of_score = {}
    for name in ("attention", "evidence", "attention (control)", "evidence (control)"):
        if shown and prefix + name in shown[0].scores:
            pooled = np.concatenate([s.scores[prefix + name] for s in shown])
            auroc = tile_figures(np.concatenate([s.positive for s in shown]), pooled)[0]
            oracle = best_f1(positive, np.concatenate([_values(s, prefix + name) for s in bags]))
            of_score[name] = {"f1_oracle": oracle, "pooled_auroc": auroc}
    return of_score


def _read(model: MILModel, bag: Tensor, name: str) -> Floats:
    return METHODS[name].of_model(model, bag, TARGET).scores


def _methods(bags: Sequence[ScoredBag]) -> list[str]:
    return next((list(s.scores) for s in bags if s.is_shown), [])


def _values(bag: ScoredBag, method: str) -> Floats:
    """Return the scores of a bag, -inf if it is not shown."""
    return bag.scores[method] if bag.is_shown else np.full(len(bag.positive), -np.inf)


def _slides(test: Sequence[tuple[ScoredBag, Mapping[str, float]]], method: str) -> list[SlideFigures]:
    """Return bags as slides of `wsi_mil.evaluate`, without lesions.

    If validation bags gave no threshold, because the model predicts all of them as negative, no instance is detected.
    """
    slides = []
    no_lesions = Detections(np.empty(0), np.empty(0))
    for bag, threshold_of in test:
        scores = _values(bag, method)
        threshold = threshold_of.get(method, np.inf)
        auroc, auprc = tile_figures(bag.positive, scores)
        own = f1(bag.positive, scores >= threshold), best_f1(bag.positive, scores)
        slides.append(SlideFigures(bag.name, bag.is_shown, bag.positive, scores, no_lesions, auroc, auprc, threshold, *own))
    return slides
