#!/usr/bin/env python3
"""Compare explanation methods with the labels of instances: bags of digits, and nuclei of colon images.

    python benchmarks/instances.py --data DATA --out OUT [--only mnist colon] [--seeds 0 1 2] [--models abmil transmil …]
    python benchmarks/explanations.py OUT/mnist OUT/colon
    python benchmarks/instances.py --tiny

DATA has the folders mnist/ and colon/ of the papers' experiments. Features are those of the frozen default encoder, models
have the package's default training. A digit is positive if it is a nine, a nucleus if it is epithelial. Every method scores
every held-out positive bag; figures are written in the format of `evaluate`, with the AUROC of bags as metrics, and what is
there already is not made again. `--tiny` takes scikit-learn's digits of 8 × 8 pixels. The last line is JSON: mean AUROC of
instances.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.papers.colon import read_colon
from benchmarks.papers.mnist_bags import TARGET, MnistBags, draw_bags
from benchmarks.trained import TASK, Recipe, trained
from wsi_mil.bags import LabelledBag, bag_tensor, stored_tensor
from wsi_mil.config import Encoder, SparseInversion, supports
from wsi_mil.encoders.encoder import create_encoder
from wsi_mil.evaluate.localisation import tile_figures
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.sparse_inversion import read_off, refine, shrunk
from wsi_mil.metrics import auroc
from wsi_mil.models import MILModel
from wsi_mil.records import Bag
from wsi_mil.train import predict_outputs

MODELS: dict[str, dict[str, object]] = {
    "abmil": {"model": "abmil"},
    "clam": {"model": "clam"},
    "dsmil": {"model": "dsmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim_abmil": {"model": "mhim", "base": "abmil"},
    "mhim_transmil": {"model": "mhim", "base": "transmil"},
}
CPU = torch.device("cpu")
LEFT_OUT = ("jacobian_map", "class_activation")
"""Methods that score as others do, or are of one model only."""
MNIST_DIGITS, MNIST_BAGS = {"train": 8000, "val": 2000, "test": 4000}, {"train": 400, "val": 50, "test": 200}
FOLDS = 5


@dataclass(frozen=True)
class Labelled:
    """A bag, its label, and which of its instances are positive, bool `(n,)`."""

    item: LabelledBag
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """Bags to fit on, to select the epoch by, and to explain."""

    train: Sequence[Labelled]
    val: Sequence[Labelled]
    test: Sequence[Labelled]


def labelled(name: str, features: NDArray[np.float16], positive: NDArray[np.bool_]) -> Labelled:
    """Return a bag that is positive if an instance is."""
    coords = np.stack([np.arange(len(features)) % 20, np.arange(len(features)) // 20], axis=1).astype(np.int64)
    return Labelled(LabelledBag(Bag(name, features, coords), int(positive.any())), positive)


def bags_of_digits(name: str, features: NDArray[np.float16], digits: NDArray[np.int64], n: int, seed: int) -> list[Labelled]:
    """Draw bags of ten digits on average, every second one with a nine."""
    rows = draw_bags(digits, n, mean=10, spread=2, rng=np.random.default_rng(seed))
    return [labelled(f"{name}{at}", features[of], digits[of] == TARGET) for at, of in enumerate(rows)]


def small_digits() -> list[Fold]:
    """Return bags of scikit-learn's digits, whose features are their pixels."""
    data = load_digits()
    features, digits = data.data.astype(np.float16) / 16, data.target.astype(np.int64)
    parts = {"train": (slice(0, 900), 40), "val": (slice(900, 1200), 12), "test": (slice(1200, None), 8)}
    bags = [bags_of_digits(name, features[at], digits[at], n, 0) for name, (at, n) in parts.items()]
    return [Fold(*bags)]


def mnist(data: Path, cache: Path) -> list[Fold]:
    """Return MNIST-bags with one fixed test part."""
    source = MnistBags.read(data / "mnist")
    bags = []
    for seed, (part, n) in enumerate(MNIST_DIGITS.items()):
        digits = getattr(source, part).part(slice(n))
        features = encoded(cache / f"mnist-{part}.npy", lambda images=digits.images: np.repeat(images[..., None], 3, axis=3))
        bags.append(bags_of_digits(part, features, digits.labels, MNIST_BAGS[part], seed))
    return [Fold(*bags)]


def colon(data: Path, cache: Path) -> list[Fold]:
    """Return the colon images as bags of their nuclei, in five folds of which the next one selects the epoch."""
    images = read_colon(data / "colon")
    features = encoded(cache / "colon.npy", lambda: np.concatenate([image.patches for image in images]))
    ends = np.cumsum([len(image.positive) for image in images])
    bags = [labelled(image.name, of, image.positive) for image, of in zip(images, np.split(features, ends[:-1]), strict=True)]
    labels = [bag.item.label for bag in bags]
    parts = [rows for _, rows in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)]
    folds = []
    for number in range(FOLDS):
        test, val = parts[number], parts[(number + 1) % FOLDS]
        train = np.setdiff1d(np.arange(len(bags)), [*test, *val])
        folds.append(Fold(*([bags[row] for row in rows] for rows in (train, val, test))))
    return folds


