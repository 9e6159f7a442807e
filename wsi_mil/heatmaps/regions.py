"""Scores as GeoJSON that QuPath opens: every tile with its score, and the outlines of the hot regions."""

import json
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.annotations import HOT_CLASS
from wsi_mil.config import Heatmap
from wsi_mil.heatmaps.slide_scores import Grid, Scored

HOT_COLOUR = (230, 60, 20)

Feature = dict[str, object]


@dataclass(frozen=True)
class Region:
    """Hot tiles that touch along their edges.

    Attributes:
        outline: level-0 pixels.
        scores: float32 of its tiles.
    """

    outline: shapely.Polygon
    scores: NDArray[np.float32]


def geojson(scored: Scored, settings: Heatmap) -> str:
    """One FeatureCollection: the hot regions, hottest first, then every tile that has a score.

    Positions count from the corner of what was scanned (`origin: bounds`), as QuPath does, or from the slide's level 0;
    the collection's "wsi_mil" says which, and where that corner is. Areas are in µm².
    """
    corner = scored.grid.bounds if settings.origin == "bounds" else (0, 0)
    about = {**scored.stamp, "origin": settings.origin, "origin_level0": list(corner), "hot": settings.hot}
    regions = hot_regions(scored, settings.hot)
    features = [_region_feature(region, scored, corner) for region in regions] + _tile_features(scored, corner)
    return json.dumps({"type": "FeatureCollection", "wsi_mil": about, "features": features})


def hot_regions(scored: Scored, hot: float) -> list[Region]:
    """Connected regions of tiles whose place on the colour bar is at least `hot`, hottest first; none below a ceiling."""
    is_hot = (scored.shown.place(scored.shown.values) >= hot) & (scored.shown.ceiling == 1)
    if not is_hot.any():
        return []
    sides, scores = scored.grid.footprints()[is_hot], scored.values[is_hot]
    outlines = shapely.get_parts(shapely.union_all(shapely.box(*sides.T)))
    middles = shapely.points((sides[:, :2] + sides[:, 2:]) / 2)
    tile, outline = shapely.STRtree(outlines).query(middles, predicate="within")
    slide = shapely.box(0, 0, *scored.grid.dimensions)  # padded tiles reach beyond it
    regions = [Region(polygon.intersection(slide), scores[tile[outline == i]]) for i, polygon in enumerate(outlines)]
    return sorted(regions, key=lambda region: (-float(region.scores.max()), region.outline.bounds))


def plain_numbers(values: NDArray[np.float32]) -> list[float]:
    """Float32 values with no more digits than tell them apart: 0.1, not 0.10000000149011612."""
    return [float(text) for text in values.astype(str)]


def _region_feature(region: Region, scored: Scored, corner: tuple[int, int]) -> Feature:
    outline = shapely.transform(region.outline, lambda xy: xy - np.asarray(corner))
    scores = region.scores
    measurements = {
        "area µm²": round(outline.area * scored.grid.mpp.area_um2, 3),
        "max": plain_numbers(scores.max(keepdims=True))[0],
        "mean": plain_numbers(scores.mean(keepdims=True))[0],
        "tiles": len(scores),
    }
    properties = {
        "objectType": "annotation",
        "classification": {"name": f"{HOT_CLASS}{scored.method}", "color": list(HOT_COLOUR)},
        "measurements": measurements,
        "metadata": scored.stamp,
    }
    return {"type": "Feature", "geometry": shapely.geometry.mapping(outline), "properties": properties}


def _tile_features(scored: Scored, corner: tuple[int, int]) -> list[Feature]:
    known = np.isfinite(scored.values)
    rings = _rings(scored.grid, known, corner)
    values, shown = plain_numbers(scored.values[known]), plain_numbers(scored.shown.values[known])
    return [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "tile",
                "measurements": {scored.method: value, "shown": seen},
                "metadata": scored.stamp,
            },
        }
        for ring, value, seen in zip(rings, values, shown, strict=True)
    ]


def _rings(grid: Grid, known: NDArray[np.bool_], corner: tuple[int, int]) -> list[list[list[int]]]:
    """Closed rings (x, y) of the tiles' footprints, counted from `corner`."""
    steps = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * grid.box
    rings: list[list[list[int]]] = ((grid.coords[known] - corner)[:, None] + steps).tolist()
    return rings
