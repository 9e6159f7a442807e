"""Scores as GeoJSON for QuPath: every tile with its score, and the outlines of hot regions."""

import json
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.annotations import HOT_CLASS
from wsi_mil.config import Heatmap, method_of
from wsi_mil.heatmaps.slide_scores import HeatmapGrid, SlideScores
from wsi_mil.tasks.shown import explained_label

HOT_COLOUR = (230, 60, 20)
RING = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
"""Closed ring around a tile (x, y), in footprints."""

WHOLE_NUMBER, NUMBER = "\0d", "\0r"
"""Strings that stand for numbers, and that no name can be: files have no such names."""

Feature = dict[str, object]


@dataclass(frozen=True)
class Region:
    """Connected region of hot tiles, which touch along their edges.

    Attributes:
        outline: outline in level-0 pixels.
        scores: float32 scores of its tiles.
    """

    outline: shapely.Polygon
    scores: NDArray[np.float32]


def geojson(scores: SlideScores, settings: Heatmap) -> str:
    """Return a FeatureCollection of the hot regions, hottest first, and of all tiles that have a score.

    Positions are relative to the corner of the scanned area (`origin: bounds`), as in QuPath, or to the corner of level 0;
    the member "wsi_mil" of the collection gives the origin and its position. Areas are in µm².
    """
    corner = scores.grid.bounds if settings.origin == "bounds" else (0, 0)
    metadata = {**scores.stamp, "origin": settings.origin, "origin_level0": list(corner), "hot": settings.hot}
    features = [json.dumps(_region_feature(region, scores, corner)) for region in hot_regions(scores, settings.hot)]
    features += _tile_features(scores, corner)
    members = json.dumps({"type": "FeatureCollection", "wsi_mil": metadata}).removesuffix("}")
    return f'{members}, "features": [{", ".join(features)}]}}'


def hot_regions(scores: SlideScores, hot: float) -> list[Region]:
    """Return the connected regions of tiles at or above position `hot` of the colour bar, hottest first; none if it is capped."""
    is_hot = (scores.display.positions(scores.display.values) >= hot) & (scores.display.ceiling == 1)
    if not is_hot.any():
        return []
    sides = scores.grid.footprints()[is_hot]
    values = scores.values[is_hot]
    outlines = shapely.get_parts(shapely.union_all(shapely.box(*sides.T)))
    centres = shapely.points((sides[:, :2] + sides[:, 2:]) / 2)
    tile, outline = shapely.STRtree(outlines).query(centres, predicate="within")
    slide = shapely.box(0, 0, *scores.grid.dimensions)  # padded tiles extend beyond it
    regions = [Region(polygon.intersection(slide), values[tile[outline == i]]) for i, polygon in enumerate(outlines)]
    return sorted(regions, key=lambda region: (-float(region.scores.max()), region.outline.bounds))


def plain_numbers(values: NDArray[np.float32]) -> list[float]:
    """Return float32 values with no more digits than needed to distinguish them: 0.1, not 0.10000000149011612."""
    return [float(text) for text in values.astype(str)]


def _region_feature(region: Region, scores: SlideScores, corner: tuple[int, int]) -> Feature:
    outline = shapely.transform(region.outline, lambda xy: xy - np.asarray(corner))
    values = region.scores
    measurements = {
        "area µm²": round(outline.area * scores.grid.mpp.area_um2, 3),
        "max": plain_numbers(values.max(keepdims=True))[0],
        "mean": plain_numbers(values.mean(keepdims=True))[0],
        "tiles": len(values),
    }
    properties = {
        "objectType": "annotation",
        "classification": {"name": f"{HOT_CLASS}{_name_of(scores)}", "color": list(HOT_COLOUR)},
        "measurements": measurements,
        "metadata": scores.stamp,
    }
    return {"type": "Feature", "geometry": shapely.geometry.mapping(outline), "properties": properties}


def _name_of(scores: SlideScores) -> str:
    """Name of the method, and of what it explains where that does not go without saying."""
    label = explained_label(scores.receipt, scores.method)
    return f"{method_of(scores.method)} for {label}" if label else method_of(scores.method)


def _tile_features(scores: SlideScores, corner: tuple[int, int]) -> list[str]:
    """Features of all tiles that have a score, as JSON: one text for all, with places for their numbers."""
    has_score = np.isfinite(scores.values)
    rings = _rings(scores.grid, has_score, corner)
    stored = plain_numbers(scores.values[has_score])
    shown = plain_numbers(scores.display.values[has_score])
    text = _tile_text(scores)
    return [text % (*ring, score, shown_score) for ring, score, shown_score in zip(rings, stored, shown, strict=True)]


def _tile_text(scores: SlideScores) -> str:
    """Feature of a tile as JSON, with %d for each number of its ring and %r for the stored and the shown score."""
    properties = {
        "objectType": "tile",
        "measurements": {scores.method: NUMBER, "shown": NUMBER},
        "metadata": scores.stamp,
    }
    geometry = {"type": "Polygon", "coordinates": [[[WHOLE_NUMBER, WHOLE_NUMBER]] * len(RING)]}
    text = json.dumps({"type": "Feature", "geometry": geometry, "properties": properties}).replace("%", "%%")
    return text.replace(json.dumps(WHOLE_NUMBER), "%d").replace(json.dumps(NUMBER), "%r")


def _rings(grid: HeatmapGrid, has_score: NDArray[np.bool_], corner: tuple[int, int]) -> list[list[int]]:
    """Closed rings x, y, x, y, … of the footprints of tiles, relative to `corner`."""
    steps = np.array(RING, np.int64) * np.array(grid.box, np.int64)
    rings = (grid.coords[has_score] - np.array(corner, np.int64))[:, None] + steps
    numbers: list[list[int]] = rings.reshape(len(rings), 2 * len(RING)).tolist()
    return numbers
