from pathlib import Path

import pytest

from tests.conftest import tissue_image, write_aperio
from tests.test_extract import MeanColour
from wsi_mil.config import Encoder, TileSettings, Tiling, Tissue
from wsi_mil.extract import extract_slide
from wsi_mil.records import SlideRow
from wsi_mil.tile import tile_slide

SETTINGS = TileSettings(
    tiling=Tiling(tile_px=40, mpp=0.73, overlap=13), tissue=Tissue(mpp=2.0, min_area_um2=500, max_hole_um2=500)
)
"""Of a slide at 0.5 µm: a tile is 58.4 level-0 pixels wide, and 39.42 from the next."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of `tile` and `extract` for one slide `s`, entry `mean`; the slide is 640 × 448 at 0.5 µm."""
    slide = write_aperio(tmp_path / "s.svs", tissue_image(640, 448))
    row, tiles = SlideRow("s", slide), tmp_path / "results/tiles/default/s.json"
    tile_slide(row, SETTINGS, tiles)
    receipt, settings = tmp_path / "results/features/mean/s.json", Encoder(batch_size=16)
    extract_slide(tiles, row, settings, receipt, dtype="float32", encoder=MeanColour, threads=2)
    return tmp_path / "results"
