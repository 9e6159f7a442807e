from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import GLASS, tissue_box, tissue_image, write_aperio
from tests.heatmap_files import write_scn
from wsi_mil.errors import MissingFileError, MissingMppError, SlideFormatError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.slides import open_slide, resolve_mpp, slide_hash

READERS = ["openslide", "tiffslide"]


@pytest.mark.parametrize("reader", READERS)
def test_a_slide_says_its_dimensions_levels_and_mpp(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened:
        assert opened.reader == reader
        assert opened.dimensions == (640, 448)
        assert opened.level_dimensions == ((640, 448), (160, 112))
        assert opened.mpp == Mpp(0.5, 0.5)


@pytest.mark.parametrize("reader", READERS)
def test_a_region_is_cut_at_x_y_not_y_x(tmp_path: Path, reader: str) -> None:
    image = np.full((448, 640, 3), GLASS, np.uint8)
    image[64:96, 320:384] = (200, 30, 30)
    with open_slide(write_aperio(tmp_path / "a.svs", image), reader) as opened:
        region = opened.read_region((320, 64), (64, 32), 0.5)
    assert region.shape == (32, 64, 3) and np.abs(region[4:-4, 4:-4].astype(int) - (200, 30, 30)).max() < 5


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mpp", [0.5, 1.0, 1.3, 2.0, 3.7])
def test_a_coarser_region_is_the_area_mean(slide: Path, reader: str, mpp: float) -> None:
    with open_slide(slide, reader) as opened:
        fine = opened.read_region((240, 32), (260, 260), 0.5).astype(float)
        n = int(260 * 0.5 / mpp)
        coarse = opened.read_region((240, 32), (n, n), mpp).astype(float)
    side = round(n * mpp / 0.5)
    assert np.abs(coarse.mean((0, 1)) - fine[:side, :side].mean((0, 1))).max() < 2


@pytest.mark.parametrize("reader", READERS)
def test_a_halved_region_is_the_mean_of_two_by_two(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened:
        fine = opened.read_region((300, 100), (64, 32), 0.5).astype(float)
        half = opened.read_region((300, 100), (32, 16), 1.0)
    assert np.abs(half - fine.reshape(16, 2, 32, 2, 3).mean((1, 3))).max() <= 0.5


@pytest.mark.parametrize("reader", READERS)
def test_what_lies_outside_is_white(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened:
        region = opened.read_region((630, -5), (20, 10), 0.5)
    assert (region[:5] == 255).all() and (region[:, 10:] == 255).all() and (region[5:, :10] < 255).any()


@pytest.mark.parametrize("reader", READERS)
def test_nothing_is_enlarged_silently(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened, pytest.raises(SlideReadError, match=r"0\.5 µm per pixel, coarser than the 0\.25"):
        opened.read_region((0, 0), (8, 8), 0.25)


def test_an_overview_read_in_pieces_is_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(640, 448), levels=(1,))
    with open_slide(path) as opened:
        whole = opened.read_overview(2.0)
        monkeypatch.setattr("wsi_mil.slides.slide.OVERVIEW_BLOCK_PX", 100)
        pieces = opened.read_overview(2.0)
    left, top, right, bottom = tissue_box(160, 112)
    assert whole.shape == (112, 160, 3) and np.abs(whole.astype(int) - pieces).max() <= 1
    assert whole[top + 2 : bottom - 2, left + 2 : right - 2, 1].max() < 200 < whole[: top - 2, :, 1].min()


def test_readers_agree(slide: Path) -> None:
    regions = []
    for reader in READERS:
        with open_slide(slide, reader) as opened:
            regions.append(opened.read_region((250, 40), (100, 60), 1.7).astype(int))
    assert np.abs(regions[0] - regions[1]).max() <= 1


@pytest.mark.parametrize("reader", READERS)
def test_threads_read_what_one_reads(slide: Path, reader: str) -> None:
    corners = [(x, y) for x in range(0, 600, 40) for y in range(0, 400, 40)]
    with open_slide(slide, reader) as opened, ThreadPoolExecutor(4) as pool:
        alone = [opened.read_region(c, (40, 40), 0.5) for c in corners]
        together = list(pool.map(lambda c: opened.read_region(c, (40, 40), 0.5), corners))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_text_file_named_svs_is_refused_with_the_reason_of_each_reader(tmp_path: Path) -> None:
    path = tmp_path / "no.svs"
    path.write_text("this is no slide")
    with pytest.raises(SlideFormatError, match=r"OpenSlide cannot open it.*tiffslide cannot open it"):
        open_slide(path)


def test_a_file_that_is_not_there_is_no_lasting_fault_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        open_slide(tmp_path / "gone.svs")


def test_after_a_damaged_tile_the_others_can_still_be_read(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(640, 448), levels=(1,))
    damage_tile(path, 2)
    with open_slide(path, "openslide") as opened:
        before = opened.read_region((0, 0), (128, 128), 0.5)
        with pytest.raises(SlideReadError):
            opened.read_region((256, 0), (128, 128), 0.5)
        assert np.array_equal(opened.read_region((0, 0), (128, 128), 0.5), before)


def damage_tile(path: Path, number: int) -> None:
    """Overwrite the JPEG data of one level-0 tile."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        offset, size = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x00" * size)


def test_the_sheet_overrides_the_file(slide: Path) -> None:
    with open_slide(slide, mpp=0.25) as opened:
        assert opened.mpp == Mpp(0.25, 0.25) and opened.mpp_source == "sheet"


@pytest.mark.parametrize("nonsense", ["896.056", "0.001", "none"])
def test_a_nonsense_mpp_counts_as_missing(nonsense: str) -> None:
    properties = {"openslide.mpp-x": nonsense, "openslide.mpp-y": nonsense}
    with pytest.raises(MissingMppError, match="`mpp` column"):
        resolve_mpp(None, properties, Path("a.tiff"))


def test_the_hash_sees_the_bytes_and_not_the_time(slide: Path) -> None:
    first = slide_hash(slide)
    slide.touch()
    assert slide_hash(slide) == first
    content = bytearray(slide.read_bytes())
    content[-1] ^= 1
    slide.write_bytes(content)
    assert slide_hash(slide) != first


def test_real_slides_open_with_both_readers_alike(shared_slides: Path) -> None:
    regions = []
    for reader in READERS:
        with open_slide(shared_slides / "CMU-1-Small-Region.svs", reader) as opened:
            regions.append(opened.read_region((900, 1200), (224, 200), 1.0).astype(int))
    assert np.abs(regions[0] - regions[1]).max() <= 1


def test_bounds_are_where_the_scanned_part_lies(tmp_path: Path, slide: Path) -> None:
    path = write_scn(tmp_path / "a.scn", tissue_image(640, 448), corner=(192, 1024), dimensions=(1600, 2080))
    with open_slide(path) as scanned, open_slide(slide) as whole:
        assert scanned.bounds == (192, 1024, 640, 448) and scanned.dimensions == (1600, 2080)
        assert whole.bounds is None
