import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import fsspec
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import GLASS, tissue_box, tissue_image, write_aperio
from tests.heatmap_files import write_scn
from wsi_mil.errors import MissingFileError, MissingMppError, SlideFormatError, SlideReadError, WsiMilError
from wsi_mil.geometry import Mpp
from wsi_mil.slides import Slide, open_slide, slide_hash
from wsi_mil.slides.openslide_reader import OpenSlideReader

READERS = ["jpeg_tiff", "openslide", "tiffslide"]


@pytest.mark.parametrize("reader", READERS)
def test_a_slide_has_its_dimensions_levels_and_mpp(slide: Path, reader: str) -> None:
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
def test_pixels_outside_the_slide_are_white(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened:
        region = opened.read_region((630, -5), (20, 10), 0.5)
    assert (region[:5] == 255).all() and (region[:, 10:] == 255).all() and (region[5:, :10] < 255).any()


@pytest.mark.parametrize("reader", READERS)
def test_a_slide_is_never_upsampled_silently(slide: Path, reader: str) -> None:
    with (
        open_slide(slide, reader) as opened,
        pytest.raises(SlideReadError, match=r"0\.5 µm per pixel, coarser than the requested 0\.25"),
    ):
        opened.read_region((0, 0), (8, 8), 0.25)


def test_an_overview_read_in_pieces_is_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(640, 448), levels=(1,))
    with open_slide(path) as opened:
        whole = opened.read_overview(2.0).image
        monkeypatch.setattr("wsi_mil.slides.slide.OVERVIEW_BLOCK_PX", 100)
        pieces = opened.read_overview(2.0, threads=3).image
    left, top, right, bottom = tissue_box(160, 112)
    assert whole.shape == (112, 160, 3) and np.abs(whole.astype(int) - pieces).max() <= 1
    assert whole[top + 2 : bottom - 2, left + 2 : right - 2, 1].max() < 200 < whole[: top - 2, :, 1].min()


def test_readers_agree(slide: Path) -> None:
    regions = []
    for reader in READERS:
        with open_slide(slide, reader) as opened:
            regions.append(opened.read_region((250, 40), (100, 60), 1.7).astype(int))
    assert all(np.abs(region - regions[0]).max() <= 1 for region in regions)


@pytest.mark.parametrize("reader", READERS)
def test_threads_read_the_same_as_one(slide: Path, reader: str) -> None:
    corners = [(x, y) for x in range(0, 600, 40) for y in range(0, 400, 40)]
    with open_slide(slide, reader) as opened, ThreadPoolExecutor(4) as pool:
        alone = [opened.read_region(c, (40, 40), 0.5) for c in corners]
        together = list(pool.map(lambda c: opened.read_region(c, (40, 40), 0.5), corners))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_text_file_named_svs_is_rejected_with_the_reason_and_the_expected_formats(tmp_path: Path) -> None:
    path = tmp_path / "no.svs"
    path.write_text("this is no slide")
    with pytest.raises(SlideFormatError, match=r"no\.svs: OpenSlide cannot open it.*; expected a slide.*`path` column"):
        open_slide(path)


def test_an_empty_file_and_a_folder_are_named_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideFormatError, match=r"empty\.svs: is empty \(0 bytes\); expected a slide"):
        open_slide(tmp_path / "empty.svs")
    with pytest.raises(SlideFormatError, match=r"is a folder; expected a slide"):
        open_slide(tmp_path)


def test_a_missing_file_is_not_recorded_as_damaged_data(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file; correct the sheet's `path` column"):
        open_slide(tmp_path / "gone.svs")


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide"])
def test_after_a_damaged_tile_the_others_can_still_be_read(tmp_path: Path, reader: str) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(640, 448), levels=(1,))
    damage_tile(path, 2)
    with open_slide(path, reader) as opened:
        before = opened.read_region((0, 0), (128, 128), 0.5)
        with pytest.raises(SlideReadError):
            opened.read_region((256, 0), (128, 128), 0.5)
        assert np.array_equal(opened.read_region((0, 0), (128, 128), 0.5), before)


