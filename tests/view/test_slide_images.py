import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_aperio
from tests.view.made import BLUE, MARKER, Results, marked_image
from wsi_mil.errors import SlideError
from wsi_mil.records import SlideRow
from wsi_mil.slides import Slide, slide_hash
from wsi_mil.view.deepzoom import View
from wsi_mil.view.open_slides import OpenSlides
from wsi_mil.view.slide_images import SlideImages


def open_files() -> int:
    gc.collect()  # slides of earlier tests may still be open in reference cycles
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_number_of_open_slides_is_limited(tmp_path: Path) -> None:
    rows = [SlideRow(f"s{i}", write_aperio(tmp_path / f"s{i}.svs", marked_image()[:256, :256])) for i in range(5)]
    slides, before = OpenSlides(most=2), open_files()

    def read(row: SlideRow) -> int:
        with slides.borrowed(row, "auto") as slide:
            return int(slide.read_region((0, 0), (8, 8), 1.0)[0, 0, 0])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, rows * 20))
    assert len(set(found)) == 1
    with slides.borrowed(rows[0], "auto"), slides.borrowed(rows[1], "auto"), slides.borrowed(rows[2], "auto"):
        pass  # used ones are not closed under their users
    files_a_slide = 2
    assert open_files() - before <= 2 * files_a_slide
    slides.close()
    assert open_files() == before


def test_a_slide_that_cannot_be_opened_raises_every_time(tmp_path: Path) -> None:
    (tmp_path / "s.svs").write_text("no slide")
    slides = OpenSlides()
    for _ in range(2):
        with pytest.raises(SlideError), slides.borrowed(SlideRow("s", tmp_path / "s.svs"), "auto"):
            pass


def test_a_region_is_exact_in_level0_pixels_whatever_the_resolution(made: Results) -> None:
    x, y = MARKER
    image = SlideImages().region(made.catalogue(), "s1", View((x - 8, y - 4), (40, 36), 2)).astype(int)
    is_blue = np.abs(image - BLUE).max(axis=2) < 60
    assert is_blue[2:34, 4:36].all() and is_blue.sum() == 32 * 32


def test_a_slide_that_was_never_tiled_is_shown_if_it_opens(made: Results) -> None:
    made.add_failed("empty", "no tissue", status="empty")
    write_aperio(made.folder / "empty.svs", marked_image()[:300, :700])
    image = SlideImages().find(made.catalogue(), "empty")
    assert image.dimensions == (700, 300) and image.note == "" and image.mpp is None


def test_memory_of_open_plain_images_is_limited(tmp_path: Path) -> None:
    """Each holds 100 × 60 pixels; 13,000 may be held, and a quarter of it while another is opened."""
    rows = [SlideRow(f"p{i}", tmp_path / f"p{i}.png") for i in range(4)]
    for row in rows:
        Image.fromarray(marked_image()[:60, :100]).save(row.path)
    slides = OpenSlides(most=9, most_px=13_000)

    def opened(number: int) -> Slide:
        with slides.borrowed(rows[number], "image") as slide:
            return slide

    first = opened(0)
    assert first.resident_pixels == 6000 and opened(0) is first  # it stays open
    second = opened(1)
    assert (first.resident_pixels, second.resident_pixels) == (0, 6000)  # to make room for the second
    with slides.borrowed(rows[1], "image") as used, slides.borrowed(rows[2], "image") as other:
        assert (used.resident_pixels, other.resident_pixels) == (6000, 6000)  # what is used stays
        with slides.borrowed(rows[3], "image"):
            pass
        assert used.resident_pixels and other.resident_pixels
    slides.close()
    assert used.resident_pixels == other.resident_pixels == 0


def test_a_plain_image_too_large_for_memory_is_shown_as_its_thumbnail(made: Results) -> None:
    slide = made.add_marked("s1", scored=False)
    made.rows.pop()
    slide.tiles |= {"reader": "image"}
    slide.dimensions = (20_000, 14_000)
    slide.slide_hash = slide_hash(made.folder / "s1.svs")
    made.write_tiles(slide)
    image = SlideImages().find(made.catalogue(), "s1")
    assert image.version == "thumbnail" and image.dimensions == (20_000, 14_000)
    assert "plain image of 20000 × 14000 pixels" in image.note and "tiled TIFF" in image.note


def test_a_slide_deleted_while_it_is_viewed_is_reported_as_gone(made: Results) -> None:
    images, catalogue, place = SlideImages(), made.catalogue(), (4, 0, 0)
    before = images.find(catalogue, "s1")
    images.tile(catalogue, "s1", before.version, place)
    slide = (made.folder / "s1.svs").rename(made.folder / "elsewhere.svs")
    gone = images.find(catalogue, "s1")
    assert before.note == "" and gone.version == "thumbnail" and "the slide file is gone" in gone.note
    slide.rename(made.folder / "s1.svs")
    assert images.find(catalogue, "s1").version == before.version


def test_after_a_file_is_replaced_its_new_pixels_are_shown(made: Results) -> None:
    row, slides = made.catalogue().row("s1"), OpenSlides()
    with slides.borrowed(row, "auto") as slide:
        before = slide.dimensions
    row.path.unlink()
    write_aperio(row.path, marked_image()[:300, :700])
    with slides.borrowed(row, "auto") as slide:
        assert before == (1600, 1120) and slide.dimensions == (700, 300)
