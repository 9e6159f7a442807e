"""Dry run of `tile` on one slide: its metadata and the expected tiles, in seconds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.config import TileSettings, Tissue
from wsi_mil.errors import DataError, MissingMppError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.records import Status, TileGrid
from wsi_mil.slides import Overview, Slide, objective_power, open_slide
from wsi_mil.tile.layout import SlideTissue, extent_um, fault_status, layout_tiles, mpp_guess, tile_warnings
from wsi_mil.tile.supplied import SuppliedFiles
from wsi_mil.tissue import OVERVIEW_MPP, TissueMask

MAX_OVERVIEW_PX = 500_000_000
"""Largest level in pixels that is read for an estimate; a larger one (a slide without a pyramid) would take minutes."""

N_TRIED = 5
"""Number of tiles read to test whether the finest level can be decoded."""


class Accuracy(StrEnum):
    """Accuracy of an expected number of tiles."""

    EXACT = "exact"
    ESTIMATE = "estimate"
    AT_MOST = "at most"


@dataclass(frozen=True)
class Level:
    """Level of a slide.

    Attributes:
        dimensions: (width, height), pixels of the level.
        downsample: level-0 pixels per pixel by the reader.
        mpp: µm per pixel; None if the slide has no resolution.
    """

    dimensions: tuple[int, int]
    downsample: float
    mpp: Mpp | None


@dataclass(frozen=True)
class ExpectedTiles:
    """Expected outcome of `tile` on one slide with one tiling.

    Attributes:
        status: expected status of the slide.
        n_tiles: expected number of tiles; None if the slide cannot be tiled.
        accuracy: `exact` if the mask is as coarse as the overview that is read, `estimate` if it is finer, `at most` if the
            tissue was not segmented.
        reason: why the status is not `ok`.
        warnings: warnings, one sentence each.
    """

    status: Status
    n_tiles: int | None
    accuracy: Accuracy
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """Metadata of a slide file and expected tiles, without label, macro image and free text of the file.

    Attributes:
        dimensions: (width, height) of level 0.
        mpp: µm per pixel of level 0, or None.
        mpp_source: source of `mpp`.
        reason: why the slide has no mpp and how to supply it, or "".
        bounds: (x, y, width, height) of the scanned area, level-0 pixels, or None.
        tissue_share: share of the slide that is tissue; None if it was not segmented.
        cut_area_um2: tissue area removed by `tissue.exclude_classes`; None if the tissue was not segmented.
        tilings: expected outcome of `tile` by name of the tiling.
    """

    path: str
    reader: str
    vendor: str
    compression: str
    dimensions: tuple[int, int]
    levels: tuple[Level, ...]
    mpp: Mpp | None
    mpp_source: str
    reason: str
    notes: tuple[str, ...]
    objective_power: float | None
    bounds: tuple[int, int, int, int] | None
    tissue_share: float | None
    cut_area_um2: float | None
    tilings: dict[str, ExpectedTiles]

    @property
    def size_mm(self) -> tuple[float, float] | None:
        """Return (width, height) in mm; None without mpp."""
        if self.mpp is None:
            return None
        return self.dimensions[0] * self.mpp.x / 1000, self.dimensions[1] * self.mpp.y / 1000

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serialisable values, always with the same keys."""
        levels = [{"dimensions": list(x.dimensions), "downsample": x.downsample, "mpp": _pair(x.mpp)} for x in self.levels]
        tilings = {
            name: {**vars(e), "status": str(e.status), "accuracy": str(e.accuracy), "warnings": list(e.warnings)}
            for name, e in self.tilings.items()
        }
        plain = {
            "dimensions": list(self.dimensions),
            "size_mm": self.size_mm and list(self.size_mm),
            "levels": levels,
            "mpp": _pair(self.mpp),
            "notes": list(self.notes),
            "bounds": self.bounds and list(self.bounds),
            "tilings": tilings,
        }
        return {**vars(self), **plain}


def inspect_slide(
    path: Path | str,
    tilings: Mapping[str, TileSettings],
    *,
    mpp: float | None = None,
    supplied: SuppliedFiles = SuppliedFiles(),
    threads: int = 1,
) -> Inspection:
    """Open a slide and estimate the outcome of `tile`.

    Args:
        path: a file, or a URL.
        tilings: settings by name of the tiling, at least one; they differ in `tiling` alone.
        mpp: µm per pixel of level 0; overrides the file's.
        supplied: annotation and mask of the slide.
        threads: number of threads that read.

    Raises:
        SlideFormatError: no reader opens the file.
        MissingFileError: the file does not exist.
        OSError: the operating system cannot open the file.
    """
    settings = next(iter(tilings.values()))
    with open_slide(path, settings.slide.reader, mpp=mpp, guess=mpp_guess(settings.slide), in_place=True) as slide:
        try:
            inspection = _without_tiles(slide, slide.mpp, "")
        except MissingMppError as error:
            failed = ExpectedTiles(fault_status(error, settings.slide), None, Accuracy.EXACT, str(error))
            return replace(_without_tiles(slide, None, str(error)), tilings=dict.fromkeys(tilings, failed))
        estimate = _Estimate(slide, settings.tissue, supplied, threads)
        expected = {name: estimate.expected_tiles(tiling) for name, tiling in tilings.items()}
        cut = estimate.cut_share
        inspection = replace(inspection, cut_area_um2=None if cut is None else cut * math.prod(extent_um(slide)))
    return replace(inspection, tissue_share=estimate.tissue_share, tilings=expected)


