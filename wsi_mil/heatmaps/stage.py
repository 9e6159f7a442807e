"""Stage `heatmap`: stored scores → the picture over the slide, and files for other viewers. Scores nothing anew."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.annotations import Frame, read_annotation, simplified_rings
from wsi_mil.config import Heatmap, Truth
from wsi_mil.errors import AnnotationError, ConfigError, StoreError
from wsi_mil.files import write_bytes, write_table, write_text
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale
from wsi_mil.heatmaps.gallery import gallery
from wsi_mil.heatmaps.overlay import Picture, draw, require_colormap
from wsi_mil.heatmaps.raster import ome_tiff
from wsi_mil.heatmaps.regions import geojson, plain_numbers
from wsi_mil.heatmaps.slide_scores import Scored, read_scored
from wsi_mil.rasterise import painted
from wsi_mil.receipts import IMPORTED, store_path
from wsi_mil.records import SlideRow
from wsi_mil.store import read_thumbnail
from wsi_mil.tasks import task_of_stamp

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".geojson", ".ome.tif", ".csv", ".tiles.png")
"""Of all files that are written of a method; the first is the picture over the slide."""

MAX_CORNERS = 200_000
"""Of the truth's outlines in a picture; what has more is drawn with fewer."""

GROUND_PX, GROUND_GREY = 1024, 235
"""Longest side and colour of the plain ground that stands for a thumbnail that is gone."""

COLUMNS = ("slide_id", "x", "y", "width", "height", "score", "shown", "role", "protocol")
"""Of the table; x, y, width and height in level-0 pixels, counted from the slide's level 0 whatever the bounds."""


def draw_heatmap(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    method: str,
    settings: Heatmap,
    image: Path,
    *,
    cohort_scale: Path | None = None,
    truth: Truth = Truth(),
) -> None:
    """Draw one method's scores of one slide: `image` (PNG) and beside it `.geojson`, `.ome.tif`, `.csv` and `.tiles.png`.

    Where there is nothing to show, the picture says why, and the files have no tile. The picture is written last, and
    nothing of an earlier run is left beside it. Only the gallery (`.tiles.png`) reads the slide; where that is gone it
    says so.

    Args:
        row: the slide; its path may be gone.
        scores_receipt: of `explain`.
        tiles_receipt: of `tile`; without its store the ground of the picture is plain.
        method: which scores.
        settings: how they are drawn.
        image: where to write.
        cohort_scale: what `heatmap-scale` wrote; needed for scale "cohort" only.
        truth: how the annotation is read, which is outlined.

    Raises:
        StoreMismatchError: scores of another slide or of other tiles.
        ConfigError: no such colour map, or scale "cohort" without `cohort_scale`.
    """
    require_colormap(settings.colormap)
    if settings.scale == "cohort" and cohort_scale is None:
        raise ConfigError(["heatmap.scale: cohort needs the cohort's range; give --cohort-scale, written by heatmap-scale"])
    ranges = read_cohort_scale(cohort_scale) if settings.scale == "cohort" and cohort_scale else {}
    scored = read_scored(row, scores_receipt, tiles_receipt, method, scale=settings.scale, ranges=ranges)
    for suffix in SUFFIXES:
        image.with_suffix(suffix).unlink(missing_ok=True)
    write_text(image.with_suffix(".geojson"), geojson(scored, settings))
    write_bytes(image.with_suffix(".ome.tif"), ome_tiff(scored))
    write_table(image.with_suffix(".csv"), list(COLUMNS), table_rows(scored))
    if settings.gallery:
        write_bytes(image.with_suffix(".tiles.png"), gallery(scored, row, settings, title=title(row, scored.receipt, method)))
    write_bytes(image, draw(picture(scored, row, store_path(tiles_receipt), truth), settings))


