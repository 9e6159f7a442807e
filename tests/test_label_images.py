from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_mil.errors import MaskError
from wsi_mil.geometry import Window
from wsi_mil.label_images import is_label_image, read_label_image

LABELS = np.zeros((300, 500), np.uint8)
LABELS[50:120, 300:420] = 1
LABELS[200:, :50] = 7


def write_pyramid(path: Path, *, ome: bool) -> None:
    """Two levels, the second in a SubIFD or after the first."""
    with tifffile.TiffWriter(path, ome=ome) as tif:
        if ome:
            tif.write(LABELS, subifds=1, tile=(64, 64), metadata={"axes": "YX"})
        else:
            tif.write(LABELS, tile=(64, 64))
        tif.write(LABELS[::2, ::2].copy(), subfiletype=1, tile=(64, 64))


def write_palette(path: Path) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putdata(LABELS.ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0] * 100)
    image.save(path)


def in_colours(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


WRITERS: dict[str, Callable[[Path], None]] = {
    "grey.png": lambda path: Image.fromarray(LABELS).save(path),
    "palette.png": write_palette,
    "grey_in_rgb.png": lambda path: Image.fromarray(in_colours(LABELS)).save(path),
    "tiles.tif": lambda path: tifffile.imwrite(path, LABELS, tile=(128, 128), compression="zlib"),
    "strips.tif": lambda path: tifffile.imwrite(path, LABELS, rowsperstrip=17),
    "big.tif": lambda path: tifffile.imwrite(path, LABELS, bigtiff=True, tile=(64, 128)),
    "grey_in_rgb.tif": lambda path: tifffile.imwrite(path, in_colours(LABELS), photometric="rgb", tile=(64, 64)),
    "pyramid.ome.tif": lambda path: write_pyramid(path, ome=True),
    "pyramid.tif": lambda path: write_pyramid(path, ome=False),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("values", "tissue"), [(None, LABELS > 0), ((1,), LABELS == 1), ((1, 7), LABELS > 0)])
def test_values_of_any_label_image_are_tissue(
    name: str, values: tuple[int, ...] | None, tissue: np.ndarray, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name)
    found = read_label_image(tmp_path / name, values)
    assert is_label_image(tmp_path / name) and found.dimensions == (500, 300) and found.values == (0, 1, 7)
    assert (found.mask.part(Window(0, 0, 500, 300)) == tissue).all()


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_labels_of_sixteen_bits_are_not_clipped(name: str, tmp_path: Path) -> None:
    labels = LABELS.astype(np.uint16) * 300
    if name.endswith("png"):
        Image.fromarray(labels).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, labels)
    found = read_label_image(tmp_path / name, (300,))
    assert found.values == (0, 300, 2100) and found.mask.share == (LABELS == 1).mean()


@pytest.mark.parametrize(("channels", "named"), [(2, "grey and alpha"), (3, "RGB"), (4, "RGBA")])
def test_a_png_of_sixteen_bits_in_several_channels_is_rejected(channels: int, named: str, tmp_path: Path) -> None:
    """Pillow would read labels below 256 as 0."""
    labels = np.repeat(LABELS.astype(np.uint16)[..., np.newaxis], channels, axis=2)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(labels))
    said = rf"a\.png.* of 16 bits per channel \({named}\).*; save its labels as a grey image of 16 bits, or with 8 bits"
    with pytest.raises(MaskError, match=said):
        read_label_image(tmp_path / "a.png", None)


def test_a_bilevel_png_has_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 0).save(tmp_path / "a.png")
    assert read_label_image(tmp_path / "a.png", (1,)).mask.share == (LABELS > 0).mean()


def test_where_zero_is_white_white_is_not_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABELS == 0, photometric="miniswhite")  # tissue is shown white
    assert read_label_image(tmp_path / "a.tif", None).mask.share == (LABELS > 0).mean()


def test_a_block_that_was_never_written_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABELS, tile=(160, 256))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        counts = tif.pages[0].tags["TileByteCounts"]
        counts.overwrite([0, 0, *counts.value[2:]])
    assert read_label_image(tmp_path / "a.tif", None).mask.share == (LABELS[160:] > 0).sum() / LABELS.size


def coloured(path: Path) -> None:
    image = in_colours(LABELS)
    image[3, 4] = (9, 8, 9)
    Image.fromarray(image).save(path)


def damaged(path: Path) -> None:
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 9, (300, 500), np.uint8), tile=(64, 64), compression="zlib")
    path.write_bytes(path.read_bytes()[:20_000])


def cut_short(path: Path) -> None:
    Image.fromarray(LABELS).save(path)
    path.write_bytes(path.read_bytes()[:150])


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.png", coloured, "a colour image"),
        ("a.png", cut_short, "cannot read the PNG"),
        ("a.tif", damaged, "cannot read the TIFF"),
        ("a.tif", lambda path: tifffile.imwrite(path, LABELS.astype(np.float32)), "of type float32"),
        ("a.tif", lambda path: tifffile.imwrite(path, np.stack([LABELS] * 3), photometric="minisblack"), "3 images of one size"),
    ],
)
def test_an_unsuitable_image_is_rejected(name: str, write: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(MaskError, match=said) as error:
        read_label_image(tmp_path / name, None)
    assert str(error.value).startswith(str(tmp_path / name))


def test_blocks_too_large_to_decode_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_mil.label_images.MOST_BLOCK_PX", 500 * 100)
    tifffile.imwrite(tmp_path / "tiles.tif", LABELS, tile=(64, 64))
    tifffile.imwrite(tmp_path / "strip.tif", LABELS, rowsperstrip=300)
    assert read_label_image(tmp_path / "tiles.tif", None).mask.share > 0
    with pytest.raises(MaskError, match="500 × 300 pixels, too large to decode at once; save it as a tiled TIFF"):
        read_label_image(tmp_path / "strip.tif", None)


def test_other_files_are_no_label_images(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    Image.fromarray(LABELS).save(tmp_path / "a.jpg")
    assert not any(is_label_image(tmp_path / name) for name in ("a.parquet", "a.jpg"))
