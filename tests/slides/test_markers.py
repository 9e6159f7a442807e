"""A coloured marker at a known level-0 place is in the tiles that should hold it, and nowhere else."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsi_mil.config import Tiling
from wsi_mil.records import TileGrid
from wsi_mil.slides import open_slide, read_tiles
from wsi_mil.tile.grid import tile_grid
from wsi_mil.tissue import TissueMask

ALL = TissueMask.whole(np.ones((1, 1), bool))
MARKER = (20, 200, 20)


@dataclass(frozen=True)
class Case:
    """A slide and how it is tiled. `steps` are downsamples of its levels, `marker` (left, top, width, height) at level 0."""

    size: tuple[int, int]
    steps: tuple[float, ...]
    mpp: tuple[float, float]
    marker: tuple[int, int, int, int]
    tiling: Tiling


@st.composite
def cases(draw: st.DrawFn) -> Case:
    width, height = draw(st.integers(180, 420)), draw(st.integers(180, 420))
    mpp = draw(st.floats(0.2, 0.6)), draw(st.floats(0.2, 0.6))
    tile_px = draw(st.integers(16, 40))
    target = draw(st.floats(max(mpp), 2.0))
    marker_size = draw(st.integers(30, 60)), draw(st.integers(30, 60))
    corner = draw(st.integers(0, width - marker_size[0])), draw(st.integers(0, height - marker_size[1]))
    tiling = Tiling(mpp=target, tile_px=tile_px, overlap=draw(st.integers(0, tile_px // 2)), min_tissue=0.01, edge="pad")
    steps = draw(st.sampled_from([(), (2,), (2.7,), (2, 4), (1.6, 3.3)]))
    return Case((width, height), steps, mpp, (*corner, *marker_size), tiling)


def write(case: Case, path: Path) -> None:
    """A pyramid of JPEG tiles with resolution tags, which OpenSlide opens as generic TIFF."""
    width, height = case.size
    image = np.full((height, width, 3), 255, np.uint8)
    left, top, marker_width, marker_height = case.marker
    image[top : top + marker_height, left : left + marker_width] = MARKER
    with tifffile.TiffWriter(path) as tif:
        for step in (1, *case.steps):
            level = Image.fromarray(image).resize((round(width / step), round(height / step)), Image.Resampling.BOX)
            tif.write(
                np.asarray(level), tile=(128, 64), photometric="rgb", compression="jpeg", compressionargs={"level": 95},
                resolution=(1e4 / case.mpp[0], 1e4 / case.mpp[1]), resolutionunit="CENTIMETER", metadata=None,
                subfiletype=int(step > 1),
            )  # fmt: skip


def held(case: Case, grid: TileGrid) -> np.ndarray:
    """Share of each tile's footprint that the marker covers, `(n,)`, by arithmetic alone."""
    low = np.array(case.marker[:2])
    high = low + case.marker[2:]
    box = case.tiling.tile_px * case.tiling.mpp / np.array(case.mpp)
    overlap = np.minimum(grid.coords + box, high) - np.maximum(grid.coords, low)
    return np.prod(np.maximum(overlap, 0), axis=1) / np.prod(box)


def seen(case: Case, path: Path, reader: str, coords: np.ndarray | None = None) -> tuple[TileGrid, np.ndarray]:
    """The grid, and the share of each tile `(n,)` that has the marker's colour; at other `coords` where they are given."""
    with open_slide(path, reader) as slide:
        assert (slide.mpp.x, slide.mpp.y) == pytest.approx(case.mpp, rel=1e-4)
        grid = tile_grid(slide.dimensions, ALL, case.tiling, slide.mpp)
        read = grid if coords is None else TileGrid(coords, grid.tissue_fraction, grid.tile_px, grid.tile_px_level0)
        batches = list(read_tiles(slide, read, mpp=case.tiling.mpp, batch_size=16, threads=2))
    red = np.concatenate([batch.tiles[..., 0] for batch in batches]).astype(float)
    return grid, ((255 - red) / (255 - MARKER[0])).mean(axis=(1, 2))


def tolerance(case: Case) -> float:
    """A pixel of the coarsest thing in play, around the marker, as a share of the tile."""
    box = case.tiling.tile_px * case.tiling.mpp / np.array(case.mpp)
    pixel = max(1.0, *(case.tiling.mpp / mpp for mpp in case.mpp))
    return float(0.02 + 2 * (min(case.marker[2], box[0]) + min(case.marker[3], box[1])) * 0.6 * pixel / np.prod(box))


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from(["jpeg_tiff", "openslide"]))
def test_a_marker_is_in_the_tiles_that_should_hold_it_and_nowhere_else(case: Case, reader: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tiff"
        write(case, path)
        grid, found = seen(case, path, reader)
    expected = held(case, grid)
    assert np.abs(found - expected).max() <= tolerance(case)
    far = held(Case(**{**vars(case), "marker": grown(case)}), grid) == 0
    assert found[far].max(initial=0) < 0.02


def grown(case: Case) -> tuple[int, int, int, int]:
    """The marker with two blocks of JPEG's and a pixel of the tile around it."""
    by = [round(16 * max(1.0, *case.steps, 1.0) + case.tiling.mpp / mpp) for mpp in case.mpp]
    left, top, width, height = case.marker
    return left - by[0], top - by[1], width + 2 * by[0], height + 2 * by[1]


def test_the_law_notices_x_and_y_swapped(tmp_path: Path) -> None:
    case = Case((400, 250), (2.7,), (0.3, 0.4), (270, 40, 50, 30), Tiling(mpp=0.7, tile_px=24, min_tissue=0.01, edge="pad"))
    write(case, tmp_path / "a.tiff")
    grid, found = seen(case, tmp_path / "a.tiff", "jpeg_tiff")
    assert np.abs(found - held(case, grid)).max() <= tolerance(case)
    _, swapped = seen(case, tmp_path / "a.tiff", "jpeg_tiff", grid.coords[:, ::-1])
    assert np.abs(swapped - held(case, grid)).max() > 3 * tolerance(case)
