"""Key instances: which instances make a bag positive? Every score against the truth, with sparse inversion and its control.

Scored are truly positive bags. One that the model takes for negative has no key instances: all its positive ones are missed
(F1), and it does not count in AUROC and AUPRC. Scores are taken from least to greatest within each bag (0 to 1), pooled over
bags, and cut at a threshold that validation bags choose, for each score its own; intervals are over bags.
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
"""Settings on pixels that are tried on validation bags."""
DEFAULTS = (
    ("pixels", "pixels", PIXELS),
    ("features, mild", "features", SparseInversion(step=5.0, penalty=0.003, steps=10)),
    ("features", "features", SparseInversion()),
)
"""Name, level and settings of what is always tried; the last are the package's defaults for features."""
CHOOSERS = ("attention", "evidence")
"""Read-offs by which a sweep chooses."""
SHOWN = ("f1", "f1_oracle", "pooled_auroc", "pooled_auprc", "tile_auroc")


@dataclass(frozen=True)
class Known:
    """A positive bag, and which of its instances `(n,)` are so."""

    bag: Bag
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Inversion:
    """Sparse inversion of pixels, or of the embeddings behind the encoder.

    Attributes:
        name: for tables.
        level: "pixels" or "features".
        settings: η, λ, T.
    """

    name: str
    level: str
    settings: SparseInversion


@dataclass(frozen=True)
class Scored:
    """A bag and what each score says of it.

    Attributes:
        name: of the bag.
        positive: which instances are, `(n,)`.
        is_shown: whether the model takes it for positive.
        scores: by method, 0 to 1 within the bag, `(n,)`; none where it is not.
        log: of each inversion steps taken, and why it was refused; the effective number of instances attended to.
    """

    name: str
    positive: NDArray[np.bool_]
    is_shown: bool
    scores: Mapping[str, Floats]
    log: Mapping[str, Any] = field(default_factory=dict)


def scored(model: MILModel, bags: Iterable[Known], inversions: Sequence[Inversion], domain: Domain) -> list[Scored]:
    """Every score of every bag.

    Args:
        model: frozen, in eval mode, with its image encoder.
        bags: of images.
        inversions: what is tried beside the plain scores.
        domain: of pixels.
    """
    head = copy.deepcopy(model)
    head.instance_encoder = nn.Identity()
    return [_scored(model, head, known, inversions, domain) for known in bags]


def _scored(model: MILModel, head: MILModel, known: Known, inversions: Sequence[Inversion], domain: Domain) -> Scored:
    name, bag = known.bag.slide_id, bag_tensor(known.bag, model)
    if predict_outputs(model, [LabelledBag(known.bag, TARGET)], Classes.numbered(2))[0, TARGET] < 0.5:
        return Scored(name, known.positive, False, {})
    with torch.no_grad():
        features = model.instances(bag)
    found = plain_scores(model, bag)
    found["gradient_input of features"] = _read(head, features, "gradient_input")
    log: dict[str, Any] = {}
    done: dict[tuple[str, SparseInversion], tuple[dict[str, Floats], dict[str, Any]]] = {}
    if "attention" in found:
        found["attention × norm"] = found["attention"] * features[0].norm(dim=1).double().numpy()
        log["attended"] = float(1 / np.square(found["attention"]).sum())
    for how in inversions:
        where, values = (model, bag) if how.level == "pixels" else (head, features)
        space = domain if how.level == "pixels" else Domain.of_features(features)
        key = how.level, how.settings
        done[key] = done.get(key) or inverted(where, values, how.settings, space)
        scores, log[how.name] = done[key]
        found |= {f"{how.name} → {name_of}": score for name_of, score in scores.items()}
    return Scored(name, known.positive, True, {key: within_bag(score) for key, score in found.items()}, log)


def plain_scores(model: MILModel, bag: Tensor) -> dict[str, Floats]:
    """Scores of the bag as it is by the package's methods that the model supports; Jacobian maps are not measured."""
    supported = [name for name in METHODS if name != "jacobian_map" and supports(model.provides, name)]
    return {name: _read(model, bag, name) for name in supported}


def inverted(model: MILModel, bag: Tensor, settings: SparseInversion, domain: Domain) -> tuple[dict[str, Floats], dict[str, Any]]:
    """What is read off the refined bag, and off its control (η = 0, shrunk as far); a refused bag is scored as it is."""
    result = refine(model, bag, TARGET, settings, domain=domain)
    refined = bag if result.refused else result.bag
    control = bag if result.refused else shrunk(bag, settings.penalty, len(result.pull), domain)
    found = {"retained": (refined - domain.background).abs()[0].flatten(1).sum(dim=1).double().numpy()}
    for name in READ_OFF:
        if supports(model.provides, name):
            found[name] = _read(model, refined, name)
            found[f"{name} (control)"] = _read(model, control, name)
    return found, {"steps": len(result.pull), "refused": result.refused}


def within_bag(scores: Floats) -> Floats:
    """From least (0) to greatest (1) of a bag; zeros where all are equal."""
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)


def thresholds(val: Sequence[Scored]) -> dict[str, float]:
    """Of each score the one with the best F1 on these bags."""
    positive = np.concatenate([s.positive for s in val])
    return {method: best_threshold(positive, np.concatenate([_values(s, method) for s in val])) for method in _methods(val)}


