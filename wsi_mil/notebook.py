"""Slides → bags → model → scores → picture in one process: the stages for notebooks and scripts, without Snakemake.

Nothing is decided here: tiles, features, training and scores are those of the stages, and their files are the same. What
the workflow adds stays its own: folds by patient, intervals, retries, the report.
"""

import glob
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import Encoder, Heatmap, Method, TileSettings, TransMIL, offered, parse_base
from wsi_mil.devices import create_device, fast_dtype
from wsi_mil.encoders.encoder import TileEncoder, create_encoder
from wsi_mil.errors import ConfigError, SlideError
from wsi_mil.explain.registry import PLAIN
from wsi_mil.extract import extract_slide
from wsi_mil.files import write_bytes
from wsi_mil.heatmaps.overlay import Picture, draw
from wsi_mil.heatmaps.scale import shown_scores
from wsi_mil.models import MILModel, create_model
from wsi_mil.rasterise import painted
from wsi_mil.receipts import read_receipt, read_tile_receipt, store_path
from wsi_mil.records import Bag, InstanceScores, SlideRow, Status
from wsi_mil.score_scaling import Meaning
from wsi_mil.store import read_bag, read_grid, read_thumbnail
from wsi_mil.tile import tile_slide
from wsi_mil.train import fit, predict_probabilities


def encoded_slide(
    slide: Path,
    folder: Path,
    *,
    tiling: TileSettings = TileSettings(),
    encoder: Encoder = Encoder(),
    device: str = "auto",
    threads: int = 1,
) -> Bag:
    """Tile and encode a slide; features that are in `folder` already, made in the same way, are taken as they are.

    Args:
        slide: the file; its name without the ending is the slide's id.
        folder: gets `tiles/` and `features/`, receipts and stores as the workflow has them.
        tiling: as the blocks `slide`, `tilings` and `tissue` of a configuration.
        encoder: as an entry of `encoders`.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: tiles read at once.

    Raises:
        SlideError: the slide cannot be read, or has no tissue; says why.
    """
    row, tiles, features = SlideRow(slide.stem, slide), _receipt(folder, "tiles", slide), _receipt(folder, "features", slide)
    tile_slide(row, tiling, tiles, threads=threads)
    where = create_device(device)
    dtype = fast_dtype(encoder.dtype, where)
    name = str(dtype).removeprefix("torch.")
    made = extract_slide(
        tiles, row, encoder, features, dtype=name, encoder=lambda: _encoder(encoder, where, dtype), threads=threads
    )
    if made is not Status.OK:
        raise SlideError(slide, f"{made}: {read_receipt(features)['reason']}")
    return read_bag(features)


def fitted_model(
    train: Sequence[LabelledBag], val: Sequence[LabelledBag], settings: Mapping[str, object], *, n_classes: int = 2
) -> MILModel:
    """Train a model, and keep the epoch that is best on `val`.

    Args:
        train: bags with class indices.
        val: others, of other patients.
        settings: as an entry of `models` that stands on no other: {"model": "abmil"}.
        n_classes: number of classes.

    Raises:
        ConfigError: settings that are none, or no bags.
        DivergedError: the loss is no number any more.
    """
    parsed = parse_base(settings)
    if not train or not val:
        raise ConfigError([f"expected bags to train on and bags to choose the epoch by, got {len(train)} and {len(val)}"])
    if isinstance(parsed, TransMIL):
        parsed = parsed.settled(max(len(item.bag.features) for item in train))
    torch.manual_seed(parsed.train.seed)
    model = create_model(parsed, feature_dim=train[0].bag.features.shape[1], n_classes=n_classes)
    fit(model, BagSet.of(train), BagSet.of(val), parsed.train, n_classes=n_classes)
    return model.eval()


def class_probs(model: MILModel, bag: Bag) -> tuple[float, ...]:
    """Probability of each class."""
    return tuple(predict_probabilities(model, [LabelledBag(bag, 0)])[0].tolist())