def _without_tiles(slide: Slide, mpp: Mpp | None, reason: str) -> Inspection:
    return Inspection(
        path=str(slide.path),
        reader=slide.reader,
        vendor=slide.vendor,
        compression=slide.compression,
        dimensions=slide.dimensions,
        levels=tuple(_level(slide, number, mpp) for number in range(slide.level_count)),
        mpp=mpp,
        mpp_source=slide.mpp_source if mpp else "",
        reason=reason,
        notes=(*slide.notes, *(slide.resolution.notes if mpp else ())),
        objective_power=objective_power(slide.properties),
        bounds=slide.bounds,
        tissue_share=None,
        cut_area_um2=None,
        tilings={},
    )


def _level(slide: Slide, number: int, mpp: Mpp | None) -> Level:
    (width, height), of_level0 = slide.level_dimensions[number], slide.dimensions
    own = mpp and Mpp(mpp.x * (of_level0[0] / width), mpp.y * (of_level0[1] / height))
    return Level((width, height), slide.level_downsamples[number], own)


class _Estimate:
    """Estimates the outcome of `tile` on an open slide; the tissue is segmented once for all tilings."""

    def __init__(self, slide: Slide, tissue: Tissue, supplied: SuppliedFiles, threads: int):
        self._slide = slide
        self._supplied = supplied
        self._threads = threads
        self._tissue = tissue.model_copy(update={"mpp": max(tissue.mpp, OVERVIEW_MPP)})
        by_image = tissue.method not in ("none", "annotation") and (supplied.mask is None or tissue.mask_mode == "intersect")
        is_whole = tissue.method == "none" and supplied.mask is None and not tissue.exclude_classes
        self._accuracy = Accuracy.EXACT if self._tissue == tissue or is_whole else Accuracy.ESTIMATE
        self._slide_tissue: SlideTissue | None = None
        if by_image and self._overview_px(self._tissue.mpp) > MAX_OVERVIEW_PX:
            whole_slide = TissueMask.whole(np.ones((1, 1), bool))
            self._accuracy = Accuracy.AT_MOST
            self._slide_tissue = SlideTissue(whole_slide, Overview(np.zeros((1, 1, 3), np.uint8)))

    @property
    def tissue_share(self) -> float | None:
        """Return the share of the slide that is tissue; None if it was not segmented."""
        return self._slide_tissue.mask.share if self._slide_tissue and self._accuracy is not Accuracy.AT_MOST else None

    @property
    def cut_share(self) -> float | None:
        """Return the share of the slide that is excluded tissue; None if the tissue was not segmented."""
        return self._slide_tissue.cut_share if self._slide_tissue and self._accuracy is not Accuracy.AT_MOST else None

    def expected_tiles(self, settings: TileSettings) -> ExpectedTiles:
        """Return the expected outcome with one tiling."""
        slide = self._slide
        coarse = settings.model_copy(update={"tissue": self._tissue})
        try:
            layout = layout_tiles(slide, self._supplied, coarse, threads=self._threads, tissue=self._slide_tissue)
            self._slide_tissue = layout.tissue
            warnings = self._warnings(settings, layout.tissue)
        except DataError as error:
            return ExpectedTiles(fault_status(error, settings.slide), None, self._accuracy, str(error))
        n = len(layout.grid.coords)
        if n == 0:
            return ExpectedTiles(Status.EMPTY, 0, self._accuracy, layout.why_empty, tuple(warnings))
        unread, n_tried = _unread(slide, layout.grid, settings.tiling.mpp)
        if len(unread) == n_tried:
            return ExpectedTiles(Status.FAILED, n, self._accuracy, f"none of {n_tried} sampled tiles can be read: {unread[0]}")
        if unread:
            warnings.append(f"{len(unread)} of {n_tried} sampled tiles cannot be read")
        return ExpectedTiles(Status.OK, n, self._accuracy, "", tuple(warnings))

    def _overview_px(self, mpp: float) -> int:
        """Return the number of pixels of the level from which an overview is made."""
        level = self._slide.level_for(max(mpp, self._slide.mpp.x, self._slide.mpp.y))
        return math.prod(self._slide.level_dimensions[level])

    def _warnings(self, settings: TileSettings, tissue: SlideTissue) -> list[str]:
        if self._accuracy is Accuracy.AT_MOST:
            gigapixels = self._overview_px(self._tissue.mpp) / 1e9
            slow = f"has no coarse level: {gigapixels:.1f} gigapixels must be read to segment its tissue, which takes minutes"
            return [*self._slide.notes, *self._slide.resolution.notes, slow]
        return tile_warnings(self._slide, settings, tissue)


def _unread(slide: Slide, grid: TileGrid, mpp: float) -> tuple[list[str], int]:
    """Reasons why some of a few sampled tiles cannot be read, and the number of sampled tiles."""
    sampled = grid.coords[np.unique(np.linspace(0, len(grid.coords) - 1, N_TRIED).astype(np.int64))]
    reasons = []
    for x, y in sampled.tolist():
        try:
            slide.read_region((x, y), (grid.tile_px, grid.tile_px), mpp)
        except SlideReadError as error:
            reasons.append(str(error))
    return reasons, len(sampled)


def _pair(mpp: Mpp | None) -> list[float] | None:
    return None if mpp is None else [mpp.x, mpp.y]
