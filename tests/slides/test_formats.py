"""What a file is, and what a reader may make of it: each row of the table in docs/tile.md, on a small file made here."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import GLASS, tissue_image, write_aperio
from tests.heatmap_files import write_scn
from wsi_mil.config import READERS, TileSettings, Tiling, Tissue
from wsi_mil.errors import SlideFormatError
from wsi_mil.geometry import Mpp, is_reduction
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.slides import open_slide, slide_hash
from wsi_mil.slides.detection import format_of
from wsi_mil.slides.dicom import instances
from wsi_mil.slides.format import Format
from wsi_mil.slides.hidden_content import channel_fault, unread_notes
from wsi_mil.slides.jpeg_colours import is_ycbcr
from wsi_mil.slides.ome import ome_fault, ome_notes, ome_of
from wsi_mil.tile import tile_slide

LABEL = np.full((200, 300, 3), (250, 240, 60), np.uint8)
"""300 × 200, as yellow as no slide is."""

SMALL = TileSettings(tiling=Tiling(tile_px=32), tissue=Tissue(min_area_um2=500))


def write_tiff(path: Path, *pages: np.ndarray, **how: Any) -> Path:
    """A TIFF of tiles; `how` of all pages."""
    with tifffile.TiffWriter(path, ome=False) as tif:
        for page in pages:
            about = {"photometric": "rgb" if page.ndim == 3 else "minisblack", "tile": (64, 64), "metadata": None, **how}
            tif.write(page, **about)
    return path


def image_xml(
    width: int, height: int, *, name: str = "", channels: int = 3, planes: int = 1, times: int = 1, uuid: str = ""
) -> str:
    data = f'<TiffData><UUID FileName="x">{uuid}</UUID></TiffData>' if uuid else "<TiffData/>"
    sizes = f'SizeX="{width}" SizeY="{height}" SizeZ="{planes}" SizeC="{channels}" SizeT="{times}"'
    about = f'{sizes} Type="uint8" DimensionOrder="XYCZT" PhysicalSizeX="0.5" PhysicalSizeY="0.5"'
    return f'<Image Name="{name}"><Pixels {about}><Channel SamplesPerPixel="{channels}"/>{data}</Pixels></Image>'


def ome_xml(*images: str, uuid: str = "") -> str:
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0"?><OME xmlns="{schema}" UUID="{uuid}">{"".join(images)}</OME>'


def write_ome(path: Path, text: str, *pages: np.ndarray) -> Path:
    return write_tiff(path, *pages, description=text)


def refused(path: Path, *, mpp: float | None) -> str:
    """Why every reader refuses a file, all with the same words."""
    said = set()
    for reader in READERS:
        with pytest.raises(SlideFormatError) as caught:
            open_slide(path, reader, mpp=mpp)
        said.add(str(caught.value))
    with pytest.raises(SlideFormatError) as caught:
        open_slide(path, mpp=mpp)
    assert said == {str(caught.value)} and "\n" not in str(caught.value)
    return str(caught.value)


def wide() -> np.ndarray:
    return tissue_image(640, 448)


def grey() -> np.ndarray:
    return wide()[..., 1].copy()


def label_first(path: Path) -> None:
    write_ome(path, ome_xml(image_xml(300, 200), image_xml(640, 448)), LABEL, wide())


def label_first_plain(path: Path) -> None:
    write_tiff(path, LABEL, wide())


def label_in_strips(path: Path) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(LABEL, photometric="rgb", metadata=None, rowsperstrip=16)
        tif.write(wide(), photometric="rgb", metadata=None, tile=(64, 64))


def ome_channels(path: Path) -> None:
    write_ome(path, ome_xml(image_xml(640, 448, channels=3)), grey(), grey(), grey())


def ome_of_another_file(path: Path) -> None:
    write_ome(path, ome_xml(image_xml(640, 448, uuid="urn:uuid:2"), uuid="urn:uuid:1"), wide())


def grey_pages(path: Path) -> None:
    write_tiff(path, grey(), grey(), grey())


def imagej_channels(path: Path) -> None:
    tifffile.imwrite(path, np.stack([grey()] * 3), imagej=True, metadata={"axes": "CYX"})


def five_samples(path: Path) -> None:
    image = np.dstack([wide(), grey(), grey()])
    write_tiff(path, image, photometric="rgb", extrasamples=["unspecified", "unspecified"])


def fourth_sample(path: Path) -> None:
    write_tiff(path, np.dstack([wide(), grey()]), photometric="rgb", extrasamples=["unspecified"])


def samples_without_a_meaning(path: Path) -> None:
    write_tiff(path, wide(), photometric="minisblack", planarconfig="contig")


def floats(path: Path) -> None:
    write_tiff(path, wide().astype(np.float32) / 255)


def deep(path: Path) -> None:
    write_tiff(path, wide().astype(np.uint16) * 257)


def mirax(path: Path) -> None:
    Image.fromarray(wide()).save(path, "JPEG")


def mirax_with_an_empty_folder(path: Path) -> None:
    mirax(path)
    path.with_suffix("").mkdir()


def olympus(path: Path) -> None:
    write_tiff(path, wide())


def bif(path: Path) -> None:
    xml = b'<iScan Magnification="20" ScanRes="0.5"><AOI0/></iScan>'
    write_tiff(path, wide(), extratags=[(700, 1, len(xml), xml, True)])


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "OME, label first": ("a.ome.tif", label_first, "first image is not its largest"),
    "TIFF, label first": ("a.tif", label_first_plain, r"first image \(300 × 200 px\) is not its largest \(640 × 448 px\)"),
    "TIFF, label first, in strips": ("a.tif", label_in_strips, "is not its largest"),
    "OME, channels": ("a.ome.tif", ome_channels, "several channels"),
    "OME, set of files": ("a.ome.tif", ome_of_another_file, "lies in another file of its set"),
    "TIFF, grey pages": ("a.tif", grey_pages, "3 grey images of the same size"),
    "ImageJ, channels": ("a.tif", imagej_channels, "3 grey images"),
    "TIFF, five samples": ("a.tif", five_samples, r"5 channels, of which 3 are declared as colours \(RGB\)"),
    "TIFF, fourth sample": ("a.tif", fourth_sample, "4 channels, of which 3"),
    "TIFF, samples without a meaning": ("a.tif", samples_without_a_meaning, "3 channels, of which 1 are declared"),
    "TIFF, floats": ("a.tif", floats, "must have 8 bits per channel, but has 32 of floating point"),
    "TIFF, 16 bits": ("a.tif", deep, "must have 8 bits per channel, but has 16"),
    "MRXS without folder": ("case1.mrxs", mirax, "the folder case1 with its data is missing"),
    "MRXS, empty folder": ("case1.mrxs", mirax_with_an_empty_folder, "its folder case1 has no Slidedat.ini"),
    "VSI": ("a.vsi", olympus, "only an overview"),
    "NDPIS": ("a.ndpis", lambda path: path.write_text("[NanoZoomer Digital Pathology Image Set]\nNoImages=3"), "fluorescence"),
    "DZI": ("a.dzi", lambda path: path.write_text("<?xml version='1.0'?><Image/>"), "only describes the images"),
    "companion.ome": ("a.companion.ome", lambda path: path.write_text("<?xml version='1.0'?><OME/>"), "XML file"),
    "ZIP": ("a.svs", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)), "ZIP archive"),
    "preview": (
        "a.svs",
        lambda path: Image.fromarray(LABEL).save(path, "JPEG"),
        "is a JPEG image with the ending of a .svs slide",
    ),
    "web page": ("a.svs", lambda path: path.write_text("<!DOCTYPE html><p>404</p>" * 9), "a web page"),
    "Git LFS": ("a.svs", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "JPEG 2000": ("a.jp2", lambda path: path.write_bytes(b"\x00\x00\x00\x0cjP  \r\n" + bytes(200)), "JPEG 2000"),
}


@pytest.mark.parametrize("mpp", [None, 0.5])
@pytest.mark.parametrize("case", REFUSED)
def test_no_reader_opens_a_file_of_an_unsuitable_format(case: str, mpp: float | None, tmp_path: Path) -> None:
    name, write, reason = REFUSED[case]
    write(tmp_path / name)
    said = refused(tmp_path / name, mpp=mpp)
    assert said.startswith(f"{tmp_path / name}: ") and "`path` column" in said
    assert re.search(reason, said)


@pytest.mark.parametrize("case", ["OME, label first", "MRXS without folder", "VSI"])
def test_a_link_to_a_rejected_file_is_rejected(case: str, tmp_path: Path) -> None:
    name, write, reason = REFUSED[case]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / name)
    for link in (tmp_path / name, tmp_path / "renamed"):
        link.symlink_to(tmp_path / "data" / name)
        with pytest.raises(SlideFormatError, match=reason.replace("case1", "(case1|renamed)")):
            open_slide(link, mpp=0.5)


def test_the_reason_of_the_first_reader_that_knows_the_format_is_shown(tmp_path: Path) -> None:
    bif(tmp_path / "a.bif")
    with pytest.raises(
        SlideFormatError, match=r"a\.bif: OpenSlide cannot open it \((?!Unsupported).*\); expected a slide"
    ) as caught:
        open_slide(tmp_path / "a.bif", mpp=0.5)
    assert "tiffslide" not in str(caught.value)
    with pytest.raises(
        SlideFormatError, match=r"a Ventana slide is read correctly by openslide, not by tiffslide; set slide\.reader"
    ):
        open_slide(tmp_path / "a.bif", "tiffslide", mpp=0.5)


def test_a_file_of_no_known_kind_is_left_to_openslide_alone(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"nothing that is known")
    assert format_of(tmp_path / "a.xyz").readers == ("openslide",)


def notes_of(path: Path, **how: Any) -> tuple[str, ...]:
    with open_slide(path, **how) as opened:
        return opened.notes


@pytest.mark.parametrize(
    ("text", "n_pages", "notes"),
    [
        (ome_xml(image_xml(640, 448)), 1, ()),
        (ome_xml(image_xml(640, 448), image_xml(640, 448)), 2, ("1 further image of the same size",)),
        (ome_xml(image_xml(640, 448), image_xml(640, 448), image_xml(640, 448)), 3, ("2 further images of the same size",)),
        (ome_xml(image_xml(640, 448), image_xml(300, 200, name="scene 2")), 1, ("1 further image of another size",)),
        (ome_xml(image_xml(640, 448), image_xml(300, 200, name="label image"), image_xml(9, 9, name="Macro")), 1, ()),
        (ome_xml(image_xml(640, 448, planes=5)), 5, ("4 further focal planes",)),
        (ome_xml(image_xml(640, 448, planes=2, times=3)), 6, ("1 further focal plane", "2 further time points")),
    ],
)
def test_notes_list_the_unread_images_of_an_ome_tiff(text: str, n_pages: int, notes: tuple[str, ...], tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tif", text, *[wide()] * n_pages)
    assert notes_of(path) == tuple(f"{note} in the file not read" for note in notes)
    assert tile_slide(SlideRow("s", path), SMALL, tmp_path / "s.json") == "ok"
    assert read_receipt(tmp_path / "s.json")["warnings"] == list(notes_of(path))


def test_names_in_ome_xml_may_have_a_prefix() -> None:
    images = [f'<o:Image><o:Pixels SizeX="{width}" SizeY="48"/></o:Image>' for width in (64, 640)]
    ome = ome_of(f'<o:OME xmlns:o="x">{"".join(images)}</o:OME>')
    assert ome is not None and "not its largest" in ome_fault(ome, 3)


def test_an_rgb_image_of_ome_is_one_channel_and_more_samples_than_a_page_has_are_several() -> None:
    ome = ome_of(ome_xml(image_xml(640, 448, channels=3)))
    assert ome is not None and ome_fault(ome, 3) == "" and "several channels" in ome_fault(ome, 1)
    assert ome_of("<OME>") is None and ome_of('<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>') is None
    assert list(ome_notes(ome)) == []


def test_notes_list_further_pages_of_a_plain_tiff(tmp_path: Path) -> None:
    assert notes_of(write_tiff(tmp_path / "a.tif", wide(), wide(), wide()), mpp=0.5) == (
        "2 further images of the same size in the file not read",
    )
    assert notes_of(write_tiff(tmp_path / "b.tif", wide(), LABEL), mpp=0.5) == (
        "1 further image of another size in the file not read",
    )
    assert notes_of(write_aperio(tmp_path / "c.svs", wide())) == ()


def test_notes_list_planes_of_an_imagej_stack(tmp_path: Path) -> None:
    stack = np.broadcast_to(wide(), (4, 2, *wide().shape))
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZYXS", "unit": "um"}, resolution=(2, 2))
    assert notes_of(tmp_path / "a.tif") == (
        "1 further focal plane in the file not read",
        "3 further time points in the file not read",
    )


def test_notes_list_frames_of_a_plain_image(tmp_path: Path) -> None:
    first, second = Image.fromarray(wide()), Image.fromarray(wide()[::-1])
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    assert notes_of(tmp_path / "a.png", mpp=0.5) == ("1 further image in the file not read",)


def write_ndpi(path: Path, *offsets: int, lenses: tuple[float, ...] = ()) -> Path:
    """As Hamamatsu writes it, with offsets of 8 bytes: pages of one strip of 6 × 4 px, each in a focal plane of its own."""
    data, pages = bytearray(b"II*\0" + struct.pack("<Q", 12)), bytearray()
    for number, offset in enumerate(offsets):
        lens = struct.unpack("<i", struct.pack("<f", lenses[number] if lenses else 20.0))[0]
        tags = {256: 6, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 24, 65420: 1, 65421: lens, 65424: offset}
        kinds = {65421: 11, 65424: 9}  # FLOAT, SLONG
        entries = b"".join(struct.pack("<HHIi", code, kinds.get(code, 4), 1, value) for code, value in tags.items())
        length = 2 + len(entries) + 8 + 4 * len(tags)
        following = 12 + (number + 1) * length if number + 1 < len(offsets) else 0
        pages += struct.pack("<H", len(tags)) + entries + struct.pack("<Q", following) + bytes(4 * len(tags))
    path.write_bytes(bytes(data + pages) + bytes(64))
    return path


def test_notes_list_focal_planes_of_an_ndpi(tmp_path: Path) -> None:
    found = format_of(write_ndpi(tmp_path / "a.ndpi", 0, -2000, 2000))
    assert found.readers == ("openslide",) and found.notes == ("2 further focal planes in the file not read",)
    macro = write_ndpi(tmp_path / "c.ndpi", -300, 0, lenses=(20.0, -1.0))
    assert format_of(macro).notes == (), "a macro lies in no plane"
    assert format_of(write_ndpi(tmp_path / "b.ndpi", 0)) == Format("a Hamamatsu slide", ("openslide", "tiffslide"))


def test_a_leica_slide_is_openslides_alone(tmp_path: Path) -> None:
    path = write_scn(tmp_path / "a.scn", wide(), corner=(192, 1024), dimensions=(1600, 2080))
    assert format_of(path).readers == ("openslide",) and format_of(path).notes == ()


MIRAX = "mirax.HIERARCHICAL.HIER_1_"


@pytest.mark.parametrize(
    ("properties", "n_channels", "notes"),
    [
        ({f"{MIRAX}NAME": "Slide filter level", f"{MIRAX}COUNT": "1"}, 1, []),
        ({f"{MIRAX}NAME": "Slide filter level", f"{MIRAX}COUNT": "4"}, 4, []),
        ({f"{MIRAX}NAME": "Microscope focus level", f"{MIRAX}COUNT": "9"}, 1, ["8 further focal planes"]),
        ({f"{MIRAX}NAME": "Slide zoom level", f"{MIRAX}COUNT": "9"}, 1, []),
        ({"ventana.Z-layers": "3"}, 1, ["2 further focal planes"]),
        ({"dicom.OpticalPathSequence[0].X": "1", "dicom.OpticalPathSequence[1].X": "1"}, 2, []),
        ({"zeiss.Information.Image.SizeC": "3", "zeiss.Information.Image.SizeT": "2"}, 3, ["1 further time point"]),
        ({"zeiss.Information.Image.SizeC": "1", "hamamatsu.NoLayers": "1"}, 1, []),
    ],
)
def test_unread_content_is_noted_by_each_vendors_properties(
    properties: dict[str, str], n_channels: int, notes: list[str]
) -> None:
    assert (f"holds {n_channels} channels" in channel_fault(properties)) == (n_channels > 1)
    assert list(unread_notes(properties)) == [f"{note} in the file not read" for note in notes]


@pytest.mark.parametrize(
    ("dimensions", "level", "is_level"),
    [
        ((640, 448), (640, 448), True),
        ((640, 448), (160, 112), True),
        ((2001, 1505), (501, 377), True),  # rounded up
        ((2001, 1505), (500, 376), True),  # rounded down
        ((97792, 217088), (382, 848), True),
        ((97792, 217088), (512, 1024), False),  # padded to its tiles, as in CAMELYON16's tumor_009
        ((1024, 1536), (400, 160), False),
        ((1536, 1024), (160, 400), False),
        ((640, 448), (641, 448), False),
        ((640, 448), (112, 160), False),  # turned
        ((3, 2), (1, 1), True),
    ],
)
def test_a_level_shrinks_both_sides_by_one_factor(dimensions: tuple[int, int], level: tuple[int, int], is_level: bool) -> None:
    assert is_reduction(dimensions, level) == is_level


@pytest.mark.parametrize("reader", ["auto", "openslide", "jpeg_tiff"])
@pytest.mark.parametrize("other", [(400, 160), (200, 80)])
def test_a_page_of_another_shape_is_no_level(tmp_path: Path, reader: str, other: tuple[int, int]) -> None:
    slide, macro = tissue_image(1024, 1536), np.full((*other[::-1], 3), (205, 140, 180), np.uint8)
    quarter = slide.reshape(384, 4, 256, 4, 3).mean((1, 3)).astype(np.uint8)

    def write(path: Path, *pages: np.ndarray) -> Path:
        with tifffile.TiffWriter(path) as tif:
            for page in pages:
                how = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "tile": (64, 64)}
                tif.write(page, subfiletype=int(page is not slide), **how)
        return path

    pages = (slide, macro, quarter) if other[0] > 256 else (slide, quarter, macro)
    path = write(tmp_path / "a.tif", *pages)
    if other[0] > 256 and reader != "auto":
        reader = "tiffslide"  # OpenSlide refuses levels in this order
    with open_slide(path, reader, mpp=0.5) as opened, open_slide(write(tmp_path / "b.tif", slide, quarter), mpp=0.5) as exact:
        assert set(opened.level_dimensions) <= {(1024, 1536), (256, 384)} == set(exact.level_dimensions)
        said = f"a level of {other[0]} × {other[1]} px is no reduction of the slide's 1024 × 1536 and is left out"
        assert opened.notes == (said,)
        for mpp in (0.5, 2.0, 4.0):
            found, expected = (s.read_overview(mpp).image.astype(int) for s in (opened, exact))
            assert np.abs(found - expected).mean() < 2


@pytest.mark.parametrize(("compression", "reader"), [("zlib", "tiffslide"), ("jpeg", "jpeg_tiff")])
def test_auto_takes_a_reader_that_sees_the_levels_below_the_first_page(tmp_path: Path, compression: str, reader: str) -> None:
    image = tissue_image(1024, 768)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as tif:
        how = {"photometric": "rgb", "tile": (128, 64), "compression": compression, "metadata": None}
        tif.write(image, subifds=2, description=ome_xml(image_xml(1024, 768)), **how)
        for step in (2, 4):
            level = image.reshape(768 // step, step, 1024 // step, step, 3).mean((1, 3))
            tif.write(level.astype(np.uint8), subfiletype=1, **how)
    with open_slide(tmp_path / "a.ome.tif") as opened, open_slide(tmp_path / "a.ome.tif", "tiffslide") as same:
        assert opened.reader == reader and opened.level_dimensions == ((1024, 768), (512, 384), (256, 192))
        assert (
            opened.mpp == Mpp(0.5, 0.5)
            and [opened.block_grid(level) is not None for level in range(3)] == [compression == "jpeg"] * 3
        )
        for mpp in (0.5, 1.0, 1.3, 2.0):
            assert np.array_equal(opened.read_region((401, 199), (90, 70), mpp), same.read_region((401, 199), (90, 70), mpp))
        coarse = opened.read_region((400, 200), (100, 80), 1.0).astype(int)
    expected = image[200:360, 400:600].reshape(80, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(coarse - expected).mean() < (1 if compression == "zlib" else 12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_reader_that_opens_a_turned_tiff_gives_the_pixels_as_stored(tmp_path: Path, orientation: int) -> None:
    image = np.full((300, 500, 3), GLASS, np.uint8)
    image[20:60, 30:130] = (200, 30, 30)
    path = write_tiff(tmp_path / "a.tif", image, extratags=[(274, 3, 1, orientation, True)])
    opened_by = []
    for reader in ("auto", *READERS):
        try:
            opened = open_slide(path, reader, mpp=0.5)
        except SlideFormatError as error:
            assert "set slide.reader to auto" in str(error)
            continue
        with opened:
            opened_by.append(reader)
            assert opened.dimensions == (500, 300)
            assert np.array_equal(opened.read_region((0, 0), (500, 300), 0.5), image)
            assert opened.notes == (
                (f"its Orientation tag ({orientation}) is not followed: pixels are read as they are stored",)
                if orientation > 1
                else ()
            )
    assert "auto" in opened_by


def test_an_image_with_transparency_lies_on_white(tmp_path: Path) -> None:
    image = np.dstack([wide(), np.where(np.arange(640) < 100, 0, 255).astype(np.uint8) * np.ones((448, 1), np.uint8)])
    path = write_tiff(tmp_path / "a.tif", image, extrasamples=["unassalpha"])
    with open_slide(path, mpp=0.5) as opened:
        region = opened.read_region((90, 0), (20, 8), 0.5)
    assert (region[:, :10] == 255).all() and np.array_equal(region[:, 10:], image[:8, 100:110, :3])


PHOTOMETRIC = {"ycbcr": "rgb", "rgb": "ycbcr"}
"""What tifffile is told: from RGB it converts, YCbCr it takes as it stands."""


def mislabelled_tiff(path: Path, *, stored: str, steps: tuple[int, ...] = (1, 4)) -> np.ndarray:
    """A pyramid whose tiles are JFIF streams, which say YCbCr, under the tag of RGB; its picture. `stored`: what they hold."""
    image = tissue_image(640, 448)
    with tifffile.TiffWriter(path) as tif:
        for step in steps:
            level = image.reshape(448 // step, step, 640 // step, step, 3).mean((1, 3)).astype(np.uint8)
            how = {
                "photometric": PHOTOMETRIC[stored],
                "compression": "jpeg",
                "metadata": None,
                "tile": (64, 64),
                "subfiletype": int(step > 1),
            }
            tif.write(level, compressionargs={"level": 95, "outcolorspace": "ycbcr"}, subsampling=(2, 2), **how)
    with tifffile.TiffFile(path) as tif:
        tags = [page.tags["PhotometricInterpretation"] for page in tif.pages]
        offsets = [(tag.valueoffset, tif.byteorder) for tag in tags]
    with path.open("r+b") as file:
        for at, order in offsets:
            file.seek(at)
            file.write(struct.pack(order + "H", 2))
    return image


@pytest.mark.parametrize("stored", ["ycbcr", "rgb"])
def test_ycbcr_jpegs_tagged_as_rgb_have_their_true_colours(tmp_path: Path, stored: str) -> None:
    image = mislabelled_tiff(tmp_path / "a.tif", stored=stored)
    with open_slide(tmp_path / "a.tif", mpp=0.5) as opened:
        assert opened.reader == "openslide" and any("read as YCbCr" in note for note in opened.notes) == (stored == "ycbcr")
        for mpp, step in ((0.5, 1), (2.0, 4)):
            found = opened.read_region((0, 0), (640 // step, 448 // step), mpp).astype(int)
            expected = image.reshape(448 // step, step, 640 // step, step, 3).mean((1, 3))
            assert np.abs(found.mean((0, 1)) - expected.mean((0, 1))).max() < 3
            assert np.abs(found[:4, :4] - np.array(GLASS)).max() <= 2


JFIF = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
ADOBE = b"\xff\xd8\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0"


def frame(*sampling: int) -> bytes:
    return b"\xff\xc0\x00\x11\x08\0\x40\0\x40\x03" + b"".join(bytes((n, s, 0)) for n, s in enumerate(sampling)) + b"\xff\xda"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (JFIF + frame(0x11, 0x11, 0x11), True),
        (ADOBE + b"\x01" + frame(0x11, 0x11, 0x11), True),
        (ADOBE + b"\x00" + frame(0x11, 0x11, 0x11), False),
        (b"\xff\xd8" + frame(0x22, 0x11, 0x11), True),
        (b"\xff\xd8" + frame(0x11, 0x11, 0x11), None),  # as Aperio stores RGB
        (b"", None),
        (b"\x00" * 40, None),
        (JFIF[:9], None),
    ],
)
def test_the_colour_space_of_a_jpeg_stream_follows_from_its_markers_or_is_unknown(stream: bytes, expected: bool | None) -> None:
    assert is_ycbcr(stream) is expected


def test_a_dicom_file_has_a_declared_colour_space_and_that_of_its_frames(tmp_path: Path) -> None:
    def tag(group: int, element: int, kind: bytes, value: bytes) -> bytes:
        return struct.pack("<HH", group, element) + kind + struct.pack("<H", len(value)) + value

    def write(name: str, colours: bytes, stream: bytes) -> Path:
        head = tag(0x20, 0x0E, b"UI", b"1.2.3\0") + tag(0x28, 4, b"CS", colours)
        head += tag(0x48, 6, b"UL", struct.pack("<I", 1000)) + tag(0x48, 7, b"UL", struct.pack("<I", 700))
        pixels = (
            bytes.fromhex("e07f1000") + b"OB\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + bytes(4) + bytes.fromhex("feff00e0")
        )
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + head + pixels + struct.pack("<I", len(stream)) + stream)
        return tmp_path / name

    path = write("1.dcm", b"RGB ", JFIF + frame(0x22, 0x11, 0x11))
    write("2.dcm", b"YBR_FULL_422", ADOBE + b"\x00" + frame(0x11, 0x11, 0x11))
    wrong, reverse = instances(path)
    assert (wrong.dimensions, wrong.declared_ycbcr, wrong.is_ycbcr) == ((1000, 700), False, True)
    assert (reverse.declared_ycbcr, reverse.is_ycbcr) == (True, False)
    assert format_of(path).readers == ("openslide",)


def test_a_dicom_slide_without_its_finest_file_has_a_note() -> None:
    assert "full resolution is missing" in next(iter(unread_notes({"dicom.ImageType[3]": "RESAMPLED"})))
    assert list(unread_notes({"dicom.ImageType[3]": "NONE"})) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.vsi", "only an overview"), ("a.mrxs", "several files"), ("a.VMS", "several files"), ("a.dzi", "a .dzi")],
)
def test_a_slide_of_several_files_cannot_be_read_from_a_url(name: str, reason: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe(f"/deep/{name}", write_tiff(tmp_path / "a.tif", wide()).read_bytes())
    with pytest.raises(SlideFormatError, match=reason):
        open_slide(f"memory://deep/{name}", mpp=0.5)


def test_a_format_that_is_no_slide_is_rejected_at_a_url_too(tmp_path: Path) -> None:
    label_first(tmp_path / "a.ome.tif")
    fsspec.filesystem("memory").pipe("/deep/a.ome.tif", (tmp_path / "a.ome.tif").read_bytes())
    with pytest.raises(SlideFormatError, match="first image is not its largest"):
        open_slide("memory://deep/a.ome.tif", mpp=0.5)


def test_a_linked_slide_of_several_files_is_opened_where_they_lie(tmp_path: Path, shared_slides: Path) -> None:
    source = shared_slides / "openslide-fixtures"
    (tmp_path / "data").mkdir()
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        (tmp_path / "data" / name).write_bytes((source / name).read_bytes())
    (tmp_path / "link.dcm").symlink_to(tmp_path / "data" / "boxes_1.dcm")
    with open_slide(tmp_path / "data" / "boxes_1.dcm", mpp=0.5) as expected, open_slide(tmp_path / "link.dcm", mpp=0.5) as linked:
        assert linked.level_dimensions == expected.level_dimensions
    assert slide_hash(tmp_path / "link.dcm") == slide_hash(tmp_path / "data" / "boxes_1.dcm")


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "mm"])
def test_imagejs_unit_gives_the_scale(tmp_path: Path, unit: str) -> None:
    per_unit = 2000 if unit == "mm" else 2
    text = f"ImageJ=1.53t\nunit={unit}\n"
    how = {
        "photometric": "rgb",
        "metadata": None,
        "resolution": (per_unit, per_unit),
        "resolutionunit": "none",
        "description": text,
    }
    tifffile.imwrite(tmp_path / "a.tif", wide(), tile=(64, 64), **how)
    tifffile.imwrite(tmp_path / "strips.tif", wide(), **how)
    for name in ("a.tif", "strips.tif"):
        with open_slide(tmp_path / name) as opened:
            assert opened.mpp == Mpp(0.5, 0.5) and "ImageJ" in opened.mpp_source


@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
def test_imagejs_unit_may_be_latin(tmp_path: Path, reader: str) -> None:
    text = "ImageJ=1.53t\nunit=µm\n".encode("latin-1")
    how = {"metadata": None, "resolution": (2, 4), "resolutionunit": "none", "extratags": [(270, 2, len(text), text, True)]}
    tifffile.imwrite(tmp_path / "a.tif", wide(), photometric="rgb", tile=(64, 64), **how)
    with open_slide(tmp_path / "a.tif", reader) as opened:
        assert opened.mpp == Mpp(0.5, 0.25)


def test_a_unit_that_is_no_length_is_named_in_the_message(tmp_path: Path) -> None:
    how = {"photometric": "rgb", "metadata": None, "resolution": (2, 2), "resolutionunit": "none"}
    tifffile.imwrite(tmp_path / "a.tif", wide(), tile=(64, 64), description="ImageJ=1.53t\nunit=pixel\n", **how)
    assert tile_slide(SlideRow("s", tmp_path / "a.tif"), SMALL, tmp_path / "s.json") == "failed"
    assert (
        "unit=pixel in ImageJ's description, which is no known unit of length"
        in json.loads((tmp_path / "s.json").read_text())["reason"]
    )
