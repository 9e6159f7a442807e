"""Images of slides under the layers of the gallery, each drawn once for the pages of all targets, within a size limit."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.annotations import Frame
from wsi_mil.config import Config
from wsi_mil.heatmaps.scale_bar import ScaleBar, scale_bar
from wsi_mil.heatmaps.slide_scores import SlideScores
from wsi_mil.heatmaps.stage import annotation_rings, base_image
from wsi_mil.receipts import IMPORTED, store_path
from wsi_mil.records import SlideRow
from wsi_mil.report.pictures import largest_url, smaller, webp_url

BASE_IMAGES_MB = 12.0
"""Upper limit on the images of all slides, as text in a page."""

SIDES_PX = (900, 720, 560, 420, 300, 200, 120)
"""Longest sides to try, in decreasing order."""

QUALITY = 62
MAX_CORNERS = 600
"""Upper limit on the corners of a slide's annotation outlines."""

Source = tuple[str, tuple[int, int], str, bool]
"""What determines the image: slide, (width, height), hash of the file, and whether its tiles were imported."""


@dataclass(frozen=True)
class BaseImage:
    """Image of a slide under the layers.

    Attributes:
        url: data URL of the whole slide.
        size: (width, height) of the frame that it is shown in, the unit of `outlines`.
        outlines: SVG path of the annotation, or "".
        bar: scale bar.
        note: remark for the caption, or "".
    """

    url: str
    size: tuple[int, int]
    outlines: str
    bar: ScaleBar
    note: str


@dataclass
class BaseImages:
    """Images of slides, by their source.

    Attributes:
        config: the whole configuration.
        n_slides: number of slides that share the space of a page.
    """

    config: Config
    n_slides: int
    _drawn: dict[Source, BaseImage] = field(default_factory=dict)

    def of(self, row: SlideRow, scores: SlideScores, tiles_receipt: Path) -> BaseImage:
        """Return the image of the slide that scores belong to."""
        source = source_of(scores)
        if source not in self._drawn:
            self._drawn[source] = self._draw(row, scores, tiles_receipt)
        return self._drawn[source]

    def _draw(self, row: SlideRow, scores: SlideScores, tiles_receipt: Path) -> BaseImage:
        pixels, note = base_image(scores, store_path(tiles_receipt))
        image = Image.fromarray(pixels)
        max_bytes = int(BASE_IMAGES_MB * 1e6 / max(1, self.n_slides))
        url = largest_url(lambda side: webp_url(smaller(image, side), QUALITY), SIDES_PX, max_bytes)
        dimensions = np.array(scores.grid.dimensions)
        width, height = (max(1, round(float(side))) for side in dimensions * SIDES_PX[0] / dimensions.max())
        to_frame = np.array((width, height)) / dimensions
        rings = annotation_rings(row, Frame.of(scores.tile_receipt), self.config.truth, to_frame, most=MAX_CORNERS)
        return BaseImage(url, (width, height), _svg_path(rings), scale_bar(scores.grid.dimensions, scores.grid.mpp), note)


def source_of(scores: SlideScores) -> Source:
    """Return what determines the image under scores: models whose tiles come from the same slide file share it."""
    receipt = scores.tile_receipt
    return receipt["slide_id"], scores.grid.dimensions, receipt["slide_hash"], receipt["reader"] == IMPORTED


def _svg_path(rings: Iterable[NDArray[np.float64]]) -> str:
    """Closed rings as an SVG path."""
    return "".join(f"M{' '.join(f'{x:.1f},{y:.1f}' for x, y in ring)}z" for ring in rings)
