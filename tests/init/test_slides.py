from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import SHARED_SLIDES
from tests.init.files import write_slide, write_slides
from wsi_mil.errors import ConfigError
from wsi_mil.init.slides import Found, find_slides


def _ids(found: Found) -> list[str]:
    return [slide.slide_id for slide in found.slides]


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), (200, 100, 150)).save(path)
    return path


def test_slides_are_found_in_nested_folders_in_natural_order(tmp_path: Path) -> None:
    write_slides(tmp_path, ["b/c/S10.svs", "a/S9.svs", "S2.svs"])
    assert _ids(find_slides([tmp_path])) == ["S2", "S9", "S10"]


def test_a_slide_is_recognised_by_its_content_without_an_ending(tmp_path: Path) -> None:
    write_slide(tmp_path / "scan")
    (tmp_path / "notes.svs.txt").write_text("no slide")
    assert _ids(find_slides([tmp_path])) == ["scan"]


def test_the_resolution_is_read_from_the_header(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.svs")
    pixels = np.full((64, 96, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", pixels, tile=(32, 32), resolution=(40_000, 20_000), resolutionunit=3)
    tifffile.imwrite(tmp_path / "c.tif", pixels + 1, tile=(32, 32))
    mpps = {slide.slide_id: slide.mpp for slide in find_slides([tmp_path]).slides}
    assert path.exists() and mpps["c"] is None
    assert mpps["a"] is not None and (mpps["a"].x, mpps["a"].y) == (0.5, 0.5)
    assert mpps["b"] is not None and (mpps["b"].x, mpps["b"].y) == (0.25, 0.5)


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_slides(tmp_path, ["._a.svs", ".trash/b.svs", "c.svs"])
    assert _ids(find_slides([tmp_path])) == ["c"]


def test_pictures_beside_slides_are_no_slides_and_named(tmp_path: Path) -> None:
    write_slides(tmp_path, ["a.svs", "a_label.tif", "masks/b.tif", "b.svs", "label_study.svs"])
    _picture(tmp_path / "anything.png")
    found = find_slides([tmp_path])
    assert _ids(found) == ["a", "b", "label_study"]
    assert any("3 pictures beside slides not taken" in note and "anything.png" in note for note in found.notes)


def test_plain_images_are_slides_where_there_are_no_others(tmp_path: Path) -> None:
    _picture(tmp_path / "field1.png")
    _picture(tmp_path / "field1_thumbnail.png")
    _picture(tmp_path / "field2.bmp")
    assert _ids(find_slides([tmp_path])) == ["field1", "field2"]


def test_images_are_taken_beside_slides_only_if_asked_for(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs")
    _picture(tmp_path / "field.png")
    assert _ids(find_slides([tmp_path], images=True)) == ["a", "field"]
    assert _ids(find_slides([tmp_path])) == ["a"]


def test_links_to_a_slide_and_its_copies_are_one_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "x" / "real.svs", "one")
    write_slide(tmp_path / "real (copy).svs", "one")
    (tmp_path / "link.svs").symlink_to(tmp_path / "x" / "real.svs")
    (tmp_path / "a_folder").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    found = find_slides([tmp_path, tmp_path / "x"])
    assert _ids(found) == ["real"] and found.slides[0].path == tmp_path / "x" / "real.svs"
    assert {"real (copy)", "link"} <= set(found.slides[0].names)
    assert any("copies with the same content" in note for note in found.notes)


def test_slides_of_one_name_are_named_after_their_folders(tmp_path: Path) -> None:
    write_slides(tmp_path, ["HE/P1.svs", "IHC/P1.svs", "P2.svs"])
    found = find_slides([tmp_path])
    assert _ids(found) == ["HE_P1", "IHC_P1", "P2"]
    assert any("2 slides of the same name" in note for note in found.notes)


def test_ids_differ_where_case_does_not_count(tmp_path: Path) -> None:
    write_slides(tmp_path, ["s1.svs", "S1.ndpi.svs", "S1.tif"])
    ids = _ids(find_slides([tmp_path]))
    assert len({text.casefold() for text in ids}) == 3


def test_ids_of_names_with_spaces_and_umlauts_are_valid_and_said(tmp_path: Path) -> None:
    write_slides(tmp_path, ["Müller Ärzte (1).svs", "ok.svs"])
    found = find_slides([tmp_path])
    assert _ids(found) == ["Muller_Arzte_1", "ok"]
    assert any("'Müller Ärzte (1)' → Muller_Arzte_1" in note for note in found.notes)


def test_files_that_look_like_slides_are_refused_with_their_reason(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs")
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "damaged.svs").write_bytes(b"no slide" * 99)
    (tmp_path / "gone.svs").symlink_to(tmp_path / "nowhere.svs")
    _picture(tmp_path / "preview.jpg").rename(tmp_path / "preview.svs")
    _picture(tmp_path / "mirax.jpg").rename(tmp_path / "mirax.mrxs")
    (tmp_path / "big.vsi").write_bytes(b"II*\0")
    (tmp_path / "notes.txt").write_text("no slide, and nothing that looks like one")
    reasons = {path.name: reason for path, reason in find_slides([tmp_path]).refused}
    assert set(reasons) == {"empty.svs", "damaged.svs", "gone.svs", "preview.svs", "mirax.mrxs", "big.vsi"}
    assert (
        "0 bytes" in reasons["empty.svs"] and "folder mirax" in reasons["mirax.mrxs"] and "a preview?" in reasons["preview.svs"]
    )


def test_paths_that_a_sheet_cannot_hold_are_refused(tmp_path: Path) -> None:
    write_slides(tmp_path, ["a.svs", "b{1}.svs", "c\nd.svs"])
    found = find_slides([tmp_path])
    assert _ids(found) == ["a"] and [path.name for path, _ in found.refused] == ["b{1}.svs", "c\nd.svs"]


def test_the_folder_of_a_mirax_slide_holds_no_slides_of_its_own(tmp_path: Path) -> None:
    write_slides(tmp_path, ["a.svs", "scan/Data0000.svs"])
    (tmp_path / "scan" / "Slidedat.ini").write_text("[GENERAL]")
    found = find_slides([tmp_path])
    assert _ids(found) == ["a"] and any("scan.mrxs is missing" in note for note in found.notes)


def test_results_of_an_earlier_run_are_passed_over(tmp_path: Path) -> None:
    write_slides(tmp_path, ["a.svs", "results/heatmaps/a.tif"])
    (tmp_path / "results" / "cohort_status.csv").write_text("slide_id\n")
    assert _ids(find_slides([tmp_path])) == ["a"]


@pytest.mark.skipif(not SHARED_SLIDES.exists(), reason="needs the DICOM files of openslide-python")
def test_the_dicom_files_of_a_series_are_one_slide(tmp_path: Path) -> None:
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        (tmp_path / name).write_bytes((SHARED_SLIDES / "openslide-fixtures" / name).read_bytes())
    found = find_slides([tmp_path])
    assert len(found.slides) == 1 and found.slides[0].mpp is not None
    assert any("2 DICOM files are 1 slide" in note for note in found.notes)


def test_a_folder_without_slides_is_a_fault_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a")
    (tmp_path / "b.svs").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no slide found: there are 2 files \(\.csv, \.svs\); b\.svs is empty"):
        find_slides([tmp_path])


def test_sources_that_do_not_exist_are_all_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_slides([tmp_path / "nowhere", Path("s3://bucket/slides")])
    assert "no such file or folder" in raised.value.faults[0] and "cannot be listed" in raised.value.faults[1]
