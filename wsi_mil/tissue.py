"""Image → boolean tissue mask. Pure: arrays in, arrays out."""

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import find_contours, label, regionprops
from skimage.morphology import remove_small_holes, remove_small_objects

from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp

SATURATION_RANGE = (0.05, 0.2)
"""Otsu's threshold is held inside. Below: JPEG noise on glass. Above: certainly stained, even where the slide is all
tissue and Otsu would split the pale from the strong."""

MIN_VALUE = 0.12
"""Darker pixels are black borders or ink: their saturation is noise."""

BLUR_SIGMA_PX = 1.0
SIMPLIFY_PX = 0.25


def tissue_mask(image: NDArray[np.uint8], settings: Tissue, mpp: Mpp) -> NDArray[np.bool_]:
    """Where the tissue is.

    Saturation above Otsu's threshold, then small pieces dropped and small holes filled, by physical size.

    Args:
        image: [height, width, 3] of the whole slide.
        settings: method and areas.
        mpp: µm per pixel of `image`.

    Returns:
        bool [height, width].
    """
    if settings.method == "none":
        return np.ones(image.shape[:2], bool)
    mask = _stained(image)
    mask = remove_small_objects(mask, max_size=int(settings.min_area_um2 / mpp.area_um2))
    mask = remove_small_holes(mask, max_size=int(settings.max_hole_um2 / mpp.area_um2))
    return np.asarray(mask, bool)


def _stained(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    smooth = gaussian(image, sigma=BLUR_SIGMA_PX, channel_axis=2)
    brightest, darkest = smooth.max(axis=2), smooth.min(axis=2)
    saturation = (brightest - darkest) / np.maximum(brightest, 1e-6)
    bright_enough = brightest > MIN_VALUE
    if not bright_enough.any():
        return np.zeros(image.shape[:2], bool)
    threshold = np.clip(threshold_otsu(saturation[bright_enough]), *SATURATION_RANGE)
    return np.asarray(ndimage.binary_opening((saturation > threshold) & bright_enough))


def outline(mask: NDArray[np.bool_], *, dimensions: tuple[int, int]) -> BaseGeometry:
    """The mask's pieces as polygons with holes, in level-0 pixels of a slide of `dimensions` (width, height)."""
    to_level0 = (dimensions[0] / mask.shape[1], dimensions[1] / mask.shape[0])
    polygons = [_polygon(region.image, region.bbox[:2], to_level0) for region in regionprops(label(mask, connectivity=1))]
    return shapely.union_all(polygons)


def _polygon(piece: NDArray[np.bool_], corner: tuple[int, int], to_level0: tuple[float, float]) -> BaseGeometry:
    """One connected piece, cut out at [row, column] `corner` of the mask."""
    contours = find_contours(np.pad(piece, 1).astype(float), 0.5)
    rings = [(contour[:, ::-1] - 0.5 + np.array(corner)[::-1]) * to_level0 for contour in contours if len(contour) > 3]
    shapes = sorted((shapely.make_valid(shapely.Polygon(ring)) for ring in rings), key=lambda p: -p.area)
    body = shapes[0].difference(shapely.union_all(shapes[1:])) if shapes else shapely.Polygon()
    return body.simplify(SIMPLIFY_PX * max(to_level0))
