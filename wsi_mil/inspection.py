"""What a slide file is, and what `tile` would come to on it, found in seconds."""

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
"""A level of more pixels (a slide without a pyramid) is not read for an estimate: that would take minutes."""

N_TRIED = 5
"""Tiles that are read, to see whether the finest level can be decoded."""


class Accuracy(StrEnum):
    """What an expected number of tiles is worth."""

    EXACT = "exact"
    ESTIMATE = "estimate"
    AT_MOST = "at most"


@dataclass(frozen=True)
class Level:
    """A level of a slide.

    Attributes:
        dimensions: (width, height), pixels of the level.
        downsample: level-0 pixels per pixel, as the reader says.
        mpp: µm per pixel; None where the slide does not say its resolution.
    """

    dimensions: tuple[int, int]
    downsample: float
    mpp: Mpp | None


@dataclass(frozen=True)
class ExpectedTiles:
    """What `tile` would come to.

    Attributes:
        status: of the slide under a tiling.
        n_tiles: how many; None where the slide would not get as far.
        accuracy: `exact` where the mask is as coarse as the overview that is read, `estimate` where it is finer, `at most`
            where the tissue was not looked for.
        reason: why not `ok`.
        warnings: what is worth a look.
    """

    status: Status
    n_tiles: int | None
    accuracy: Accuracy
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What a slide file is. Holds no label, no macro image and no free text of the file.

    Attributes:
        dimensions: (width, height) of level 0.
        mpp: µm per pixel of level 0, or None.
        mpp_source: who says so.
        reason: why it has no mpp, and what mends it; or "".
        bounds: (x, y, width, height) of what was scanned, level-0 pixels, or None.
        tissue_share: share of the slide that is tissue; None where it was not looked for.
        cut_area_um2: area that was cut out of the tissue by `tissue.exclude_classes`; None where it was not looked for.
        tilings: by name, what `tile` would come to.
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
        """(width, height), mm."""
        if self.mpp is None:
            return None
        return self.dimensions[0] * self.mpp.x / 1000, self.dimensions[1] * self.mpp.y / 1000

    def as_json(self) -> dict[str, Any]:
        """Plain values; the keys are always the same."""
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
    beside: SuppliedFiles = SuppliedFiles(),
    threads: int = 1,
) -> Inspection:
    """Open a slide, and find what `tile` would come to.

    Args:
        path: a file, or a URL.
        tilings: by name, at least one; they differ in `tiling` alone.
        mpp: µm per pixel of level 0 that overrides the file's own.
        beside: the slide's annotation and mask.
        threads: that read.

    Raises:
        SlideFormatError: no reader opens it.
        MissingFileError: there is no such file.
        OSError: the machine cannot open it.
    """
    settings = next(iter(tilings.values()))
    with open_slide(path, settings.slide.reader, mpp=mpp, guess=mpp_guess(settings.slide), in_place=True) as slide:
        try:
            found = _described(slide, slide.mpp, "")
        except MissingMppError as error:
            failed = ExpectedTiles(fault_status(error, settings.slide), None, Accuracy.EXACT, str(error))
            return replace(_described(slide, None, str(error)), tilings=dict.fromkeys(tilings, failed))
        estimate = _Estimate(slide, settings.tissue, beside, threads)
        expected = {name: estimate.of(tiling) for name, tiling in tilings.items()}
        cut = estimate.cut_share
        found = replace(found, cut_area_um2=None if cut is None else cut * math.prod(extent_um(slide)))
    return replace(found, tissue_share=estimate.tissue_share, tilings=expected)


def _described(slide: Slide, mpp: Mpp | None, reason: str) -> Inspection:
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
    """What `tile` would come to on an open slide; its tissue is looked for once for all tilings."""

    def __init__(self, slide: Slide, tissue: Tissue, beside: SuppliedFiles, threads: int):
        self._slide, self._beside, self._threads = slide, beside, threads
        self._tissue = tissue.model_copy(update={"mpp": max(tissue.mpp, OVERVIEW_MPP)})
        by_image = tissue.method not in ("none", "annotation") and (beside.mask is None or tissue.mask_mode == "intersect")
        is_whole = tissue.method == "none" and beside.mask is None and not tissue.exclude_classes
        self._accuracy = Accuracy.EXACT if self._tissue == tissue or is_whole else Accuracy.ESTIMATE
        self._found: SlideTissue | None = None
        if by_image and self._overview_px(self._tissue.mpp) > MAX_OVERVIEW_PX:
            everywhere = TissueMask.whole(np.ones((1, 1), bool))
            self._accuracy, self._found = Accuracy.AT_MOST, SlideTissue(everywhere, Overview(np.zeros((1, 1, 3), np.uint8)))

    @property
    def tissue_share(self) -> float | None:
        """Share of the slide that is tissue; None where it was not looked for."""
        return self._found.mask.share if self._found and self._accuracy is not Accuracy.AT_MOST else None

    @property
    def cut_share(self) -> float | None:
        """Share of the slide that was cut out of the tissue; None where that was not looked for."""
        return self._found.cut_share if self._found and self._accuracy is not Accuracy.AT_MOST else None

    def of(self, settings: TileSettings) -> ExpectedTiles:
        """Under a tiling."""
        slide = self._slide
        coarse = settings.model_copy(update={"tissue": self._tissue})
        try:
            laid = layout_tiles(slide, self._beside, coarse, threads=self._threads, tissue=self._found)
            self._found = laid.tissue
            warnings = self._warnings(settings, laid.tissue)
        except DataError as error:
            return ExpectedTiles(fault_status(error, settings.slide), None, self._accuracy, str(error))
        n = len(laid.grid.coords)
        if n == 0:
            return ExpectedTiles(Status.EMPTY, 0, self._accuracy, laid.why_empty, tuple(warnings))
        unread, n_tried = _unread(slide, laid.grid, settings.tiling.mpp)
        if len(unread) == n_tried:
            return ExpectedTiles(Status.FAILED, n, self._accuracy, f"none of {n_tried} tiles tried can be read: {unread[0]}")
        if unread:
            warnings.append(f"{len(unread)} of {n_tried} tiles tried cannot be read")
        return ExpectedTiles(Status.OK, n, self._accuracy, "", tuple(warnings))

    def _overview_px(self, mpp: float) -> int:
        """Pixels of the level that an overview is made from."""
        level = self._slide.level_for(max(mpp, self._slide.mpp.x, self._slide.mpp.y))
        return math.prod(self._slide.level_dimensions[level])

    def _warnings(self, settings: TileSettings, tissue: SlideTissue) -> list[str]:
        if self._accuracy is Accuracy.AT_MOST:
            gigapixels = self._overview_px(self._tissue.mpp) / 1e9
            slow = f"has no coarse level, so that {gigapixels:.1f} gigapixels are read to find its tissue: that takes a while"
            return [*self._slide.notes, *self._slide.resolution.notes, slow]
        return tile_warnings(self._slide, settings, tissue)


def _unread(slide: Slide, grid: TileGrid, mpp: float) -> tuple[list[str], int]:
    """Why some of a few tiles of a grid cannot be read, and how many were tried."""
    tried = grid.coords[np.unique(np.linspace(0, len(grid.coords) - 1, N_TRIED).astype(np.int64))]
    reasons = []
    for x, y in tried.tolist():
        try:
            slide.read_region((x, y), (grid.tile_px, grid.tile_px), mpp)
        except SlideReadError as error:
            reasons.append(str(error))
    return reasons, len(tried)


def _pair(mpp: Mpp | None) -> list[float] | None:
    return None if mpp is None else [mpp.x, mpp.y]
