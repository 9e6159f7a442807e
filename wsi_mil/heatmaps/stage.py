"""Stage `heatmap`: draw stored scores over the slide, and write files for other viewers. Computes no scores."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.annotations import Frame, read_annotation, simplified_rings
from wsi_mil.config import Heatmap, Truth, method_of
from wsi_mil.errors import AnnotationError, ConfigError, StoreError
from wsi_mil.files import write_bytes, write_table, write_text
from wsi_mil.heatmaps.cohort_scale import CohortFiles, read_cohort_scale
from wsi_mil.heatmaps.colour_maps import require_colormap
from wsi_mil.heatmaps.gallery import gallery, read_gallery_tiles
from wsi_mil.heatmaps.overlay import Backdrop, Picture, draw, panel
from wsi_mil.heatmaps.raster import ome_tiff
from wsi_mil.heatmaps.regions import geojson, plain_numbers
from wsi_mil.heatmaps.scale_bar import scale_bar
from wsi_mil.heatmaps.slide_scores import Ranges, SlideScores, names_of, read_scores_by_method, trusted
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import IMPORTED, read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.store import read_thumbnail
from wsi_mil.tasks import task_of_stamp
from wsi_mil.tasks.shown import explained_label
from wsi_mil.trust import read_trust
from wsi_mil.wording import method_title

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".geojson", ".ome.tif", ".csv", ".tiles.png")
"""Suffixes of the files written for a method; the first is the picture."""

RASTER = ".ome.tif"
"""Suffix of the file that has all outputs of a method, each in a channel; scores of further outputs have none of their own."""

MAX_CORNERS = 200_000
"""Upper limit on the corners of annotation outlines in a picture; outlines with more are simplified."""

PLAIN_PX, PLAIN_GREY = 1024, 235
"""Longest side and grey value of the plain image that replaces a missing thumbnail."""

COLUMNS = ("slide_id", "x", "y", "width", "height", "score", "shown", "role", "protocol", "output")
"""Columns of the table; x, y, width and height in pixels of level 0, whatever the bounds of the scanned area."""


def draw_heatmaps(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    names: Sequence[str],
    settings: Heatmap,
    folder: Path,
    *,
    cohort: CohortFiles = CohortFiles(),
    truth: Truth = Truth(),
) -> None:
    """Draw the scores of one slide by several methods: `folder/{name}.png`, and the other files beside it (`SUFFIXES`).

    What the methods have in common (receipts, thumbnail, annotation, tiles of the slide file) is read once. If there is
    nothing to show, the picture gives the reason, and the other files contain no tiles. Files of an earlier run are removed
    first, and the picture of each method is written last. Only the gallery (`.tiles.png`) reads the slide file; if that is
    missing, the gallery says so.

    Args:
        row: the slide; its file may be missing.
        scores_receipt: receipt of `explain`.
        tiles_receipt: receipt of `tile`; without its store the scores are drawn on a plain image.
        names: names of scores: methods, and `{method}@{output}` of further outputs.
        settings: settings of `heatmap`.
        folder: folder of the files.
        cohort: files about the whole cohort; `scale` is needed only for scale "cohort".
        truth: settings of `truth`, for the outlines of the annotation.

    Raises:
        StoreMismatchError: scores of another slide or of other tiles.
        StoreError: there are no scores of one of the methods.
        ConfigError: matplotlib has no such colour map, or scale "cohort" without its file.
    """
    images = {name: folder / f"{name}{SUFFIXES[0]}" for name in names}
    ranges, trust = _ranges(settings, cohort.scale), read_trust(cohort.trust)
    receipt = read_receipt(scores_receipt)
    outputs = {name: names_of(receipt, [name]) for name in names}
    needed = list(dict.fromkeys(name for own in outputs.values() for name in own))
    scores = read_scores_by_method(row, scores_receipt, tiles_receipt, needed, scale=settings.scale, ranges=ranges)
    scores = trusted(scores, trust)
    drawings = {images[name]: [scores[own] for own in outputs[name]] for name in names}
    _draw_all(row, drawings, store_path(tiles_receipt), settings, truth)


def draw_heatmap(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    method: str,
    settings: Heatmap,
    image: Path,
    *,
    cohort: CohortFiles = CohortFiles(),
    truth: Truth = Truth(),
) -> None:
    """Draw the scores of one slide by one method, as `draw_heatmaps`, under another name: `image` (PNG)."""
    ranges, trust = _ranges(settings, cohort.scale), read_trust(cohort.trust)
    names = names_of(read_receipt(scores_receipt), [method])
    scores = read_scores_by_method(row, scores_receipt, tiles_receipt, names, scale=settings.scale, ranges=ranges)
    scores = trusted(scores, trust)
    _draw_all(row, {image: [scores[name] for name in names]}, store_path(tiles_receipt), settings, truth)


def _ranges(settings: Heatmap, cohort_scale: Path | None) -> Ranges:
    """Ranges of the cohort, if the settings need them."""
    require_colormap(settings.colormap)
    if settings.scale != "cohort":
        return {}
    if cohort_scale is None:
        raise ConfigError(
            ["heatmap.scale: cohort needs the range of the cohort; give the file written by heatmap-scale as --cohort-scale"]
        )
    return read_cohort_scale(cohort_scale)


def _draw_all(
    row: SlideRow, drawings: Mapping[Path, Sequence[SlideScores]], tiles: Path, settings: Heatmap, truth: Truth
) -> None:
    """Draw the scores of one slide, given by the picture to write; after a method's first those of its further outputs."""
    for image in drawings:
        for suffix in SUFFIXES:
            image.with_suffix(suffix).unlink(missing_ok=True)
    if not drawings:
        return
    shown = [channels[0] for channels in drawings.values()]
    seen = read_gallery_tiles(row, shown, settings.gallery)
    slide, note = backdrop(shown[0], row, tiles, truth)
    for image, channels in drawings.items():
        scores = channels[0]
        heading = title(row, scores.receipt, scores.method)
        write_text(image.with_suffix(".geojson"), geojson(scores, settings))
        if is_first(scores.method):
            write_bytes(image.with_suffix(RASTER), ome_tiff(channels))
        write_table(image.with_suffix(".csv"), list(COLUMNS), table_rows(scores))
        if settings.gallery:
            write_bytes(image.with_suffix(".tiles.png"), gallery(scores, seen, settings, title=heading))
        write_bytes(image, draw(picture(scores, slide, f"{heading} · {note}" if note else heading), settings))


