"""Stage `heatmap`: stored scores → the picture over the slide, and its tiles for QuPath. Opens no slide, no model."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.annotations import feature_collection, read_annotation, rings
from wsi_mil.config import Heatmap
from wsi_mil.errors import AnnotationError
from wsi_mil.geometry import painted
from wsi_mil.heatmaps.overlay import Picture, draw
from wsi_mil.heatmaps.scale import shown_scores
from wsi_mil.records import SlideRow
from wsi_mil.store import read_attributes, read_receipt, read_scores, read_thumbnail, store_path, write_bytes, write_text
from wsi_mil.weighing import meaning_of

log = logging.getLogger(__name__)


def draw_heatmap(row: SlideRow, scores_receipt: Path, tiles_receipt: Path, method: str, settings: Heatmap, image: Path) -> None:
    """Draw one method's scores of one slide, and write `image` (PNG) and its `.geojson` beside it.

    Where there is nothing to show, the picture says why, and the GeoJSON has no tile.
    """
    receipt, tiles = read_receipt(scores_receipt), store_path(tiles_receipt)
    about = receipt["methods"][method]
    coords, values = read_scores(store_path(scores_receipt), method)
    shown = shown_scores(values, meaning_of(receipt, method), settings.scale)
    thumbnail, dimensions = read_thumbnail(tiles), _pair(read_attributes(tiles)["dimensions"])
    box = _pair(receipt["tile_px_level0"])
    picture = Picture(
        thumbnail=thumbnail,
        raster=painted(shown.values, coords, box=box, dimensions=dimensions, shape=thumbnail.shape[:2]),
        shown=shown,
        rings=_truth_rings(row, np.array(thumbnail.shape[1::-1]) / dimensions),
        um_per_px=receipt["slide_mpp"][0] * dimensions[0] / thumbnail.shape[1],
        title=title(row, receipt, method),
        reason=about["reason"],
    )
    write_bytes(image, draw(picture, settings))
    stamp = {"method": method, "role": receipt["role"] or "new", "protocol": receipt["protocol"]}
    write_text(image.with_suffix(".geojson"), _tiles_geojson(coords, values, box, stamp))


def title(row: SlideRow, receipt: dict[str, Any], method: str) -> str:
    """Slide, method, true label and prediction in a line."""
    label = f"label: {row.label}" if row.label else "no label"
    parts = [row.slide_id, method.replace("_", " "), label]
    if "probs" in receipt:
        target = receipt["target"]
        parts.append(f"predicted: {receipt['classes'][receipt['predicted']]}")
        parts.append(f"P({receipt['classes'][target]}) = {receipt['probs'][target]:.2f}")
        parts += ["threshold {:.2f}".format(receipt["threshold"])] if receipt["threshold"] is not None else []
    if receipt["role"] in ("train", "val"):
        parts.append("TRAINING SLIDE" if receipt["role"] == "train" else "VALIDATION SLIDE")
    if receipt["protocol"] == "as_published":
        parts.append("EPOCH AND THRESHOLD CHOSEN ON THE TEST FOLD")
    return " · ".join(parts)


def _truth_rings(row: SlideRow, to_thumbnail: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    if row.annotation is None:
        return []
    try:
        return [ring * to_thumbnail for ring in rings(read_annotation(row.annotation))]
    except AnnotationError as error:
        log.warning("no truth outline: %s", error)
        return []


def _tiles_geojson(coords: NDArray[np.int64], values: NDArray[np.float32], box: tuple[int, int], stamp: dict[str, str]) -> str:
    known = np.isfinite(values)
    low = coords[known]
    high = low + np.asarray(box)
    squares = list(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))
    about: list[dict[str, object]] = [
        {"objectType": "tile", "measurements": {stamp["method"]: float(v)}, "metadata": stamp} for v in values[known]
    ]
    return feature_collection(squares, about)


def _pair(values: list[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