def picture(scored: Scored, row: SlideRow, tiles: Path, truth: Truth) -> Picture:
    """What is drawn over the slide; on a plain ground where the store of the tiles, with its thumbnail, is gone."""
    grid, heading = scored.grid, title(row, scored.receipt, scored.method)
    thumbnail, note = ground_of(scored, tiles)
    heading += f" · {note}" if note else ""
    return Picture(
        thumbnail=thumbnail,
        raster=painted(scored.shown.values, grid.coords, box=grid.box, dimensions=grid.dimensions, shape=thumbnail.shape[:2]),
        shown=scored.shown,
        rings=truth_rings(row, Frame.of(scored.tiled), truth, np.array(thumbnail.shape[1::-1]) / grid.dimensions),
        um_per_px=grid.mpp.x * grid.dimensions[0] / thumbnail.shape[1],
        title=heading,
        reason=scored.about["reason"],
    )


def ground_of(scored: Scored, tiles: Path) -> tuple[NDArray[np.uint8], str]:
    """What the scores are drawn over, [height, width, 3] of the whole slide, and what is to be said of it, or "".

    Args:
        scored: scores and their grid.
        tiles: store of the tiles, which holds the slide's thumbnail; where it is gone the ground is plain.
    """
    try:
        return read_thumbnail(tiles), "NO SLIDE FILE: TILES IN GREY" if scored.tiled["reader"] == IMPORTED else ""
    except StoreError as error:
        log.warning("drawn on a plain ground: %s", error)
        return _plain_ground(scored.grid.dimensions), "THUMBNAIL MISSING"


def table_rows(scored: Scored) -> Iterable[tuple[object, ...]]:
    """Rows of the table, of `COLUMNS`, one for each tile that has a score, in the order of the coords."""
    known = np.isfinite(scored.values)
    stamp, box = scored.stamp, scored.grid.box
    scores, shown = plain_numbers(scored.values[known]), plain_numbers(scored.shown.values[known])
    for (x, y), score, seen in zip(scored.grid.coords[known].tolist(), scores, shown, strict=True):
        yield stamp["slide_id"], x, y, *box, score, seen, stamp["role"], stamp["protocol"]


def title(row: SlideRow, receipt: dict[str, Any], method: str) -> str:
    """Slide, method, true label and prediction in a line."""
    label = f"label: {row.label}" if row.label else "no label"
    parts = [row.slide_id, method.replace("_", " "), label]
    if "probs" in receipt:
        parts += task_of_stamp(receipt).title_parts(receipt)
    if receipt["role"] in ("train", "val"):
        parts.append("TRAINING SLIDE" if receipt["role"] == "train" else "VALIDATION SLIDE")
    if receipt["protocol"] == "as_published":
        parts.append("EPOCH AND THRESHOLD CHOSEN ON THE TEST FOLD")
    return " · ".join(parts)


def truth_rings(
    row: SlideRow, frame: Frame, truth: Truth, to_picture: NDArray[np.float64], *, most: int = MAX_CORNERS
) -> list[NDArray[np.float64]]:
    """Outlines of the truth, none where there is no annotation that can be read.

    Args:
        row: the slide.
        frame: of its level 0.
        truth: how the annotation is read.
        to_picture: factors (x, y) from level-0 pixels to those of the picture.
        most: corners of all outlines together; where there are more, they are drawn with fewer.

    Returns:
        `(n, 2)` (x, y) each, in pixels of the picture.
    """
    if row.annotation is None:
        return []
    try:
        return [ring * to_picture for ring in simplified_rings(read_annotation(row.annotation, truth, frame).region, most)]
    except AnnotationError as error:
        log.warning("no truth outline: %s", error)
        return []


def _plain_ground(dimensions: tuple[int, int]) -> NDArray[np.uint8]:
    """Grey [height, width, 3] in the proportions of the slide."""
    width, height = (max(1, round(GROUND_PX * side / max(dimensions))) for side in dimensions)
    return np.full((height, width, 3), GROUND_GREY, np.uint8)