def encoded(path: Path, images: Callable[[], NDArray[np.uint8]]) -> NDArray[np.float16]:
    """Return the default encoder's features of images `(n, side, side, 3)`, kept in a file."""
    if not path.exists():
        encoder = create_encoder(Encoder(), device=CPU, dtype=torch.float32)
        tiles = images()
        features = np.concatenate([encoder.encode(tiles[at : at + 64]) for at in range(0, len(tiles), 64)])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, features)
    return np.load(path)


def all_scores(model: MILModel, bag: Bag) -> dict[str, NDArray[np.float64]]:
    """Return the scores of a bag's instances by every method, and by the control of sparse inversion."""
    tensor = bag_tensor(bag, model)
    names = [name for name in METHODS if supports(model.provides, name) and name not in LEFT_OUT]
    scores = {name: METHODS[name].of_model(model, tensor, 1).scores for name in names}
    stored, settings = stored_tensor(bag, model), SparseInversion()
    result = refine(model, stored, 1, settings, threshold=0.0)
    if not result.refused:
        reading = METHODS[read_off(model, settings.score)]
        control = shrunk(stored, settings.penalty, len(result.pull))
        scores["sparse_inversion"] = reading.of_model(model, result.bag, 1).scores
        scores["sparse_inversion_control"] = reading.of_model(model, control, 1).scores
    return {name: np.asarray(values, np.float64) for name, values in scores.items()}


def measure(name: str, folds: Sequence[Fold], seed: int, recipe: Recipe) -> tuple[list[list[object]], float]:
    """Return rows of a table as `evaluate` writes it, and the AUROC of held-out bags."""
    rows: list[list[object]] = []
    truth: list[int] = []
    outputs: list[NDArray[np.float64]] = []
    for fold in folds:
        model = trained(name, recipe, ([bag.item for bag in fold.train], [bag.item for bag in fold.val]), seed)
        truth += [bag.item.label for bag in fold.test]
        outputs.append(predict_outputs(model, [bag.item for bag in fold.test], TASK))
        for bag in fold.test:
            if bag.positive.any() and not bag.positive.all():
                own, n_true, n = bag.item.bag.slide_id, int(bag.positive.sum()), len(bag.positive)
                figures = {method: tile_figures(bag.positive, s) for method, s in all_scores(model, bag.item.bag).items()}
                rows += [[own, own, method, f"{u:.6f}", f"{p:.6f}", n_true, n] for method, (u, p) in figures.items()]
    return rows, auroc(np.array(truth), np.concatenate(outputs))


def write(out: Path, entry: str, rows: list[list[object]], of_bags: float) -> None:
    """Write figures where benchmarks/explanations.py looks for them."""
    table, metrics = out / "explanations/label/lite0" / f"{entry}.csv", out / "metrics/label/lite0" / f"{entry}.json"
    for path in (table, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps({"auroc": of_bags}))
    with table.open("w", newline="") as file:
        head = ["slide_id", "patient_id", "method", "tile_auroc", "tile_auprc", "n_true", "n"]
        csv.writer(file).writerows([head, *rows])


def run(args: argparse.Namespace, out: Path) -> dict[str, float]:
    """Measure what is not measured yet; return mean AUROC of instances by cohort, model and method."""
    cohorts: dict[str, Callable[[], list[Fold]]] = {
        "mnist": lambda: mnist(args.data, out / "features"),
        "colon": lambda: colon(args.data, out / "features"),
    }
    if args.tiny:
        cohorts = {"digits": small_digits}
    recipe = Recipe(MODELS, of_all={"updates": None, "epochs": 2, "min_epochs": 1} if args.tiny else {})
    for cohort in cohorts if args.tiny else args.only:
        folds = cohorts[cohort]()
        for seed in args.seeds:
            for name in args.models:
                if not (out / cohort / "explanations/label/lite0" / f"{name}_{seed}.csv").exists():
                    rows, of_bags = measure(name, folds, seed, recipe)
                    write(out / cohort, f"{name}_{seed}", rows, of_bags)
                    print(f"{cohort}, {name}, seed {seed}: AUROC of bags {of_bags:.3f}", flush=True)
    return means(out)


def means(out: Path) -> dict[str, float]:
    """Return the mean AUROC of instances by cohort, entry and method."""
    found: dict[str, list[float]] = {}
    for path in sorted(out.glob("*/explanations/*/*/*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = f"{path.relative_to(out).parts[0]} {path.stem} {row['method']}"
                found.setdefault(key, []).append(float(row["tile_auroc"]))
    return {key: round(float(np.mean(values)), 4) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist/ and colon/")
    parser.add_argument("--out", type=Path, help="folder for features and figures")
    parser.add_argument("--only", nargs="+", choices=("mnist", "colon"), default=["mnist", "colon"], help="cohorts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of trainings")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS], help="models to train")
    parser.add_argument("--tiny", action="store_true", help="a few small digits and one seed: tests that the benchmark runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.tiny:
        args.seeds = [0]
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(args, Path(folder))))
        return
    if not args.data or not args.out:
        parser.error("--data and --out are required")
    print(json.dumps(run(args, args.out)))


if __name__ == "__main__":
    main()
