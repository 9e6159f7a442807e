"""Convert boolean masks to polygons in level-0 pixels."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours, label, regionprops

SIMPLIFY_PX = 0.25


def outline(mask: NDArray[np.bool_], *, dimensions: tuple[float, float]) -> BaseGeometry:
    """Return the mask as polygons with holes, in level-0 pixels of a slide of `dimensions` (width, height)."""
    to_level0 = (dimensions[0] / mask.shape[1], dimensions[1] / mask.shape[0])
    polygons = [_polygon(region.image, region.bbox[:2], to_level0) for region in regionprops(label(mask, connectivity=1))]
    return shapely.disjoint_subset_union_all(polygons)


def _polygon(piece: NDArray[np.bool_], corner: tuple[int, int], to_level0: tuple[float, float]) -> BaseGeometry:
    """Polygon of one connected piece, whose crop begins at [row, column] `corner` of the mask."""
    contours = find_contours(np.pad(piece, 1).astype(float), 0.5)
    rings = [(contour[:, ::-1] - 0.5 + np.array(corner)[::-1]) * to_level0 for contour in contours if len(contour) > 3]
    shapes = sorted((shapely.make_valid(shapely.Polygon(ring)) for ring in rings), key=lambda p: -p.area)
    body = shapes[0].difference(shapely.union_all(shapes[1:])) if shapes else shapely.Polygon()
    return body.simplify(SIMPLIFY_PX * max(to_level0))
