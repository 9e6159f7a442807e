import base64
import io
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.targets import block_of
from tests.test_report import PROBS, lines, overview, page, write_model, write_tiled
from wsi_mil.annotations import TISSUE_CLASS, feature_collection
from wsi_mil.config import Config, parse_settings
from wsi_mil.errors import StoreError
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.report.contact_sheet import MaskPicture, contact_sheet, percent

LITTLE = "tissue covers 0.04% of the slide: check its QC image"


def write_pictured(results: Path, slide_id: str, **about: object) -> Path:
    """What tile leaves of a slide of 4096 × 2048: tissue from (512, 1024) to (2048, 1792), in a picture that is red on the
    left, blue on the right.
    """
    receipt = write_tiled(results, slide_id, **about)
    picture = Image.new("RGB", (1024, 512), "blue")
    picture.paste("red", (0, 0, 512, 512))
    picture.save(receipt.with_suffix(".png"))
    tissue = {"classification": {"name": TISSUE_CLASS}}
    receipt.with_suffix(".geojson").write_text(feature_collection([shapely.box(512, 1024, 2048, 1792)], [tissue]))
    return receipt


def write_failed(results: Path, slide_id: str, reason: str) -> None:
    about = {"slide_id": slide_id, "status": "failed", "reason": reason, "warnings": [], "settings": {}, "stage_version": 2}
    write_receipt(results / "tiles" / "default" / f"{slide_id}.json", about)


def sheet(results: Path, *slide_ids: str, tilings: tuple[str, ...] = ("default",)) -> list[MaskPicture]:
    encoders = {f"e{number}": {"tiling": tiling} for number, tiling in enumerate(tilings)}
    content = {"cohort": "c.csv", "targets": block_of("n", "p"), "results": results, "encoders": encoders}
    blocks = {"tilings": {name: {} for name in tilings}, "models": {"m": {"model": "abmil"}}}
    return contact_sheet([SlideRow(s, Path("gone.svs")) for s in slide_ids], parse_settings(Config, {**content, **blocks}))


