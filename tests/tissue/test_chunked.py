import subprocess
import sys
import threading

import numpy as np
import pytest
from skimage.filters import gaussian

from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.tissue import TissueFinder, TissueMask, chunked
from wsi_mil.tissue.finder import overview_of, whole_mask

HEIGHT, WIDTH = 330, 470
MPP = Mpp(1.0, 1.25)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Tissue in pieces and with holes of all sizes, a blue stroke across."""
    rng = np.random.default_rng(3)
    field = gaussian(rng.normal(size=(HEIGHT, WIDTH)), 6)
    pixels = np.where((field > 0.3 * field.std())[..., np.newaxis], (205.0, 140.0, 180.0), 243.0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels[np.abs(columns - 0.6 * rows - 60) < 40] = (30, 60, 170)
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def finder_of(image: np.ndarray, settings: Tissue) -> TissueFinder:
    overview = overview_of(image, MPP)
    scale = WIDTH / overview.shape[1], HEIGHT / overview.shape[0]
    return TissueFinder.from_overview(overview, settings, Mpp(MPP.x * scale[0], MPP.y * scale[1]))


def unpacked(tissue: TissueMask) -> np.ndarray:
    mask = np.zeros(tissue.shape, bool)
    for piece in tissue.pieces:
        mask[piece.window.top : piece.window.bottom, piece.window.left : piece.window.right] = piece.mask()
    return mask


@pytest.mark.parametrize("method", ["saturation_otsu", "glass_distance"])
@pytest.mark.parametrize("side", [61, 150])
def test_a_mask_made_in_chunks_is_the_whole_one(
    image: np.ndarray, side: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Tissue(method=method, min_area_um2=1500, max_hole_um2=1000)
    finder = finder_of(image, settings)
    monkeypatch.setattr(chunked, "LEAST_SIDE_PX", side)
    memory = 2 * chunked.BYTES_PER_PX * (side + 2 * finder.halo_px(image.shape[:2]) + 1) ** 2
    read_px = []

    def read(location: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, float]:
        read_px.append(size[0] * size[1])
        return image[location[1] : location[1] + size[1], location[0] : location[0] + size[0]], 3.0

    tissue, unread = chunked.chunked_mask(read, image.shape[:2], finder, threads=2, memory_bytes=memory)
    whole = whole_mask(image, finder)
    loose = whole_mask(image, finder_of(image, settings.model_copy(update={"min_area_um2": 0, "max_hole_um2": 0})))
    assert len(tissue.pieces) >= 9
    assert whole.mean() > 0.1 and (loose & ~whole).any() and (whole & ~loose).any()
    assert (unpacked(tissue) == whole).all() and unread == 3 * len(read_px) / whole.size
    assert max(read_px) * 2 * chunked.BYTES_PER_PX <= memory


def test_a_spiral_through_many_chunks_is_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "LEAST_SIDE_PX", 40)
    image = np.full((200, 310, 3), 243, np.uint8)
    for margin in range(0, 60, 20):
        image[margin : 200 - margin, margin : 310 - margin] = (205, 140, 180)
        image[margin + 10 : 190 - margin, margin + 10 : 300 - margin] = 243
        image[margin + 10 : margin + 20, 150:160] = (205, 140, 180)  # to the next ring in
    settings = Tissue(min_area_um2=1.2e6, max_hole_um2=0)  # the three rings have 24,000 px of 64 µm² together, 10,000 the largest
    finder = TissueFinder.from_overview(image, settings, Mpp(8.0, 8.0))
    memory = chunked.BYTES_PER_PX * (40 + 2 * finder.halo_px((200, 310)) + 1) ** 2

    def read(location: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, float]:
        return image[location[1] : location[1] + size[1], location[0] : location[0] + size[0]], 3.0

    tissue, _ = chunked.chunked_mask(read, (200, 310), finder, threads=1, memory_bytes=memory)
    assert unpacked(tissue)[5, 5] and (unpacked(tissue) == whole_mask(image, finder)).all()


def test_bare_glass_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((400, 700, 3), 243, np.uint8)
    image[60:160, 450:650] = (205, 140, 180)
    monkeypatch.setattr(chunked, "LEAST_SIDE_PX", 100)
    finder = TissueFinder.from_overview(image, Tissue(), Mpp(8.0, 8.0))
    memory = chunked.BYTES_PER_PX * (100 + 2 * finder.halo_px((400, 700)) + 1) ** 2
    corners = []

    def read(location: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, float]:
        corners.append(location)
        return image[location[1] : location[1] + size[1], location[0] : location[0] + size[0]], 3.0

    chunked.chunked_mask(read, (400, 700), finder, threads=1, memory_bytes=memory)
    assert corners and min(x for x, _ in corners) > 300 and max(y for _, y in corners) < 200


def test_too_little_memory_is_an_error_that_names_the_need() -> None:
    finder = TissueFinder.from_overview(np.full((20, 30, 3), 243, np.uint8), Tissue(), Mpp(8.0, 8.0))
    with pytest.raises(ValueError, match=r"needs \d+ bytes, got 1000"):
        chunked.chunked_mask(lambda location, size: (np.empty(0), 0.0), (600, 900), finder, threads=4, memory_bytes=1000)


def test_more_threads_than_the_memory_has_room_for_are_not_used() -> None:
    finder = TissueFinder.from_overview(np.full((20, 30, 3), 243, np.uint8), Tissue(), Mpp(8.0, 8.0))
    at_work: list[int] = []

    def read(location: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, float]:
        at_work.append(threading.get_ident())
        return np.full((size[1], size[0], 3), 243, np.uint8), 0.0

    mask, _ = chunked.chunked_mask(read, (600, 900), finder, threads=32, memory_bytes=16 << 20)
    assert mask.share == 0 and len(set(at_work)) <= 1


def test_dask_is_not_imported_for_masks_in_memory() -> None:
    code = "import sys, wsi_mil.tissue; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
