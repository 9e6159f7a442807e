"""Slides → bags → model → scores → picture in one process: the stages for notebooks and scripts, without Snakemake.

Tiles, features, training and scores are those of the stages, and so are the files that are written. Folds by patient,
confidence intervals, retries and the report exist only in the workflow.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import BagSet, LabelledBag, finite_logits
from wsi_mil.config import (
    BaseModelSettings,
    Covariates,
    Encoder,
    Heatmap,
    LinearTraining,
    Method,
    TileSettings,
    TransMIL,
    parse_base,
    parse_settings,
    supports,
)
from wsi_mil.covariates import Cells, Coding
from wsi_mil.devices import create_device, fast_dtype
from wsi_mil.encoders.encoder import TileEncoder, create_encoder
from wsi_mil.errors import ConfigError, SlideError
from wsi_mil.explain.registry import METHODS
from wsi_mil.extract import extract_slide
from wsi_mil.files import write_bytes
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.overlay import Backdrop, Picture, draw, panel
from wsi_mil.heatmaps.scale import score_display
from wsi_mil.heatmaps.scale_bar import scale_bar
from wsi_mil.models import ClassOutputs, Clinical, MILModel, create_model, outputs_of
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import read_receipt, read_tile_receipt, store_path
from wsi_mil.records import Bag, InstanceScores, SlideRow, Status
from wsi_mil.score_scaling import ScoreContext
from wsi_mil.store import read_bag, read_grid, read_thumbnail
from wsi_mil.tasks import Classes, Task
from wsi_mil.tile import tile_slide
from wsi_mil.train import fit, predict_outputs
from wsi_mil.train.covariates import CodedBags, fit_covariates
from wsi_mil.wording import named


def encoded_slide(
    slide: Path,
    folder: Path,
    *,
    tiling: TileSettings = TileSettings(),
    encoder: Encoder = Encoder(),
    device: str = "auto",
    threads: int = 1,
) -> Bag:
    """Tile and encode a slide, or read its features where `folder` has them from the same file and settings.

    Args:
        slide: slide file; its name without the suffix is the slide's id.
        folder: gets `tiles/` and `features/` with receipts and stores, as the workflow writes them.
        tiling: settings of the blocks `slide`, `tilings` and `tissue` of a configuration.
        encoder: settings of an entry of `encoders`.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: number of threads that read tiles.

    Returns:
        Features float16 `(n, d)`, and coords int64 `(n, 2)`: (x, y) of tiles in level-0 pixels.

    Raises:
        SlideError: the slide cannot be read, or has no tissue; the message gives the reason.
    """
    row = SlideRow(slide.stem, slide)
    tiles = _receipt(folder, "tiles", slide)
    features = _receipt(folder, "features", slide)
    tile_slide(row, tiling, tiles, threads=threads)
    torch_device = create_device(device)
    dtype = fast_dtype(encoder.dtype, torch_device)
    name = str(dtype).removeprefix("torch.")
    status = extract_slide(
        tiles, row, encoder, features, dtype=name, encoder=lambda: _encoder(encoder, torch_device, dtype), threads=threads
    )
    if status is not Status.OK:
        raise SlideError(slide, f"{status}: {read_receipt(features)['reason']}")
    return read_bag(features)


@dataclass(frozen=True)
class FittedModel:
    """A trained model with its task, which has the constants of the training bags.

    Attributes:
        model: in eval mode.
        task: what it was trained for.
    """

    model: MILModel
    task: Task

    def outputs(self, bag: Bag) -> tuple[float, ...]:
        """Return the prediction of a bag.

        Of classes and labels: their probabilities. Of a regression: the value in its unit, and standardised. Of survival: the
        log hazard ratio against the mean of the training patients, the cut-off between risk groups, and the probability of no
        event until each of the task's `horizons`.

        Raises:
            NotFiniteError: the features or the logits are not finite.
        """
        return tuple(self.task.outputs(finite_logits(self.model, bag))[0].tolist())


def fitted_model(
    train: Sequence[LabelledBag], val: Sequence[LabelledBag], settings: Mapping[str, object], *, n_classes: int = 2
) -> MILModel:
    """Train a new model of classes, and keep the epoch that is best on `val`.

    Args:
        train: bags with class indices.
        val: validation bags, of other patients.
        settings: an entry of `models` other than `mhim`: {"model": "abmil"}.
        n_classes: number of classes.

    Returns:
        The model in eval mode.

    Raises:
        ConfigError: wrong settings, or no bags.
        DivergedError: the loss is not finite.
    """
    return fitted_for(train, val, settings, Classes.numbered(n_classes)).model


def fitted_for(
    train: Sequence[LabelledBag],
    val: Sequence[LabelledBag],
    settings: Mapping[str, object],
    task: Task,
    *,
    covariates: Mapping[str, object] | None = None,
) -> FittedModel:
    """Train a new model for a task of any kind, and keep the epoch that is best on `val`; each bag is of another patient.

    Args:
        train: bags with labels: a class index; 1, 0 or NaN for each label; a number; or time and event, 1 or 0.
        val: validation bags, of other patients.
        settings: an entry of `models` other than `mhim`: {"model": "abmil"}.
        task: `Classes`, `Multilabel`, `Regression` or `Survival`.
        covariates: for `clinical` and models with `covariates: True`, which of `Bag.covariates` are numbers and which categories:
            {"numbers": ["age"], "categories": ["sex"]}.

    Returns:
        The model, and the task with the constants of the training bags.

    Raises:
        ConfigError: wrong settings, no bags, a model that cannot learn the kind of task, or covariates that are missing.
        DivergedError: the loss is not finite.
    """
    parsed = parse_base(settings)
    known = parse_settings(Covariates, covariates, where="covariates.") if covariates is not None else None
    if not train or not val:
        raise ConfigError([f"expected bags to train on and bags to choose the epoch by, got {len(train)} and {len(val)}"])
    if task.kind not in parsed.learns:
        raise ConfigError([f"model {parsed.model} learns {', '.join(parsed.learns)}, not {task.kind}"])
    if isinstance(parsed, TransMIL):
        parsed = parsed.settled(max(len(item.bag.features) for item in train))
    bags = BagSet.of(train)
    task = task.resolved(bags.truth).fitted(bags.truth)
    if not isinstance(parsed.train, LinearTraining):
        torch.manual_seed(parsed.train.seed)
    coding = _coding(train, val, parsed, known)
    model = _new_model(parsed, train[0].bag, task, coding)
    if isinstance(model, Clinical) and isinstance(parsed.train, LinearTraining) and coding is not None:
        coded = [CodedBags(coding.design(_cells(part)), BagSet.of(part).truth) for part in (train, val)]
        fit_covariates(model, coded[0], coded[1], parsed.train, task)
    else:
        fit(model, bags, BagSet.of(val), parsed.train, task=task)
    if task.is_judged_on_training:
        task = task.calibrated(predict_outputs(model, bags, task), bags.truth)
        weights = model.state_dict()
        model = _new_model(parsed, train[0].bag, task, coding)
        model.load_state_dict(weights)
    return FittedModel(model.eval(), task)


def _coding(
    train: Sequence[LabelledBag], val: Sequence[LabelledBag], settings: BaseModelSettings, known: Covariates | None
) -> Coding | None:
    """Coding of the covariates of the bags, if the model uses them.

    Raises:
        ConfigError: it uses some and there are none, or the other way round.
    """
    if settings.uses_covariates != (known is not None):
        fault = "needs covariates, such as covariates={'numbers': ['age']}" if known is None else "uses no covariates"
        raise ConfigError([f"model {settings.model} {fault}"])
    if known is None:
        return None
    without = [item.bag.slide_id for item in (*train, *val) if item.bag.covariates is None]
    if without:
        raise ConfigError([f"expected bags with covariates, but Bag.covariates of {named(without)} is None"])
    try:
        return Coding.fitted(known, _cells(train))
    except ValueError as error:
        raise ConfigError([f"covariates: {error}"]) from error


def _cells(bags: Sequence[LabelledBag]) -> list[Cells]:
    return [item.bag.covariates or {} for item in bags]


def _new_model(settings: BaseModelSettings, bag: Bag, task: Task, coding: Coding | None) -> MILModel:
    model = create_model(settings, feature_dim=bag.features.shape[1], outputs=outputs_of(task))
    return model if coding is None else model.take_covariates(coding)


def class_probs(model: MILModel, bag: Bag) -> tuple[float, ...]:
    """Return the probability of each class."""
    with torch.inference_mode():
        return tuple(Classes.numbered(2).outputs(finite_logits(model, bag))[0].tolist())


def tile_scores(model: MILModel, bag: Bag, method: Method, *, output: int | None = None) -> InstanceScores:
    """Score every tile for the class or label of index `output`, by any method except sparse inversion (see `refine`).

    Of a number or a risk there is only output 0.

    Raises:
        ConfigError: an unknown method or one that the model does not support, or an unknown output.
    """
    known = [name for name in METHODS if supports(model.provides, name)]
    if method not in known:
        raise ConfigError([f"method {method!r}: this model supports {', '.join(known)}"])
    last = model.outputs.n_explained - 1
    output = min(1, last) if output is None else output
    if not 0 <= output <= last:
        raise ConfigError([f"output: expected the index of a class, label or number, 0 to {last}, got {output}"])
    return METHODS[method].scores([model.at(bag.covariates)], bag, output)


def draw_scores(
    model: MILModel, bag: Bag, scores: InstanceScores, folder: Path, image: Path, *, settings: Heatmap = Heatmap()
) -> None:
    """Draw a heatmap (PNG) of scores, weighted by the slide's probability where there is one, as the workflow does.

    Args:
        model: the model of the scores.
        bag: a bag of `encoded_slide`, or of a run (`read_bag`).
        scores: scores of `tile_scores`.
        folder: folder of `encoded_slide`, or results folder of a run.
        image: file to write.
        settings: settings of the block `heatmap`.

    Raises:
        ConfigError: scores of another bag or of no class, or tiles that are not in the folder.
    """
    if scores.output is None or len(scores.values) != len(bag.coords):
        received = f"{len(scores.values)} of class {scores.output}"
        raise ConfigError([f"{bag.slide_id}: expected scores of {len(bag.coords)} tiles for a class, got {received}"])
    prob, is_predicted, name = _shown(model, bag, scores.output)
    receipt = _tiles_of(bag, folder)
    metadata = read_tile_receipt(receipt)
    slide_image = panel(read_thumbnail(store_path(receipt)))
    quantity = "" if prob is not None else "what the model predicts"
    context = ScoreContext(
        scores.unit, scores.zero, scores.comparable_weighted, prob, is_predicted, name, len(bag.coords), quantity
    )
    display = score_display(scores.values, context, settings.scale)
    width, height = metadata["dimensions"]
    box_width, box_height = metadata["tile_px_level0"]
    box, dimensions = (box_width, box_height), (width, height)
    raster = tile_raster(display.values, bag.coords, box=box, dimensions=dimensions, shape=slide_image.shape[:2])
    shown = "" if prob is None else f" · P({name}) = {prob:.2f}"
    title = f"{bag.slide_id} · {scores.method.replace('_', ' ')}{shown}"
    bar = scale_bar(dimensions, Mpp(*metadata["mpp"]))
    image.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(image, draw(Picture(Backdrop(slide_image, [], bar), raster, display, title, scores.reason), settings))


def _shown(model: MILModel, bag: Bag, output: int) -> tuple[float | None, bool, str]:
    """Probability of an output if it has one, whether the bag is predicted as it, and its name."""
    if not model.outputs.are_probabilities:
        return None, True, "what the model predicts"
    logits = finite_logits(model, bag)[0].double()
    prob = float(model.outputs.probability(logits, output))
    if isinstance(model.outputs, ClassOutputs):
        return prob, int(logits.argmax()) == output, f"class {output}"
    return prob, prob >= 0.5, f"label {output}"


def _tiles_of(bag: Bag, folder: Path) -> Path:
    """Return the receipt of `tile` for the tiles of a bag, in `tiles/` or `tiles/{tiling}/`.

    Raises:
        ConfigError: no such receipt, or tilings of several tile sizes that all have the bag's coords.
    """
    name = f"{bag.slide_id}.json"
    receipts = [
        path for path in (folder / "tiles" / name, *sorted(folder.glob(f"tiles/*/{glob.escape(name)}"))) if path.is_file()
    ]
    grids = {path: read_grid(store_path(path)) for path in receipts if read_receipt(path).get("status") == Status.OK}
    supersets = {path: grid for path, grid in grids.items() if _are_within(bag.coords, grid.coords)}
    matches = {path: grid for path, grid in supersets.items() if len(grid.coords) == len(bag.coords)} or supersets
    if len({grid.tile_px_level0 for grid in matches.values()}) == 1:
        return next(iter(matches))
    place = f"in {folder}/tiles or a folder of a tiling in it"
    if not receipts:
        fault = f"expected {name} {place}, found none; give the folder of encoded_slide, or the results folder of a run"
    elif not matches:
        fault = f"the tiles {place} are not those of the bag; give the folder of the tiling and slide that the bag was made from"
    else:
        names = ", ".join(path.parent.name for path in matches)
        fault = f"tilings {place} have the bag's tiles in several sizes: {names}; give a folder that has one of them"
    raise ConfigError([f"{bag.slide_id}: {fault}"])


def _are_within(coords: NDArray[np.int64], grid: NDArray[np.int64]) -> bool:
    """Whether all coords are in the grid; the grid may have more, since tiles that could not be read are in no bag."""
    return set(map(tuple, coords.tolist())) <= set(map(tuple, grid.tolist()))


@cache
def _encoder(settings: Encoder, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Create an encoder, once a process."""
    return create_encoder(settings, device=device, dtype=dtype)


def _receipt(folder: Path, stage: str, slide: Path) -> Path:
    return folder / stage / f"{slide.stem}.json"