def green(url: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is green in a picture."""
    pixels = np.asarray(decoded(url)).astype(int)
    y, x = np.nonzero((pixels[..., 1] > 90) & (pixels[..., 1] > pixels[..., 0]) & (pixels[..., 1] > pixels[..., 2]))
    return x.min(), y.min(), x.max(), y.max()


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))


def test_a_picture_is_small_and_shows_the_whole_slide_the_right_way_round(tmp_path: Path) -> None:
    write_pictured(tmp_path, "a")
    (found,) = sheet(tmp_path, "a")
    picture = decoded(found.url)
    assert picture.format == "JPEG" and picture.size == found.size == (180, 90)
    pixels = np.asarray(picture).astype(int)
    assert (pixels[:40, :80, 0] > 200).all() and (pixels[:, 100:, 2] > 200).all()


def test_the_outline_can_be_seen_and_lies_where_the_tissue_is(tmp_path: Path) -> None:
    write_pictured(tmp_path, "a")
    (found,) = sheet(tmp_path, "a")
    assert green(found.url) == pytest.approx((22.5, 45, 90, 78.75), abs=2)
    write_pictured(tmp_path, "b", bounds=[1024, 128, 3072, 1920])
    (found,) = sheet(tmp_path, "b")
    assert green(found.url) == pytest.approx((22.5 + 45, 45 + 5.6, 90 + 45, 78.75 + 5.6), abs=2), "QuPath counts from bounds"


def test_a_slide_whose_outline_is_gone_has_its_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictured(tmp_path, "a").with_suffix(".geojson").unlink()
    (found,) = sheet(tmp_path, "a")
    assert found.url and "no outline" in caplog.text


def test_warnings_come_first_then_the_least_tissue_and_slides_without_a_picture_last(tmp_path: Path) -> None:
    write_pictured(tmp_path, "much", tissue_share=0.9)
    write_pictured(tmp_path, "some", tissue_share=0.1)
    write_pictured(tmp_path, "all", tissue_share=0.99, warnings=["tissue covers 99.00% of the slide"])
    write_pictured(tmp_path, "hardly", tissue_share=0.0004, warnings=[LITTLE])
    write_pictured(tmp_path, "bits", tissue_share=0.2, status="empty", reason="no tile holds 50% tissue", n_tiles=0)
    write_failed(tmp_path, "broken", "cannot open")
    found = sheet(tmp_path, "broken", "much", "all", "some", "bits", "hardly")
    assert [m.slide_id for m in found] == ["hardly", "bits", "all", "some", "much", "broken"]
    assert [m.is_suspicious for m in found] == [True, True, True, False, False, True]


def test_a_slide_has_a_picture_for_each_tiling_that_an_encoder_uses(tmp_path: Path) -> None:
    for tiling, n in (("near", 40), ("far", 3), ("unused", 1)):
        write_pictured(tmp_path, "a", tiling=tiling, n_tiles=n)
    assert {(m.tiling, m.n_tiles) for m in sheet(tmp_path, "a", tilings=("near", "far", "near"))} == {("near", 40), ("far", 3)}


def test_a_picture_that_is_gone_or_broken_is_said_to_be(tmp_path: Path) -> None:
    write_tiled(tmp_path, "gone")
    write_tiled(tmp_path, "broken").with_suffix(".png").write_bytes(b"no picture")
    found = sheet(tmp_path, "gone", "broken")
    assert [(m.url, m.remarks) for m in found] == [("", "no QC image: run `tile` again")] * 2


def test_a_slide_that_was_never_tiled_stops_the_report(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run its stage again"):
        sheet(tmp_path, "a")


def test_a_share_below_a_hundredth_has_two_decimals() -> None:
    assert [percent(share) for share in (0.0004, 0.001, 0.25, 0.999)] == ["0.04 %", "0.10 %", "25.0 %", "99.9 %"]


def test_the_page_shows_every_mask_and_marks_a_warning_in_words(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    for number in range(1, 9):
        write_pictured(tmp_path, f"s{number}", n_tiles=1234 + number)
    write_pictured(tmp_path, "s0", tissue_share=0.0004, n_tiles=1, warnings=[LITTLE])
    page(tmp_path, ["a"])
    html = overview(tmp_path)
    section = html[html.index('<h2 id="masks">') : html.index('<h2 id="settings">')]
    assert '<a href="#masks">Tissue masks</a>' in html
    assert section.count('loading="lazy"') == section.count("data:image/jpeg") == section.count('href="#slide-s') == 9
    assert section.index("#slide-s0") < section.index("#slide-s1") and section.count('class="suspicious"') == 1
    assert f'alt="Tissue mask of s0: 0.04 % tissue, 1 tile; warning: {LITTLE}"' in section
    assert 'alt="Tissue mask of s7: 25.0 % tissue, 1,241 tiles"' in section and "the 1 of 9 with a warning" in section
    assert "<span>25.0 % tissue, 1,241 tiles</span>" in section, "one tiling need not be named"
    assert set(re.findall(r'href="#(slide-\w+)"', section)) <= set(re.findall(r'id="(slide-\w+)"', html))


def test_a_failed_slide_is_an_empty_box_with_the_reason_in_short_and_whole(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    reason = f'gone.svs: a "quoted" <reason> that is {"very " * 30}long'
    write_failed(tmp_path, "s3", reason)
    page(tmp_path, ["a"])
    html = overview(tmp_path)
    section = html[html.index('<h2 id="masks">') : html.index('<h2 id="settings">')]
    box = next(item for item in section.split("<li") if "<b>s3</b>" in item)
    assert "<img" not in box and "no image" in box and "<span>not tiled</span>" in box
    whole = reason.replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")
    short = re.search(r'class="remark">⚠ (.*)…</span>', box)
    assert f'title="{whole}"' in box and short is not None
    assert whole.startswith(f"gone.svs: {short[1]}") and len(unescape(short[1])) == 59, "the path is left out"


def test_two_hundred_pictures_of_noise_and_tiles_stay_below_three_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal((205, 140, 180), 40, (768, 1024, 3)), 0, 255).astype(np.uint8)
    pixels[::8] = pixels[:, ::8] = (40, 90, 200)
    Image.fromarray(pixels).save(write_pictured(tmp_path, "a").with_suffix(".png"))
    (found,) = sheet(tmp_path, "a")
    assert 200 * len(found.url) < 3_000_000


def test_what_was_cut_out_and_whose_mask_it_is_stand_below_the_picture(tmp_path: Path) -> None:
    write_pictured(tmp_path, "a", tissue_share=0.25, n_tiles=7, cut_area_um2=1.5e6, mask="a_mask_use.png")
    write_pictured(tmp_path, "b", tissue_share=0.25, n_tiles=7, cut_area_um2=0.0, mask=None)
    words = {picture.slide_id: picture.caption for picture in sheet(tmp_path, "a", "b")}
    assert words == {"a": "25.0 % tissue (mask a_mask_use.png), 1.50 mm² excluded, 7 tiles", "b": "25.0 % tissue, 7 tiles"}


def test_outlines_of_imported_tiles_are_no_masks_that_could_be_wrong(tmp_path: Path) -> None:
    write_tiled(tmp_path, "here", warnings=[LITTLE])
    write_tiled(tmp_path, "elsewhere", warnings=["the slide's size is unknown"], imported={"layout": "pt"})
    elsewhere, here = sorted(sheet(tmp_path, "here", "elsewhere"), key=lambda picture: picture.slide_id)
    assert elsewhere.is_imported and elsewhere.remarks == "the slide's size is unknown"
    assert not here.is_imported and here.remarks == f"no QC image: run `tile` again; {LITTLE}"
