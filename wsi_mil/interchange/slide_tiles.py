"""What the results know of a slide's tiles beside their features: scores, share of tissue, patient and labels, thumbnail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import further_label, method_of
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.interchange.tile_features import Scale
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.results import Results
from wsi_mil.store import FeatureRows, read_attributes, read_grid, read_scores, read_thumbnail
from wsi_mil.tasks import all_explained, task_of_stamp


@dataclass(frozen=True)
class TileScores:
    """Scores of a slide's tiles, as they are stored.

    Attributes:
        values: float32 `(n,)` by name of their column.
        about: for each column its method, the class, label or number that it explains, unit and kind.
        explained: what the prediction asks to be explained first.
        role: role of the slide for the models: test, val, train, or new.
        empty: why there are no values, by name of the column, or of the method if there is no column.
    """

    values: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    explained: str = ""
    role: str = ""
    empty: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideTiles:
    """The valid tiles of a slide. Their features stay on disk.

    Attributes:
        features: features and coords.
        scale: size and place of the tiles; size of tile and slide_mpp are known.
        encoder: name of the encoder.
        weights_hash: hash of its weights.
        tissue_fraction: float32 `(n,)` share of tissue; None if it is not stored.
        scores: of a model.
        patient_id: patient of the slide, or "".
        labels: labels of the slide, by target.
        tiled: store of `tile`, or None.
    """

    features: FeatureRows
    scale: Scale
    encoder: str
    weights_hash: str
    tissue_fraction: NDArray[np.float32] | None
    scores: TileScores
    patient_id: str
    labels: Mapping[str, str]
    tiled: Path | None

    @property
    def slide_id(self) -> str:
        """Return the id of the slide."""
        return self.features.slide_id

    @property
    def size(self) -> NDArray[np.int64]:
        """Return (width, height) of a tile, level-0 pixels."""
        return np.array(self.scale.tile_px_level0, np.int64)

    @property
    def mpp(self) -> NDArray[np.float64]:
        """Return the µm per pixel of level 0, (x, y)."""
        assert self.scale.slide_mpp is not None
        return np.array((self.scale.slide_mpp.x, self.scale.slide_mpp.y))

    @property
    def centres(self) -> NDArray[np.float64]:
        """Return the middle of each tile, `(n, 2)`, (x, y), level-0 pixels."""
        return self.features.coords + self.size / 2

    def thumbnail(self) -> NDArray[np.uint8] | None:
        """Read the thumbnail of the whole slide [height, width, 3]; None if there is none, or the slide's size is unknown."""
        if self.tiled is None or self.scale.dimensions is None:
            return None
        try:
            return read_thumbnail(self.tiled)
        except StoreError:
            return None


def known_labels(features: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Return patient and labels by target of each slide that has a label, from the splits beside a folder of features.

    Args:
        features: folder of an encoder entry in a results folder.
    """
    results = Results(features.parent.parent)
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for target in results.targets:
        path = results.target(target).splits
        if not path.is_file():
            continue
        splits = read_splits(path)
        for slide_id, label in splits.labels.items():
            found.setdefault(slide_id, (splits.patients[slide_id], {}))[1][target] = label
    return found


def tissue_fraction(features: FeatureRows, tiled: Path | None) -> NDArray[np.float32] | None:
    """Return the share of tissue of each valid tile, from the store of `tile` with the same tiles; None if there is none."""
    return None if tiled is None else read_grid(tiled).tissue_fraction[features.rows]


def require_scores(folder: Path) -> None:
    """Raise ConfigError if a folder has no receipts of `explain`."""
    if not any(folder.glob("[!.]*.json")):
        expected = "expected the folder of a model, results/scores/TARGET/ENCODER/MODEL"
        raise ConfigError([f"--scores {folder}: {expected}, found no scores in it"])


def scores_of(folder: Path, features: FeatureRows) -> TileScores:
    """Read the scores of a slide's tiles by each method.

    Args:
        folder: folder with the receipts of `explain`.
        features: the tiles.

    Raises:
        StoreError: the slide has no scores, they are unreadable, or they are of other tiles.
    """
    receipt = folder / f"{features.slide_id}.json"
    if not receipt.is_file():
        raise StoreError(receipt, "has no scores of the slide; run `explain` for it")
    content, attributes = read_receipt(receipt), read_attributes(store_path(features.receipt))
    methods: dict[str, dict[str, Any]] = content["methods"]
    empty = {method: about["reason"] for method, about in methods.items() if about["reason"]}
    if "output" not in content:
        return TileScores(role=content["role"], empty=empty)
    task = task_of_stamp(content)
    explained = task.output_name(content["output"])
    outputs = {method: further_label(method) or explained for method in methods}
    names = _columns(outputs, explained if len(all_explained(task)) == 1 else "")
    values = {}
    for method, name in names.items():
        coords, values[name] = read_scores(store_path(receipt), method)
        if content["tiles"]["slide_hash"] != attributes["slide_hash"] or not np.array_equal(coords, features.coords):
            raise StoreError(receipt, "has scores of other tiles than those of the features; run `explain` for it")
    about = {name: _about(method, outputs[method], methods[method]) for method, name in names.items()}
    return TileScores(values, about, explained, content["role"] or "new", {names[method]: empty[method] for method in empty})


def _about(method: str, output: str, content: Mapping[str, Any]) -> dict[str, str]:
    return {"method": method_of(method), "output": output, "unit": content["unit"], "kind": content["kind"]}


def _columns(outputs: Mapping[str, str], usual: str) -> dict[str, str]:
    """Name of the column of each method, with its output unless that is the usual one of all slides.

    SpatialData allows letters, digits and "_.-", and no names that differ in case alone.
    """
    names: dict[str, str] = {}
    for method, output in outputs.items():
        plain = method_of(method) + (f".{re.sub(r'[^A-Za-z0-9_.-]', '_', output)}" if output != usual else "")
        taken = {name.lower() for name in names.values()}
        further = (f"{plain}_{number}" for number in range(2, len(outputs) + 2))
        names[method] = plain if plain.lower() not in taken else next(name for name in further if name.lower() not in taken)
    return names
