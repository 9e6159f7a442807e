"""What is wrong with a file is one sentence that names it and what mends it, whoever is asked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_geojson
from wsi_mil.config import TileSettings, Tiling, Tissue, Truth
from wsi_mil.doctor import SlideJob, examine_slide
from wsi_mil.errors import DataError, MissingFileError, SlideAccessError, UnreachableError
from wsi_mil.inspection import inspect_slide
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.tile import tile_slide
from wsi_mil.tile.supplied import SuppliedFiles

SMALL = TileSettings(tiling=Tiling(tile_px=32), tissue=Tissue(min_area_um2=500))
INSIDE = SMALL.model_copy(update={"tiling": Tiling(tile_px=32, min_annotation=0.5)})
OUTLINED = SMALL.model_copy(update={"tissue": Tissue(method="annotation")})


@dataclass(frozen=True)
class Bad:
    """A row that cannot be tiled, the file that is to blame and what mends it."""

    row: SlideRow
    settings: TileSettings
    blamed: Path
    mends: tuple[str, ...]


def bad_slide(name: str, write: Callable[[Path], object]) -> Callable[[Path], Bad]:
    def make(folder: Path) -> Bad:
        write(folder / name)
        return Bad(SlideRow("s", folder / name), SMALL, folder / name, ("`path` column",))

    return make


def no_mpp(folder: Path) -> Bad:
    path = folder / "no_mpp.tif"
    tifffile.imwrite(path, tissue_image(640, 448), tile=(128, 128), photometric="rgb")
    return Bad(SlideRow("s", path), SMALL, path, ("`mpp` column", "slide.on_missing_mpp"))


def too_coarse(folder: Path) -> Bad:
    path = write_aperio(folder / "coarse.svs", tissue_image(640, 448), mpp=1.0)
    return Bad(SlideRow("s", path), SMALL, path, ("`mpp` column", "tilings.….mpp"))


def no_annotation(folder: Path) -> Bad:
    path = write_aperio(folder / "plain.svs", tissue_image(640, 448))
    return Bad(SlideRow("s", path), OUTLINED, path, ("`annotation` column", "tissue.method"))


def annotated(settings: TileSettings, write: Callable[[Path], object], *mends: str) -> Callable[[Path], Bad]:
    def make(folder: Path) -> Bad:
        slide, outline = write_aperio(folder / "a.svs", tissue_image(640, 448)), folder / "a.geojson"
        write(outline)
        return Bad(SlideRow("s", slide, annotation=outline), settings, outline, ("`annotation` column", *mends))

    return make


def truncate(path: Path) -> None:
    content = write_aperio(path, tissue_image(640, 448)).read_bytes()
    path.write_bytes(content[: len(content) // 2])


CASES = {
    "missing": bad_slide("gone.svs", lambda path: None),
    "folder": bad_slide("folder.svs", lambda path: path.mkdir()),
    "zero bytes": bad_slide("zero.svs", lambda path: path.touch()),
    "text": bad_slide("text.svs", lambda path: path.write_text("Dear colleague,\nno slide.\n")),
    "unknown format": bad_slide("scan.xyz", lambda path: path.write_bytes(bytes(range(256)) * 20)),
    "broken TIFF": bad_slide("b.tif", lambda path: path.write_bytes(b"II*\0\x08\0\0\0" + b"\xff" * 50)),
    "truncated": bad_slide("half.svs", truncate),
    "deep image": bad_slide("deep.png", lambda path: Image.fromarray(np.full((20, 30), 40_000, np.uint16)).save(path)),
    "no mpp": no_mpp,
    "too coarse": too_coarse,
    "no annotation": no_annotation,
    "tissue outside the annotation": annotated(
        INSIDE, lambda path: write_geojson(path, (0, 360, 200, 440)), "tilings.….min_annotation", "tissue.annotation_classes"
    ),
    "annotation outside the slide": annotated(INSIDE, lambda path: write_geojson(path, (700, 500, 900, 600)), "truth.origin"),
    "annotation that is none": annotated(OUTLINED, lambda path: path.write_text("no\njson")),
}


@pytest.fixture(params=CASES)
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Bad:
    return CASES[request.param](tmp_path)


def check_sentence(message: str, bad: Bad) -> None:
    assert str(bad.blamed) in message and not [mend for mend in bad.mends if mend not in message]
    assert "\n" not in message and ". " not in message and " object at 0x" not in message


def test_tile_says_it_in_a_sentence(bad: Bad, tmp_path: Path) -> None:
    try:
        status = tile_slide(bad.row, bad.settings, tmp_path / "s.json")
    except MissingFileError as error:
        check_sentence(str(error), bad)
        return
    assert status in ("failed", "empty")
    check_sentence(read_receipt(tmp_path / "s.json")["reason"], bad)


def test_inspect_says_it_in_a_sentence(bad: Bad) -> None:
    try:
        found = inspect_slide(bad.row.path, {"t": bad.settings}, supplied=SuppliedFiles(bad.row.annotation, bad.row.mask))
    except (DataError, MissingFileError) as error:
        check_sentence(str(error), bad)
        return
    check_sentence(found.tilings["t"].reason, bad)


def test_doctor_says_it_in_a_sentence(bad: Bad) -> None:
    finding = examine_slide(SlideJob(bad.row, {"t": bad.settings}, Truth()))
    assert finding.verdict in ("failed", "empty", "missing")
    check_sentence(finding.reason, bad)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.svs", "memory://nowhere/a.svs", "gopher://old/a.svs", "s3://no-such-bucket/a.svs"]
)
def test_a_url_that_cannot_be_read_is_said_in_a_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing leaves this machine
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("WSI_MIL_REMOTE", '{"attempts": 1}')
    with pytest.raises((MissingFileError, SlideAccessError, UnreachableError)) as caught:
        inspect_slide(url, {"t": SMALL})
    message = str(caught.value)
    assert message.startswith(f"{url}: ") and "`path` column" in message and "\n" not in message