def is_first(name: str) -> bool:
    """Return whether scores are those of a method's first output, by their name."""
    return name == method_of(name)


def backdrop(scores: SlideScores, row: SlideRow, tiles: Path, truth: Truth) -> tuple[Backdrop, str]:
    """Return what the pictures of a slide have in common, and a note for their titles, or ""; see `base_image`."""
    thumbnail, note = base_image(scores, tiles)
    image = panel(thumbnail)
    grid = scores.grid
    rings = annotation_rings(row, Frame.of(scores.tile_receipt), truth, np.array(image.shape[1::-1]) / grid.dimensions)
    return Backdrop(image, rings, scale_bar(grid.dimensions, grid.mpp)), note


def picture(scores: SlideScores, slide: Backdrop, heading: str) -> Picture:
    """Return the content of the picture of a method."""
    grid = scores.grid
    shape = (slide.image.shape[0], slide.image.shape[1])
    raster = tile_raster(scores.display.values, grid.coords, box=grid.box, dimensions=grid.dimensions, shape=shape)
    return Picture(slide, raster, scores.display, heading, scores.metadata["reason"], scores.trust)


def base_image(scores: SlideScores, tiles: Path) -> tuple[NDArray[np.uint8], str]:
    """Return the image under the scores, uint8 [height, width, 3] of the whole slide, and a note on it for the title, or "".

    Args:
        scores: scores with their grid.
        tiles: store of the tiles, with the thumbnail of the slide; if it is missing, the image is plain.
    """
    try:
        return read_thumbnail(tiles), "NO SLIDE FILE: TILES IN GREY" if scores.tile_receipt["reader"] == IMPORTED else ""
    except StoreError as error:
        log.warning("drawn on a plain image: %s", error)
        return _plain_image(scores.grid.dimensions), "THUMBNAIL MISSING"


def table_rows(scores: SlideScores) -> Iterable[tuple[object, ...]]:
    """Yield the rows of the table, with `COLUMNS`, one for each tile that has a score, in the order of the coords."""
    has_score = np.isfinite(scores.values)
    stamp = scores.stamp
    stored = plain_numbers(scores.values[has_score])
    shown = plain_numbers(scores.display.values[has_score])
    for (x, y), score, shown_score in zip(scores.grid.coords[has_score].tolist(), stored, shown, strict=True):
        yield stamp["slide_id"], x, y, *scores.grid.box, score, shown_score, stamp["role"], stamp["protocol"], stamp["output"]


def title(row: SlideRow, receipt: dict[str, Any], method: str) -> str:
    """Return slide, method, true label and prediction in one line."""
    task, output = task_of_stamp(receipt), receipt["methods"][method]["output"]
    label = f"label: {task.label_words(row.label)}" if row.label else "no label"
    shown = "" if task.is_independent else explained_label(receipt, method)  # labels name themselves in the parts below
    parts = [row.slide_id, method_title(method_of(method), shown), *_tilings_text(receipt), label]
    if output is not None:
        parts += task.title_parts(receipt, output)
    if receipt["role"] in ("train", "val"):
        parts.append("TRAINING SLIDE" if receipt["role"] == "train" else "VALIDATION SLIDE")
    if receipt["protocol"] == "as_published":
        parts.append("EPOCH AND THRESHOLD CHOSEN ON THE TEST FOLD")
    return " · ".join(parts)


def _tilings_text(receipt: dict[str, Any]) -> list[str]:
    """What finer scores are the mean of, for the title; [] of usual ones."""
    fine = receipt.get("fine")
    return [f"mean of {fine['tilings']} tilings, shifted by 1/{fine['steps']} of a tile"] if fine else []


def annotation_rings(
    row: SlideRow, frame: Frame, truth: Truth, to_picture: NDArray[np.float64], *, most: int = MAX_CORNERS
) -> list[NDArray[np.float64]]:
    """Return the outlines of the annotation; none if there is no annotation that can be read.

    Args:
        row: the slide.
        frame: level-0 frame of the slide.
        truth: settings of `truth`.
        to_picture: factors (x, y) from level-0 pixels to pixels of the picture.
        most: upper limit on the corners of all outlines together; outlines with more are simplified.

    Returns:
        Rings `(n, 2)` (x, y) in pixels of the picture.
    """
    if row.annotation is None:
        return []
    try:
        return [ring * to_picture for ring in simplified_rings(read_annotation(row.annotation, truth, frame).region, most)]
    except AnnotationError as error:
        log.warning("annotation not drawn: %s", error)
        return []


def _plain_image(dimensions: tuple[int, int]) -> NDArray[np.uint8]:
    """Grey image [height, width, 3] in the proportions of the slide."""
    width, height = (max(1, round(PLAIN_PX * side / max(dimensions))) for side in dimensions)
    return np.full((height, width, 3), PLAIN_GREY, np.uint8)