def tile_scores(model: MILModel, bag: Bag, method: Method, *, target: int = 1) -> InstanceScores:
    """Score every tile for class `target` by a method that is read off the bag as it is: all but sparse inversion.

    Raises:
        ConfigError: no such method, or the model does not offer it; or there is no such class.
    """
    known = [name for name in PLAIN if offered(name, model.offers)]
    if method not in known:
        raise ConfigError([f"method {method!r}: this model offers {', '.join(known)}"])
    n_classes = len(class_probs(model, bag))
    if not 0 <= target < n_classes:
        raise ConfigError([f"target: expected the index of a class, 0 to {n_classes - 1}, got {target}"])
    return PLAIN[method].scores([model], bag, target)


def draw_scores(
    model: MILModel, bag: Bag, scores: InstanceScores, folder: Path, image: Path, *, settings: Heatmap = Heatmap()
) -> None:
    """Draw scores over the slide (PNG), weighed by its probability of the class they are for, as in the workflow's heatmaps.

    Args:
        model: that gave the scores.
        bag: of `encoded_slide`, or of a run (`read_bag`).
        scores: of `tile_scores`.
        folder: that `encoded_slide` wrote to, or the results folder of a run.
        image: to write.
        settings: as the block `heatmap`.

    Raises:
        ConfigError: the scores are not of this bag, or name no class; or its tiles are not in the folder.
    """
    if scores.target is None or len(scores.values) != len(bag.coords):
        found = f"{len(scores.values)} of class {scores.target}"
        raise ConfigError([f"{bag.slide_id}: expected scores of {len(bag.coords)} tiles for a class, got {found}"])
    tiles, target, probs = _tiles_of(bag, folder), scores.target, class_probs(model, bag)
    tiled, thumbnail, predicted = read_tile_receipt(tiles), read_thumbnail(store_path(tiles)), int(np.argmax(probs)) == target
    about = Meaning(
        scores.unit, scores.zero, scores.comparable_weighed, probs[target], predicted, f"class {target}", len(bag.coords)
    )
    shown = shown_scores(scores.values, about, settings.scale)
    (width, height), (box_width, box_height) = tiled["dimensions"], tiled["tile_px_level0"]
    raster = painted(shown.values, bag.coords, box=(box_width, box_height), dimensions=(width, height), shape=thumbnail.shape[:2])
    title = f"{bag.slide_id} · {scores.method.replace('_', ' ')} · P(class {target}) = {probs[target]:.2f}"
    um_per_px = tiled["mpp"][0] * width / thumbnail.shape[1]
    image.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(image, draw(Picture(thumbnail, raster, shown, [], um_per_px, title, scores.reason), settings))


def _tiles_of(bag: Bag, folder: Path) -> Path:
    """The receipt of `tile` that a bag's tiles are of, in `tiles/` or `tiles/{tiling}/`.

    Raises:
        ConfigError: there is none, or tiles of several sizes lie at the bag's coords.
    """
    name = f"{bag.slide_id}.json"
    there = [path for path in (folder / "tiles" / name, *sorted(folder.glob(f"tiles/*/{glob.escape(name)}"))) if path.is_file()]
    grids = {path: read_grid(store_path(path)) for path in there if read_receipt(path).get("status") == Status.OK}
    fitting = {path: grid for path, grid in grids.items() if _are_within(bag.coords, grid.coords)}
    exact = {path: grid for path, grid in fitting.items() if len(grid.coords) == len(bag.coords)} or fitting
    if len({grid.tile_px_level0 for grid in exact.values()}) == 1:
        return next(iter(exact))
    where = f"in {folder}/tiles or a folder of a tiling in it"
    if not there:
        fault = f"expected {name} {where}, found none: give the folder that encoded_slide wrote to, or the results of a run"
    elif not exact:
        fault = f"the tiles {where} are not those of the bag: was it made with another tiling, or of another slide of this name?"
    else:
        fault = f"tiles of several sizes {where} lie where the bag's do: {', '.join(path.parent.name for path in exact)}"
    raise ConfigError([f"{bag.slide_id}: {fault}"])


def _are_within(coords: NDArray[np.int64], grid: NDArray[np.int64]) -> bool:
    """Whether all are in the grid, which may have more: tiles that could not be read are in no bag."""
    return set(map(tuple, coords.tolist())) <= set(map(tuple, grid.tolist()))


@cache
def _encoder(settings: Encoder, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Built once a process."""
    return create_encoder(settings, device=device, dtype=dtype)


def _receipt(folder: Path, stage: str, slide: Path) -> Path:
    return folder / stage / f"{slide.stem}.json"
