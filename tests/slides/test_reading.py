import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image, write_aperio
from tests.slides.test_slides import READERS, damage_tile
from wsi_mil.geometry import Mpp, footprint, rounded
from wsi_mil.records import TileGrid
from wsi_mil.slides import Slide, TileBatch, open_slide, read_tiles
from wsi_mil.slides.jpeg_tiff_reader import JpegTiffReader


def grid_of(width: int, height: int, *, tile_px: int, mpp: float, stride: int, offset: tuple[int, int] = (0, 0)) -> TileGrid:
    """Tiles over a slide of 0.5 µm, from `offset` on, some reaching beyond its right and bottom edge."""
    coords = np.array([[x, y] for y in range(offset[1], height, stride) for x in range(offset[0], width, stride)])
    box = rounded(footprint((tile_px, tile_px), target_mpp=mpp, slide_mpp=Mpp(0.5, 0.5)))
    return TileGrid(coords, np.ones(len(coords), np.float32), tile_px, box)


def all_tiles(slide: Slide, grid: TileGrid, **how: float) -> tuple[np.ndarray, np.ndarray, list[TileBatch]]:
    batches = list(read_tiles(slide, grid, **how))
    return np.concatenate([b.tiles for b in batches]), np.concatenate([b.readable for b in batches]), batches


def counted_blocks(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each block was decoded from now on."""
    decoded: Counter = Counter()
    read_block = JpegTiffReader.read_block

    def counting(self: JpegTiffReader, level: int, index: int, out: np.ndarray | None = None) -> np.ndarray:
        decoded[level, index] += 1
        return read_block(self, level, index, out)

    monkeypatch.setattr(JpegTiffReader, "read_block", counting)
    return decoded


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("tile_px", "mpp", "stride", "offset"),
    [(128, 0.5, 128, (0, 0)), (48, 0.5, 40, (-13, 7)), (64, 1.0, 128, (0, 0)), (50, 1.0, 97, (31, -9)), (37, 1.31, 93, (5, 3)),
     (20, 2.3, 101, (-7, 11))],
)  # fmt: skip
def test_tiles_in_batches_equal_those_read_one_by_one(
    slide: Path, reader: str, tile_px: int, mpp: float, stride: int, offset: tuple[int, int]
) -> None:
    grid = grid_of(640, 448, tile_px=tile_px, mpp=mpp, stride=stride, offset=offset)
    with open_slide(slide, reader) as opened:
        tiles, readable, batches = all_tiles(opened, grid, mpp=mpp, batch_size=7, threads=3)
        one_by_one = [opened.read_region((int(x), int(y)), (tile_px, tile_px), mpp) for x, y in grid.coords]
    assert readable.all() and np.array_equal(tiles, one_by_one)
    assert [b.start for b in batches] == list(range(0, len(grid.coords), 7))


def test_reading_can_start_in_the_middle(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(640, 448, tile_px=48, mpp=0.5, stride=40)
    with open_slide(slide) as opened:
        tiles, _, _ = all_tiles(opened, grid, mpp=0.5, batch_size=7)
        decoded = counted_blocks(monkeypatch)
        rest, _, batches = all_tiles(opened, grid, mpp=0.5, batch_size=7, start=21)
    assert set(decoded.values()) == {1}
    assert batches[0].start == 21 and np.array_equal(rest, tiles[21:])


@pytest.mark.parametrize(("tile_px", "mpp", "stride"), [(128, 0.5, 128), (90, 0.5, 45), (60, 1.0, 71)])
def test_each_block_is_decoded_once(slide: Path, monkeypatch: pytest.MonkeyPatch, tile_px: int, mpp: float, stride: int) -> None:
    grid = grid_of(640, 448, tile_px=tile_px, mpp=mpp, stride=stride)
    with open_slide(slide) as opened:
        decoded = counted_blocks(monkeypatch)
        all_tiles(opened, grid, mpp=mpp, batch_size=5, threads=3)
    assert set(decoded.values()) == {1} and len(decoded) == 20


def test_with_little_room_blocks_are_decoded_again_and_the_tiles_are_the_same(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of(640, 448, tile_px=90, mpp=0.5, stride=45)
    with open_slide(slide) as opened:
        expected, _, _ = all_tiles(opened, grid, mpp=0.5, batch_size=5)
        monkeypatch.setattr("wsi_mil.slides.reading.CACHED_BYTES", 4 * 128 * 128 * 3)
        monkeypatch.setattr("wsi_mil.slides.reading.BATCHES_AHEAD", 1)
        decoded = counted_blocks(monkeypatch)
        tiles, _, _ = all_tiles(opened, grid, mpp=0.5, batch_size=2, threads=3)
    assert np.array_equal(tiles, expected) and max(decoded.values()) > 1


def test_nothing_is_read_far_ahead(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(640, 448, tile_px=16, mpp=0.5, stride=16)
    with open_slide(slide, "openslide") as opened:
        done: list[tuple[int, int]] = []
        read_region = opened.read_region
        monkeypatch.setattr(opened, "read_region", lambda at, *how: (done.append(at), read_region(at, *how))[1])
        batches = read_tiles(opened, grid, mpp=0.5, batch_size=10, threads=2)
        next(batches)
        time.sleep(0.5)
        assert 10 <= len(done) <= 50 < len(grid.coords)
        batches.close()
        assert len(done) <= 50


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide"])
def test_a_corrupt_block_takes_only_its_tiles_along(tmp_path: Path, reader: str) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(640, 448), levels=(1,))
    grid = grid_of(640, 384, tile_px=64, mpp=0.5, stride=64)
    with open_slide(path, reader) as opened:
        whole, _, _ = all_tiles(opened, grid, mpp=0.5)
    damage_tile(path, 7)  # five to a row: x 256 to 384, y 128 to 256
    with open_slide(path, reader) as opened:
        tiles, readable, _ = all_tiles(opened, grid, mpp=0.5, batch_size=9, threads=2)
    hit = ((grid.coords >= (256, 128)) & (grid.coords < (384, 256))).all(axis=1)
    assert np.array_equal(readable, ~hit) and hit.sum() == 4
    assert np.array_equal(tiles[~hit], whole[~hit]) and not tiles[hit].any()