def figures(test: Sequence[tuple[Scored, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """F1, oracle F1, AUROC, AUPRC and mean AUROC within bags of each score, with intervals.

    Args:
        test: bags, and the thresholds of the model that scored each.
    """
    found = {}
    for method in _methods([s for s, _ in test]):
        slides = _slides(test, method)
        over_all = method_figures(slides, draws=DRAWS)
        over_shown = method_figures([s for s in slides if s.is_shown], draws=DRAWS)
        of = {name: over_all if name.startswith("f1") else over_shown for name in SHOWN}
        found[method] = {key: of[name][key] for name in SHOWN for key in (name, f"{name}_ci95")}
    return found


def compared(test: Sequence[tuple[Scored, Mapping[str, float]]], pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Mean AUROC within bags of one score less that of another, with its interval."""
    there = [(s, t) for s, t in test if s.is_shown]
    return [found for pair in pairs for found in differences({m: _slides(there, m) for m in pair}, draws=DRAWS)]


def pairs_of(inversions: Iterable[Inversion], scores: Sequence[str]) -> list[tuple[str, str]]:
    """Each inversion against the plain score, and against its control."""
    named = [(f"{how.name} → {score}", score) for how in inversions for score in scores]
    return [pair for name, score in named for pair in ((name, score), (name, f"{name} (control)"))]


def sweep(model: MILModel, val: Sequence[Known], domain: Domain, settings: Sequence[SparseInversion]) -> list[dict[str, Any]]:
    """Each setting on pixels, by what it finds on validation bags: oracle F1, pooled AUROC; the first row is no inversion."""
    rows: list[dict[str, Any]] = [{"setting": None, **_swept(scored(model, val, [], domain), "")}]
    for one in settings:
        found = scored(model, val, [Inversion("", "pixels", one)], domain)
        rows.append({"setting": [one.step, one.penalty, one.steps], **_swept(found, " → ")})
    return rows


def best_of(rows: Sequence[Mapping[str, Any]], score: str) -> SparseInversion:
    """The setting of a sweep whose score has the best oracle F1; the first of equally good ones, the mildest."""
    best = max((row for row in rows if row["setting"]), key=lambda row: row[score]["f1_oracle"] if score in row else 0.0)
    step, penalty, steps = best["setting"]
    return SparseInversion(step=step, penalty=penalty, steps=steps)


def inversions_for(rows: Sequence[Mapping[str, Any]]) -> list[Inversion]:
    """What is tried on test bags: the defaults, and the best settings on validation bags by two read-offs."""
    chosen = [Inversion(f"pixels, best for {score}", "pixels", best_of(rows, score)) for score in CHOOSERS]
    return [*(Inversion(*default) for default in DEFAULTS), *chosen]


def summary(scored_bags: Sequence[Scored]) -> dict[str, Any]:
    """How many bags were shown, how many instances they attend to, and how inversions ended."""
    there = [s for s in scored_bags if s.is_shown]
    found: dict[str, Any] = {
        "bags": len(scored_bags),
        "bags_missed": len(scored_bags) - len(there),
        "instances": int(sum(len(s.positive) for s in scored_bags)),
        "share_positive": float(np.concatenate([s.positive for s in scored_bags]).mean()),
    }
    if there and "attended" in there[0].log:
        found["attended"] = float(np.mean([s.log["attended"] for s in there]))
    names = [name for name in there[0].log if name != "attended"] if there else []
    return found | {
        "inversions": {
            name: {
                "mean_steps": float(np.mean([s.log[name]["steps"] for s in there])),
                "refused": sum(bool(s.log[name]["refused"]) for s in there),
            }
            for name in names
        }
    }


def _swept(bags: Sequence[Scored], prefix: str) -> dict[str, dict[str, float]]:
    there, positive = [s for s in bags if s.is_shown], np.concatenate([s.positive for s in bags])
    found = {}
    for name in ("attention", "evidence", "attention (control)", "evidence (control)"):
        if there and prefix + name in there[0].scores:
            pooled = np.concatenate([s.scores[prefix + name] for s in there])
            auroc = tile_figures(np.concatenate([s.positive for s in there]), pooled)[0]
            oracle = best_f1(positive, np.concatenate([_values(s, prefix + name) for s in bags]))
            found[name] = {"f1_oracle": oracle, "pooled_auroc": auroc}
    return found


def _read(model: MILModel, bag: Tensor, name: str) -> Floats:
    return METHODS[name].of_model(model, bag, TARGET).scores


def _methods(bags: Sequence[Scored]) -> list[str]:
    return next((list(s.scores) for s in bags if s.is_shown), [])


def _values(bag: Scored, method: str) -> Floats:
    """-inf in a bag that is not shown."""
    return bag.scores[method] if bag.is_shown else np.full(len(bag.positive), -np.inf)


def _slides(test: Sequence[tuple[Scored, Mapping[str, float]]], method: str) -> list[SlideFigures]:
    """As the package's figures take them; there are no lesions, instances stand for themselves.

    Where validation bags gave no threshold, as the model takes all of them for negative, nothing is found.
    """
    slides, nowhere = [], Detections(np.empty(0), np.empty(0))
    for bag, cut in test:
        scores, threshold = _values(bag, method), cut.get(method, np.inf)
        area, precision = tile_figures(bag.positive, scores)
        own = f1(bag.positive, scores >= threshold), best_f1(bag.positive, scores)
        slides.append(SlideFigures(bag.name, bag.is_shown, bag.positive, scores, nowhere, area, precision, threshold, *own))
    return slides
