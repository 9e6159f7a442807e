import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import tissue_box, tissue_image, write_aperio
from wsi_mil.config import TileSettings
from wsi_mil.errors import MaskError
from wsi_mil.geometry import Window
from wsi_mil.slides import open_slide
from wsi_mil.tile.supplied import read_annotated_regions, read_supplied_mask

WIDTH, HEIGHT = 640, 448


def write_classes(path: Path, **boxes: tuple[int, int, int, int]) -> Path:
    """A rectangle (left, top, right, bottom) of each class."""
    features = []
    for name, (left, top, right, bottom) in boxes.items():
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        about = {"objectType": "annotation", **({"classification": {"name": name}} if name != "none" else {})}
        features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": about})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def labels(width: int, height: int, *, inside: int = 1, outside: int = 0) -> np.ndarray:
    """The tissue of `tissue_image` as labels."""
    image = np.full((height, width), outside, np.uint8)
    left, top, right, bottom = tissue_box(width, height)
    image[top:bottom, left:right] = inside
    return image


def mask_of(slide: Path, path: Path, **tissue: object) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """Mask of 112 × 160, why it is empty, and notes."""
    with open_slide(slide, "auto") as opened:
        found = read_supplied_mask(opened, path, TileSettings.model_validate({"tissue": tissue}), (112, 160))
    return found.mask.part(Window(0, 0, 160, 112)), found.why_empty, found.notes


TRUTH = labels(160, 112) > 0


@pytest.mark.parametrize("size", [(640, 448), (320, 224), (161, 112), (160, 113), (80, 56)])
def test_a_label_image_of_any_scale_covers_its_slide(slide: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(labels(*size) * 255).save(tmp_path / "a.png")
    mask, why, notes = mask_of(slide, tmp_path / "a.png")
    assert (mask & TRUTH).sum() / (mask | TRUTH).sum() > 0.95 and (why, notes) == ("", ())


@pytest.mark.parametrize("size", [(448, 640), (640, 440), (160, 117), (300, 224)])
def test_a_label_image_of_another_shape_is_rejected_with_both_sizes(slide: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(labels(*size)).save(tmp_path / "a.png")
    expected = rf"a.png: must have the aspect ratio of the slide .640 × 448 px., but has {size[0]} × {size[1]} px.*`mask` column"
    with pytest.raises(MaskError, match=expected):
        mask_of(slide, tmp_path / "a.png")


def test_values_of_tissue_can_be_named(slide: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", labels(160, 112, inside=1, outside=7), tile=(64, 64))
    assert (mask_of(slide, tmp_path / "a.tif", mask_values="1|2")[0] == TRUTH).all()
    mask, why, notes = mask_of(slide, tmp_path / "a.tif")
    assert mask.all() and not why and "the values 1, 7, and all but 0" in notes[0]
    mask, why, notes = mask_of(slide, tmp_path / "a.tif", mask_values=[255])
    assert not mask.any() and "none of tissue.mask_values (255), but 1, 7" in why and not notes


def test_a_label_image_of_zeros_is_empty_with_a_reason(slide: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((112, 160), np.uint8)).save(tmp_path / "a.png")
    assert "a.png is 0 everywhere" in mask_of(slide, tmp_path / "a.png")[1]


def test_outlines_of_the_named_classes_are_a_mask(slide: Path, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.geojson", Tissue=(200, 40, 400, 240), Ink=(400, 40, 440, 240), none=(0, 0, 20, 20))
    every, _, _ = mask_of(slide, path)
    named, _, _ = mask_of(slide, path, mask_classes="Tissue")
    assert named.sum() == 50 * 50 and named[10:60, 50:100].all() and every.sum() == 60 * 50 + 5 * 5
    mask, why, _ = mask_of(slide, path, mask_classes=["Gewebe"])
    assert not mask.any() and "no polygon of tissue.mask_classes (Gewebe), but" in why and "'Ink' (1)" in why


def test_a_file_without_polygons_is_an_empty_mask(slide: Path, tmp_path: Path) -> None:
    mask, why, _ = mask_of(slide, write_classes(tmp_path / "a.geojson"))
    assert not mask.any() and "has no polygon of any class" in why


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1", "is neither GeoJSON or ASAP XML nor a PNG or TIFF"),
        ("a.geojson", b"{", "correct the sheet's `mask` column"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "cannot read the PNG"),
    ],
)
def test_other_formats_are_rejected(slide: Path, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskError, match=said):
        mask_of(slide, tmp_path / name)


def test_a_missing_mask_is_not_recorded_as_damaged_data(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mask_of(slide, tmp_path / "gone.png")


def test_pixels_that_are_no_squares_may_be_squared_in_the_mask(tmp_path: Path) -> None:
    per_cm = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "s.tif", tissue_image(640, 448), tile=(128, 128), photometric="rgb", **per_cm)
    Image.fromarray(labels(320, 112)).save(tmp_path / "a.png")  # 1 µm along both sides
    mask, _, _ = mask_of(tmp_path / "s.tif", tmp_path / "a.png")
    assert (mask & TRUTH).sum() / (mask | TRUTH).sum() > 0.95


def drawn_on(slide: Path, annotation: Path | None, **blocks: dict):
    with open_slide(slide, "auto") as opened:
        return read_annotated_regions(opened, annotation, TileSettings.model_validate(blocks))


def test_excluded_regions_have_no_tiles(slide: Path, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.geojson", Tumour=(200, 40, 400, 240), Fold=(300, 40, 500, 100))
    found = drawn_on(slide, path, tissue={"exclude_classes": "Fold"}, tiling={"min_annotation": 0.5})
    assert found.inside.area == 200 * 200 and found.excluded.bounds == (300, 40, 500, 100)
    assert drawn_on(slide, path, tiling={"min_annotation": 0.5}).inside.area == 200 * 200 + 100 * 60


def test_a_slide_without_an_annotation_has_no_excluded_regions(slide: Path, tmp_path: Path) -> None:
    assert drawn_on(slide, None, tissue={"exclude_classes": ["Fold"]}).excluded.is_empty
    other = write_classes(tmp_path / "a.geojson", Tumour=(200, 40, 400, 240))
    found = drawn_on(slide, other, tissue={"exclude_classes": ["Fold"]})
    assert found.excluded.is_empty and found.inside.is_empty and not found.notes


def test_a_class_with_other_capital_letters_is_a_warning(slide: Path, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.geojson", fold=(200, 40, 400, 240))
    found = drawn_on(slide, path, tissue={"exclude_classes": ["Fold"]})
    assert found.excluded.is_empty and "'Fold'" in found.notes[0] and "'fold'" in found.notes[0]


def test_small_slides_fit_masks_of_few_pixels(tmp_path: Path) -> None:
    slide = write_aperio(tmp_path / "s.svs", tissue_image(1000, 300))
    Image.fromarray(np.ones((3, 10), np.uint8)).save(tmp_path / "a.png")
    assert mask_of(slide, tmp_path / "a.png")[0].all()
