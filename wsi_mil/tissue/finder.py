"""Tissue finder: fitted once on a slide's overview, applied to any part of the slide at any resolution."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_holes, remove_small_objects
from skimage.transform import downscale_local_mean

from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp, Window
from wsi_mil.tissue.bands import in_bands, masks_from_bands
from wsi_mil.tissue.glass import ENOUGH_PIXELS, Glass, glass_of
from wsi_mil.tissue.methods import GlassDistance, Saturation, Stain
from wsi_mil.tissue.opening import opened
from wsi_mil.tissue.pens import pen_marks

OVERVIEW_MPP = 8.0
"""µm per pixel of the overview on which thresholds, glass and pen marks are estimated, whatever the mask's resolution."""

SMOOTH_UM, LEAST_SMOOTH_PX = 2.0, 0.7
"""Standard deviation of the smoothing in µm, and its lower bound in pixels."""

TRUNCATE = 4.0
"""Standard deviations at which the smoothing kernel is truncated."""

NEAR_UM = 24.0
"""Largest distance of a finer mask's tissue from that of the overview. So structures thinner than two overview pixels
(threads, coverslip lines) are no tissue at any resolution, and bare glass need not be read."""

SMALL_UM2, SMALL_SHARE = 20_000.0, 0.05
"""Default area below which pieces are dropped, and the share of the slide above which none is: in a field of view of 0.3 mm
the area would be a quarter, and tissue there is in pieces that continue beyond its edges."""


