import pytest

from wsi_mil.errors import UnknownNameError
from wsi_mil.view.deepzoom import Pyramid, View


def test_levels_of_a_slide_counted_by_hand() -> None:
    pyramid = Pyramid((640, 448))  # 2^10 is the first power of two that holds 640
    assert pyramid.max_level == 10
    assert pyramid.size(10) == (640, 448) and pyramid.size(8) == (160, 112)
    assert pyramid.size(3) == (5, 4)  # 640/128 = 5, 448/128 = 3.5
    assert pyramid.size(0) == (1, 1)
    assert [pyramid.downsample(level) for level in (10, 9, 0)] == [1, 2, 1024]


def test_tiles_at_the_edges_counted_by_hand() -> None:
    pyramid = Pyramid((640, 448))
    assert pyramid.view(10, 2, 1) == View((512, 256), (128, 192), 1)
    assert pyramid.view(9, 1, 0) == View((512, 0), (64, 224), 2)
    assert pyramid.view(9, 1, 0).extent == (128, 448)


def test_tiles_of_a_level_cover_it_once() -> None:
    pyramid = Pyramid((1000, 700))
    for level in range(pyramid.max_level + 1):
        width, height = pyramid.size(level)
        columns, rows = -(-width // 256), -(-height // 256)
        views = [pyramid.view(level, x, y) for y in range(rows) for x in range(columns)]
        assert sum(v.size[0] * v.size[1] for v in views) == width * height
        with pytest.raises(UnknownNameError):
            pyramid.view(level, columns, 0)
        with pytest.raises(UnknownNameError):
            pyramid.view(level, 0, rows)


@pytest.mark.parametrize("place", [(11, 0, 0), (-1, 0, 0), (10, -1, 0), (10, 0, -1)])
def test_there_are_no_tiles_outside_the_slide(place: tuple[int, int, int]) -> None:
    with pytest.raises(UnknownNameError):
        Pyramid((640, 448)).view(*place)


def test_a_slide_of_one_pixel_has_one_level() -> None:
    assert Pyramid((1, 1)).view(0, 0, 0) == View((0, 0), (1, 1), 1)


@pytest.mark.parametrize(("downsample", "level"), [(0.5, 10), (1, 10), (1.99, 10), (2, 9), (7.9, 8), (8, 7), (10_000, 0)])
def test_the_level_is_at_least_as_fine_as_requested(downsample: float, level: int) -> None:
    assert Pyramid((640, 448)).level_of(downsample) == level