def damage_tile(path: Path, number: int) -> None:
    """Overwrite the JPEG data of one level-0 tile."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        offset, size = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x00" * size)


def test_the_sheet_overrides_the_file(slide: Path) -> None:
    with open_slide(slide, mpp=0.25) as opened:
        assert opened.mpp == Mpp(0.25, 0.25) and opened.mpp_source == "sheet"
        assert "0.5 × 0.5 µm" in opened.resolution.notes[0]


def test_the_hash_sees_the_bytes_and_not_the_time(slide: Path) -> None:
    first = slide_hash(slide)
    slide.touch()
    assert slide_hash(slide) == first
    content = bytearray(slide.read_bytes())
    content[-1] ^= 1
    slide.write_bytes(content)
    assert slide_hash(slide) != first


@pytest.mark.parametrize("reader", READERS)
def test_a_slide_travels_to_another_process(slide: Path, reader: str) -> None:
    with open_slide(slide, reader, mpp=0.4) as opened, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        region = pool.submit(read_corner, opened).result()
        assert np.array_equal(region, read_corner(opened))


def read_corner(opened: Slide) -> np.ndarray:
    return opened.read_region((250, 40), (50, 30), 0.8)


def test_auto_takes_the_fast_reader_where_it_has_openslides_pixels(tmp_path: Path, slide: Path) -> None:
    with open_slide(slide) as opened:
        assert opened.reader == "jpeg_tiff" and opened.compression == "JPEG ycbcr"
    uncompressed = tmp_path / "raw.tiff"
    tifffile.imwrite(uncompressed, tissue_image(640, 448), tile=(128, 128), photometric="rgb")
    with open_slide(uncompressed) as opened:
        assert opened.reader == "openslide"


def test_auto_leaves_a_reader_that_decodes_otherwise(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = imagecodecs.jpeg8_decode
    monkeypatch.setattr("imagecodecs.jpeg8_decode", lambda *args, **kwargs: decode(*args, **kwargs) ^ 1)
    with open_slide(slide) as opened:
        assert opened.reader == "openslide"


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGBA"), ("a.jpg", "RGB"), ("a.bmp", "RGB"), ("a.png", "P")])
def test_a_plain_image_is_a_slide_of_one_level(tmp_path: Path, name: str, mode: str) -> None:
    image = Image.fromarray(tissue_image(320, 200)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.repeat([[0, 255]], [100, 220], axis=1).repeat(200, 0).astype(np.uint8)))
    image.save(tmp_path / name)
    with open_slide(tmp_path / name, mpp=0.5) as opened:
        assert (opened.reader, opened.level_dimensions) == ("image", ((320, 200),))
        region = opened.read_region((90, 180), (240, 30), 0.5)
        expected = np.full((30, 240, 3), 255, np.uint8)
        expected[:20, :230] = np.asarray(image.convert("RGB"))[180:, 90:]
        if mode == "RGBA":
            expected[:, :10] = 255
        assert np.abs(region.astype(int) - expected).max() <= (12 if name.endswith("jpg") else 0)


def test_the_mpp_of_a_plain_image_is_not_used(tmp_path: Path) -> None:
    Image.fromarray(tissue_image(320, 200)).save(tmp_path / "a.jpg", dpi=(300, 300))
    with open_slide(tmp_path / "a.jpg") as opened, pytest.raises(MissingMppError, match=r"a\.jpg.*`mpp` column"):
        _ = opened.mpp


def test_sixteen_bits_are_not_clipped_silently(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SlideFormatError, match="8 bits per channel"):
        open_slide(tmp_path / "deep.png")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_several_channels_are_not_cut_silently(channels: int, tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(np.full((20, 30, channels), 40_000, np.uint16)))
    with pytest.raises(SlideFormatError, match="8 bits per channel, but it has 16"):
        open_slide(tmp_path / "deep.png")


def test_damaged_parts_of_an_overview_stay_white_and_are_counted(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(3000, 1280), levels=(1,))
    damage_tile(path, 37)  # 24 to a row: x 1664 to 1792, y 128 to 256
    with open_slide(path) as opened:
        overview = opened.read_overview(4.0)
    assert 0 < overview.unreadable < 0.05
    assert (overview.image[20:28, 212:220] == 255).all() and overview.image[40:90, 190:300, 1].max() < 200


def test_too_much_damage_is_an_error(slide: Path) -> None:
    for number in range(0, 20, 3):
        damage_tile(slide, number)
    with open_slide(slide, "jpeg_tiff") as opened, pytest.raises(SlideReadError, match=r"cannot read \d+% of the slide"):
        opened.read_overview(0.5)


def test_a_url_is_read_in_place(slide: Path) -> None:
    fsspec.filesystem("memory").pipe("/deep/slide.svs", slide.read_bytes())
    with open_slide("memory://deep/slide.svs") as remote, open_slide(slide, "tiffslide") as local:
        assert np.array_equal(remote.read_region((250, 40), (64, 48), 1.0), local.read_region((250, 40), (64, 48), 1.0))
        assert remote.mpp == local.mpp
    assert slide_hash("memory://deep/slide.svs") == slide_hash(slide)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://nowhere/a.svs", "cannot be reached"),
        ("gopher://old/a.svs", "gopher"),
        ("http://127.0.0.1:9/a.svs", "127.0.0.1:9"),
    ],
)
def test_an_unreachable_url_is_one_sentence_that_names_it(url: str, reason: str) -> None:
    with pytest.raises(WsiMilError, match=reason) as caught:
        open_slide(url)
    assert "\n" not in str(caught.value) and "`path` column" in str(caught.value)


def test_a_mirax_slide_is_its_folder_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a.mrxs").write_bytes(b"head")
    (tmp_path / "a" / "Data0001.dat").write_bytes(b"tiles")
    first = slide_hash(tmp_path / "a.mrxs")
    (tmp_path / "other.dat").write_bytes(b"not of this slide")
    assert slide_hash(tmp_path / "a.mrxs") == first
    (tmp_path / "a" / "Data0001.dat").write_bytes(b"telis")
    assert slide_hash(tmp_path / "a.mrxs") != first


def test_a_dicom_slide_is_all_files_of_its_series(tmp_path: Path) -> None:
    for name, series, body in (("1", b"1.2.3\0", b"a"), ("2", b"1.2.3\0", b"b"), ("3", b"1.2.4\0", b"c")):
        head = bytes(128) + b"DICM" + b"\x20\x00\x0e\x00UI" + len(series).to_bytes(2, "little") + series
        (tmp_path / f"{name}.dcm").write_bytes(head + body)
    first = slide_hash(tmp_path / "1.dcm")
    (tmp_path / "3.dcm").write_bytes(b"changed")
    assert slide_hash(tmp_path / "1.dcm") == first
    with (tmp_path / "2.dcm").open("ab") as file:
        file.write(b"more")
    assert slide_hash(tmp_path / "1.dcm") != first


@pytest.mark.parametrize("reader", ["openslide", "jpeg_tiff"])
def test_a_disk_that_drops_out_is_no_fault_of_the_slide(slide: Path, reader: str) -> None:
    with open_slide(slide, reader) as opened:
        damage_tile(slide, 2)
        slide.rename(slide.with_suffix(".away"))
        with pytest.raises(MissingFileError):
            OpenSlideReader.read_region(opened, (256, 0), (128, 128), 0.5) if reader == "openslide" else reopened(opened)


def reopened(opened: Slide) -> Slide:
    return open_slide(opened.path, opened.reader)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "RGB"])
def test_an_untiled_tiff_has_its_colours_with_any_photometric_interpretation(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (60, 40), (200, 100, 180))
    image.paste((40, 160, 60), (10, 5, 30, 20))
    image.convert(mode).save(tmp_path / "a.tif")
    with open_slide(tmp_path / "a.tif", mpp=0.5) as opened:
        region = opened.read_region((0, 0), (60, 40), 0.5).astype(int)
    expected = np.asarray(image.convert(mode).convert("RGB")).astype(int)
    assert np.abs(region - expected).max() <= 1


def write_pages(path: Path, *pages: tuple[np.ndarray, int]) -> Path:
    """A generic TIFF of JPEG tiles: images, and whether each is a reduced one."""
    with tifffile.TiffWriter(path) as tif:
        for image, is_reduced in pages:
            how = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "tile": (128, 128)}
            tif.write(image, subfiletype=is_reduced, **how)
    return path


def test_another_page_of_a_levels_size_is_not_taken_for_it(tmp_path: Path) -> None:
    whole = tissue_image(1025, 770)
    level, other = whole[: 770 // 2 * 2 : 2, :1024:2].copy(), np.full((385, 512, 3), (20, 200, 20), np.uint8)
    path = write_pages(tmp_path / "a.tiff", (whole, 0), (other, 0), (level, 1))
    with open_slide(path, "openslide", mpp=0.5) as expected, open_slide(path, mpp=0.5) as opened:
        assert opened.reader == "jpeg_tiff" and (512, 385) in opened.level_dimensions
        region, same = (s.read_region((300, 100), (100, 80), 1.01).astype(int) for s in (opened, expected))
    assert np.abs(region - same).mean() < 2 and region[..., 0].min() > 100


@pytest.mark.parametrize("reader", READERS)
def test_a_level_of_uneven_size_is_read_at_its_place(tmp_path: Path, reader: str) -> None:
    whole = np.full((1505, 2001, 3), GLASS, np.uint8)
    whole[640:660, 1200:1230] = (20, 200, 20)
    level = np.asarray(Image.fromarray(whole).resize((501, 377), Image.Resampling.BOX))
    path = write_pages(tmp_path / "a.tiff", (whole, 0), (level, 1))
    with open_slide(path, reader, mpp=0.25) as opened:
        for left in range(1100, 1190, 7):
            green = opened.read_region((left, 600), (50, 30), 1.0)[..., 0] < 130
            rows, columns = np.nonzero(green)
            assert abs(columns.mean() + 0.5 - (1215 - left) / 4) < 0.6 and abs(rows.mean() + 0.5 - (650 - 600) / 4) < 0.6


def test_bounds_are_those_of_the_scanned_area(tmp_path: Path, slide: Path) -> None:
    path = write_scn(tmp_path / "a.scn", tissue_image(640, 448), corner=(192, 1024), dimensions=(1600, 2080))
    with open_slide(path) as scanned, open_slide(slide) as whole:
        assert scanned.bounds == (192, 1024, 640, 448) and scanned.dimensions == (1600, 2080)
        assert whole.bounds is None