@dataclass(frozen=True)
class TissueFinder:
    """Finds tissue in any part of one slide.

    Attributes:
        settings: method and areas.
        extent_um: (width, height) of the slide, µm.
        glass: colour of bare glass, by which images are balanced.
        stain: criterion for stained pixels.
        stained: bool [height, width], the stained pixels of the overview.
        possible: bool [height, width], pixels of the overview near stained pixels and outside pen marks.
        non_glass_share: share of the overview, without pen marks, whose colour differs from glass; None if `stain` is that
            criterion itself.
    """

    settings: Tissue
    extent_um: tuple[float, float]
    glass: Glass
    stain: Stain
    stained: NDArray[np.bool_]
    possible: NDArray[np.bool_]
    non_glass_share: float | None = None

    @classmethod
    def from_overview(cls, overview: NDArray[np.uint8], settings: Tissue, mpp: Mpp, *, threads: int = 1) -> "TissueFinder":
        """Fit on an overview of the slide.

        Args:
            overview: [height, width, 3] of the whole slide, at or near `OVERVIEW_MPP`.
            settings: method, and whether pen marks are removed.
            mpp: µm per pixel of `overview`.
            threads: number of threads.
        """
        smooth = in_bands(lambda band: _smooth(band, mpp), overview, halo=_reach_px(mpp), threads=threads)
        glass = glass_of(smooth)
        balanced = in_bands(glass.balanced, smooth, threads=threads)
        del smooth
        marks = pen_marks(balanced, mpp, threads=threads) if settings.remove_pen else np.zeros(overview.shape[:2], bool)
        pixels = balanced[~marks]
        pixels = pixels[:: 1 + len(pixels) // ENOUGH_PIXELS]
        distance = GlassDistance.fit(pixels, glass.noise)
        by_distance = settings.method == "glass_distance"
        stain: Stain = distance if by_distance else Saturation.fit(pixels)
        away = None if by_distance else float(distance.stained(pixels).mean() * (~marks).mean()) if len(pixels) else 0.0
        extent_um = overview.shape[1] * mpp.x, overview.shape[0] * mpp.y
        (stained,) = masks_from_bands(lambda band: (stain.stained(band),), balanced, 1, threads=threads)
        return cls(settings, extent_um, glass, stain, stained, _near(opened(stained & ~marks), mpp) & ~marks, away)

    def mpp_at(self, shape: tuple[int, int]) -> Mpp:
        """Return the µm per pixel of a mask [height, width] of the whole slide."""
        return Mpp(self.extent_um[0] / shape[1], self.extent_um[1] / shape[0])

    def least_px(self, shape: tuple[int, int]) -> int:
        """Return the area in pixels up to which a mask of `shape` drops pieces of tissue."""
        least = self.settings.min_area_um2
        if least is None:
            least = min(SMALL_UM2, SMALL_SHARE * math.prod(self.extent_um))
        return int(least / self.mpp_at(shape).area_um2)

    def hole_px(self, shape: tuple[int, int]) -> int:
        """Return the area in pixels up to which a mask of `shape` fills holes."""
        return int(self.settings.max_hole_um2 / self.mpp_at(shape).area_um2)

    def halo_px(self, shape: tuple[int, int]) -> int:
        """Return the margin in pixels on which a window of a mask of `shape` depends."""
        return _reach_px(self.mpp_at(shape)) + 2

    def is_possible(self, window: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return `possible` at the pixels of a window of a mask of `shape`."""
        rows = (np.arange(window.top, window.bottom) + 0.5) * self.possible.shape[0] / shape[0]
        columns = (np.arange(window.left, window.right) + 0.5) * self.possible.shape[1] / shape[1]
        return self.possible[np.ix_(rows.astype(np.int64), columns.astype(np.int64))]

    def find(self, image: NDArray[np.uint8], window: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the tissue in a window of a mask of `shape`, small pieces and holes included.

        Pixels within `halo_px` of a cut through the slide are unreliable.

        Args:
            image: [height, width, 3] of the window.
            window: the window, in mask pixels.
            shape: [height, width] of the whole mask.

        Returns:
            bool [height, width] of the window.
        """
        stained = self.stain.stained(self.glass.balanced(_smooth(image, self.mpp_at(shape))))
        return opened(stained & self.is_possible(window, shape))


def tissue_mask(image: NDArray[np.uint8], settings: Tissue, mpp: Mpp) -> NDArray[np.bool_]:
    """Segment tissue: stained pixels in large enough pieces, small holes filled.

    Args:
        image: [height, width, 3] of the whole slide.
        settings: method and areas; for `annotation` see `region_mask`.
        mpp: µm per pixel of `image`.

    Returns:
        bool [height, width].

    Raises:
        ValueError: the method is `annotation`.
    """
    if settings.method == "annotation":
        raise ValueError("tissue.method annotation needs no image: use region_mask with its polygons")
    if settings.method == "none":
        return np.ones(image.shape[:2], bool)
    height, width = image.shape[:2]
    overview = overview_of(image, mpp)
    overview_mpp = Mpp(mpp.x * width / overview.shape[1], mpp.y * height / overview.shape[0])
    finder = TissueFinder.from_overview(overview, settings, overview_mpp)
    return overview_mask(finder) if overview is image else whole_mask(image, finder)


def overview_mask(finder: TissueFinder) -> NDArray[np.bool_]:
    """Return the mask, bool [height, width], at the resolution of the fitted overview."""
    return _without_small(opened(finder.stained & finder.possible), finder)


def whole_mask(image: NDArray[np.uint8], finder: TissueFinder) -> NDArray[np.bool_]:
    """Return the mask, bool [height, width], of the whole slide at `image`'s resolution."""
    height, width = image.shape[:2]
    return _without_small(finder.find(image, Window(0, 0, width, height), (height, width)), finder)


def _without_small(mask: NDArray[np.bool_], finder: TissueFinder) -> NDArray[np.bool_]:
    """Drop small pieces, then fill small holes; a slide without tissue is no hole."""
    height, width = mask.shape
    mask = remove_small_objects(mask, max_size=finder.least_px((height, width)))
    return np.asarray(remove_small_holes(mask, max_size=finder.hole_px((height, width))), bool) if mask.any() else mask


def overview_of(image: NDArray[np.uint8], mpp: Mpp) -> NDArray[np.uint8]:
    """Downsample an image of the whole slide by whole factors, to `OVERVIEW_MPP` at the coarsest."""
    step = max(1, int(OVERVIEW_MPP / mpp.y)), max(1, int(OVERVIEW_MPP / mpp.x))
    beyond = [(0, -length % s) for length, s in zip(image.shape[:2], step, strict=True)]
    whole = np.pad(image, (*beyond, (0, 0)), mode="edge")
    return np.rint(downscale_local_mean(whole, (*step, 1))).astype(np.uint8) if max(step) > 1 else image


def _sigma_px(mpp: Mpp) -> tuple[float, float]:
    """(y, x)."""
    return max(LEAST_SMOOTH_PX, SMOOTH_UM / mpp.y), max(LEAST_SMOOTH_PX, SMOOTH_UM / mpp.x)


def _reach_px(mpp: Mpp) -> int:
    """Radius of the smoothing kernel in pixels."""
    return int(TRUNCATE * max(_sigma_px(mpp)) + 0.5)


def _smooth(image: NDArray[np.uint8], mpp: Mpp) -> NDArray[np.float32]:
    scaled = image.astype(np.float32)
    scaled /= 255
    ndimage.gaussian_filter(scaled, sigma=(*_sigma_px(mpp), 0), truncate=TRUNCATE, mode="nearest", output=scaled)
    return scaled


def _near(mask: NDArray[np.bool_], mpp: Mpp) -> NDArray[np.bool_]:
    reach = round(NEAR_UM / mpp.y), round(NEAR_UM / mpp.x)
    return np.asarray(ndimage.maximum_filter(mask, size=(2 * reach[0] + 1, 2 * reach[1] + 1)))
