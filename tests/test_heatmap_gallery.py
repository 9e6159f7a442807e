from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio
from tests.heatmap_files import Made
from wsi_mil.config import Heatmap
from wsi_mil.heatmaps import draw_heatmap
from wsi_mil.heatmaps.colour_maps import colours
from wsi_mil.heatmaps.gallery import CELL_PX, GAP_PX, TILE_PX, GalleryTile, gallery_tiles, read_gallery_tiles, top_and_bottom
from wsi_mil.heatmaps.slide_scores import SlideScores, read_slide_scores
from wsi_mil.records import SlideRow
from wsi_mil.slides import slide_hash

LOPSIDED = np.array([[x, y] for y in range(0, 448, 64) for x in range(0, 640, 64)])
GREEN = (0, 200, 0)


def scored(slide: Made, folder: Path) -> SlideScores:
    return read_slide_scores(SlideRow("s", Path("x")), *slide.write(folder), slide.method, scale="auto", ranges={})


def on_a_slide(folder: Path, values: np.ndarray, *, mpp: float = 0.5) -> tuple[Made, Path]:
    """Scores of an Aperio slide that claims `mpp` and whose tile at (448, 64) is green."""
    image = tissue_image(640, 448)
    image[64:128, 448:512] = GREEN
    path = write_aperio(folder / "a.svs", image, mpp=mpp)
    return Made(LOPSIDED, values, slide_hash=slide_hash(path)), path


def gallery_of(slide: Made, path: Path, folder: Path, **settings: object) -> Path:
    image = folder / "h" / "evidence.png"
    draw_heatmap(SlideRow("s", path), *slide.write(folder), "evidence", Heatmap(**settings), image)
    return image.with_suffix(".tiles.png")


def seen(scores: SlideScores, path: Path, n: int) -> tuple[str, list[GalleryTile]]:
    tiles = read_gallery_tiles(SlideRow("s", path), [scores], n)
    return gallery_tiles(scores, tiles, np.concatenate(top_and_bottom(scores, n)), "viridis")


def mean_colour(cell: GalleryTile) -> np.ndarray:
    return np.asarray(cell.image).mean(axis=(0, 1))


def test_top_and_bottom_are_sorted_by_score_then_position(tmp_path: Path) -> None:
    values = np.zeros(70, np.float32)
    values[[40, 5, 9]] = 7, 2, 2
    values[[60, 33]] = -1
    values[17] = np.nan
    coords = LOPSIDED.copy()
    coords[[0, 69]] = coords[[69, 0]]  # rows of a store need not be in order
    top, bottom = top_and_bottom(scored(Made(coords, values), tmp_path), 4)
    assert top.tolist() == [40, 5, 9, 69] and bottom.tolist() == [33, 60, 1, 2]


@pytest.mark.parametrize(("n_tiles", "top", "bottom"), [(1, [0], []), (2, [0], [1]), (5, [0, 1, 2], [4, 3]), (0, [], [])])
def test_no_tile_is_in_both_top_and_bottom(tmp_path: Path, n_tiles: int, top: list, bottom: list) -> None:
    slide = scored(Made(LOPSIDED[:n_tiles], -np.arange(n_tiles, dtype=np.float32)), tmp_path)
    assert [end.tolist() for end in top_and_bottom(slide, 8)] == [top, bottom]


def test_the_first_tile_is_the_hottest_with_its_pixels_score_and_position(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 70).astype(np.float32)
    values[17] = 3
    slide, path = on_a_slide(tmp_path, values)
    note, cells = seen(scored(slide, tmp_path), path, 2)
    assert not note and [(c.score, c.corner) for c in cells[:1]] == [(3.0, (448, 64))] and len(cells) == 4
    assert cells[0].image.size == (TILE_PX, TILE_PX) and np.allclose(mean_colour(cells[0]), GREEN, atol=12)
    with Image.open(gallery_of(slide, path, tmp_path, gallery=2)) as image:
        pixels = np.asarray(image).astype(int)
    green = np.argwhere(abs(pixels - GREEN).max(axis=2) < 60)
    assert green[:, 1].max() < GAP_PX + CELL_PX and len(green) == pytest.approx(TILE_PX**2, rel=0.1)
    hottest = np.array(colours(np.array([1.0]), "viridis")[0])
    assert (pixels == hottest).all(axis=2).any(), "its frame has the colour that it has in the heatmap"


def test_tiles_are_read_at_the_receipts_resolution_not_the_files(tmp_path: Path) -> None:
    slide, path = on_a_slide(tmp_path, np.eye(70, dtype=np.float32)[17], mpp=0.25)  # the green tile is the hottest
    scores = scored(slide, tmp_path)
    assert scores.tile_receipt["mpp"] == [0.5, 0.5]
    assert np.allclose(mean_colour(seen(scores, path, 1)[1][0]), GREEN, atol=12)
    scores.tile_receipt["mpp"] = [0.25, 0.25]
    assert not np.allclose(mean_colour(seen(scores, path, 1)[1][0]), GREEN, atol=40)


@pytest.mark.parametrize("fault", ["gone", "another", "unreadable"])
def test_a_slide_that_cannot_be_read_is_reported(tmp_path: Path, fault: str) -> None:
    slide, path = on_a_slide(tmp_path, np.arange(70, dtype=np.float32))
    whole = gallery_of(slide, path, tmp_path).read_bytes()
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no slide" if fault == "unreadable" else path.read_bytes() + b" ")
        slide.slide_hash = slide_hash(path) if fault == "unreadable" else slide.slide_hash
    note, cells = seen(scored(slide, tmp_path), path, 3)
    words = {
        "gone": "the slide file is gone",
        "another": "is not the file that was tiled",
        "unreadable": "OpenSlide cannot open it",
    }
    assert words[fault] in note and len(cells) == 6 and all(cell.image is None for cell in cells)
    assert gallery_of(slide, path, tmp_path).read_bytes() != whole


def test_a_tile_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    slide, path = on_a_slide(tmp_path, np.zeros(70, np.float32))
    note, _ = seen(scored(slide, tmp_path), path, 35)
    assert not note
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xd8\xff", len(content) // 3)
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    slide.slide_hash = slide_hash(path)
    note, cells = seen(scored(slide, tmp_path), path, 35)
    missing = sum(cell.image is None for cell in cells)
    assert 0 < missing < 70 and note.startswith(f"{missing} of these tiles cannot be read")


def test_if_nothing_is_shown_only_the_reason_is_drawn(tmp_path: Path) -> None:
    slide, path = on_a_slide(tmp_path, np.full(70, np.nan))
    slide.unit, slide.reason = "", "predicted negative"
    with Image.open(gallery_of(slide, path, tmp_path)) as image:
        assert image.height < TILE_PX and np.ptp(np.asarray(image)) > 100


def test_no_gallery_is_written_if_it_is_turned_off(tmp_path: Path) -> None:
    slide, path = on_a_slide(tmp_path, np.arange(70, dtype=np.float32))
    assert gallery_of(slide, path, tmp_path).exists() and not gallery_of(slide, path, tmp_path, gallery=0).exists()
