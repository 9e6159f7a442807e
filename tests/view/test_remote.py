"""Slides on a server in the viewer."""

from pathlib import Path

import numpy as np

from tests.conftest import tissue_image, write_aperio
from tests.servers import file_server
from wsi_mil.config import TileSettings
from wsi_mil.records import SlideRow
from wsi_mil.tile import tile_slide
from wsi_mil.view.catalogue import Catalogue
from wsi_mil.view.deepzoom import View
from wsi_mil.view.slide_images import THUMBNAIL, SlideImages

SETTINGS = TileSettings.model_validate({"tiling": {"tile_px": 64}, "tissue": {"mpp": 4.0, "min_area_um2": 1000}})


def test_a_slide_on_a_server_is_shown_or_its_thumbnail_if_the_server_is_silent(tmp_path: Path) -> None:
    with file_server(tmp_path / "served") as files:
        write_aperio(files.folder / "slide.svs", tissue_image(640, 448))
        row = SlideRow("s", f"{files.url}/slide.svs")
        tile_slide(row, SETTINGS, tmp_path / "r" / "tiles" / "default" / "s.json")
        catalogue, images = Catalogue(tmp_path / "r", rows={"s": row}), SlideImages()
        image = images.find(catalogue, "s")
        assert (image.note, image.dimensions, image.reader) == ("", (640, 448), "tiffslide")
        region = images.region(catalogue, "s", View(corner=(320, 96), size=(64, 48), downsample=1))
        assert region.shape == (48, 64, 3) and region.std() > 10
        images.close()
        files.answers["slide.svs"] = [404]
        gone = SlideImages().find(catalogue, "s")
        assert gone.version == THUMBNAIL and "gone" in gone.note
        files.answers["slide.svs"] = [401]
        refused = SlideImages()
        assert "credentials" in refused.find(catalogue, "s").note
        seen = refused.region(catalogue, "s", View(corner=(0, 0), size=(80, 56), downsample=8))
        assert np.asarray(seen).std() > 10, "the picture that was kept"
