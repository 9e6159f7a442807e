"""Heatmaps of tiles that lie on no common grid, as CLAM lays them: contour by contour."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from shapely.geometry import shape

from tests.heatmap_files import Made, csv_hottest, features, geojson_hottest
from tests.interchange.files import grid, numbers, write_clam
from wsi_mil.config import Heatmap
from wsi_mil.heatmaps import draw_heatmap
from wsi_mil.interchange import FeatureSource, ImportOptions, import_slide
from wsi_mil.interchange.scale import measured_stride
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import NO_PATH, InstanceScores, SlideRow
from wsi_mil.store import read_bag, write_scores

ROW = SlideRow("s", NO_PATH, "tumour")
COORDS = np.concatenate([grid(5, 4, 256, left=137, top=91), grid(3, 2, 256, left=2011, top=1203)])
"""Two pieces of tissue."""


def drawn(folder: Path, coords: np.ndarray, hot: list[int], **attributes: object) -> Path:
    """The picture of imported tiles, of which some have evidence 3 and the others -1."""
    path = write_clam(folder / "s.h5", coords, numbers(len(coords)), patch_size=256, patch_level=0, **attributes)
    import_slide(FeatureSource(ROW, path), folder / "results", "e", ImportOptions(mpp=0.5))
    values = np.full(len(coords), -1, np.float32)
    values[hot] = 3
    tiles, scores, picture = folder / "results/tiles/e/s.json", folder / "scores/s.json", folder / "h/evidence.png"
    about = read_receipt(tiles)
    stored = read_bag(folder / "results/features/e/s.json").coords
    write_scores(store_path(scores), stored, [InstanceScores("evidence", values, "", "log_odds", True)], {})
    receipt = Made(coords, values).scores_receipt()
    write_receipt(scores, {**receipt, "tiles": {key: about[key] for key in ("coords_digest", "slide_hash")}})
    draw_heatmap(ROW, scores, tiles, "evidence", Heatmap(), picture)
    return picture


def test_tiles_of_two_pieces_stand_where_they_are(tmp_path: Path) -> None:
    picture = drawn(tmp_path, COORDS, [22, 23])
    assert csv_hottest(picture) == (2267, 1203) and geojson_hottest(picture) == (2267, 1203, 2523, 1459)
    (region,) = features(picture, "annotation")
    assert shape(region["geometry"]).bounds == (2267, 1203, 2523, 1715)
    with tifffile.TiffFile(picture.with_suffix(".ome.tif")) as tif:
        raster, about = tif.series[0].asarray(), tif.ome_metadata or ""
    assert np.argwhere(raster == 3).tolist() == [[5, 9], [6, 9]] and "tiles are not on one grid" in about


def test_two_tiles_next_to_one_corner_leave_the_hotter(tmp_path: Path) -> None:
    coords = np.array([[0, 0], [256, 0], [300, 0], [512, 300]])
    picture = drawn(tmp_path, coords, [1], level_dim=(600, 400))
    raster = tifffile.imread(picture.with_suffix(".ome.tif"))
    assert raster.shape == (2, 3) and raster[0, 1] == 3, "(512, 300) is clipped to the last row and column"
    assert raster[1, 2] == -1


def test_a_preview_without_a_slide_gives_the_reason(tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(drawn(tmp_path, COORDS, [3])) as image:
        assert image.size[0] > 1000
    assert read_receipt(tmp_path / "results/tiles/e/s.json")["dimensions"] == [2011 + 3 * 256, 1203 + 2 * 256]


@pytest.mark.parametrize(("step", "tile"), [(256, 256.0), (192, 256.0), (300, 256.0)])
def test_the_stride_is_the_commonest_distance_of_neighbours(step: int, tile: float) -> None:
    coords = np.concatenate([grid(5, 4, step, left=137, top=91), grid(1, 1, 1, left=140, top=91)])
    assert measured_stride(coords, (tile, tile)) == (step, step)
    assert measured_stride(coords[:1], (tile, tile)) == (tile, tile)
