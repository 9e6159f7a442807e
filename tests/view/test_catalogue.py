from pathlib import Path

import pytest

from tests.targets import NAME
from tests.view.made import Results
from wsi_mil.errors import UnknownNameError
from wsi_mil.receipts import write_receipt
from wsi_mil.view import Catalogue
from wsi_mil.view.catalogue import NOT_RUN, Entry
from wsi_mil.view.pages import slide_json
from wsi_mil.view.slide_images import THUMBNAIL, SlideImage

ENTRY = Entry(NAME, "enc", "abmil")


def test_slides_are_in_the_order_of_the_sheet_then_of_other_files(made: Results) -> None:
    made.write_status({"s2": ("ok", ""), "gone": ("failed", "x")})
    assert made.catalogue().slide_ids == ["s1", "s2", "s10", "bad", "gone"]
    assert Catalogue(made.results).slide_ids == ["s2", "gone", "bad", "s1", "s10"]


def test_a_cohort_row_combines_sheet_status_and_prediction(made: Results) -> None:
    lines = {line.slide_id: line for line in made.catalogue().cohort_rows(NAME, ENTRY)}
    wrong = lines["s10"]
    assert (wrong.status, wrong.label, wrong.shown.predicted, wrong.is_wrong) == ("ok", "normal", "tumour", True)
    assert (wrong.fold, wrong.n_tiles, wrong.patient_id, wrong.has_picture) == ("2", "425", "p-s10", True)
    assert not lines["s1"].is_wrong and not lines["bad"].is_wrong and not lines["bad"].has_picture


def test_without_statuses_receipts_are_used(made: Results) -> None:
    (made.results / "cohort_status.csv").unlink()
    lines = {line.slide_id: line for line in made.catalogue().cohort_rows(NAME, None)}
    assert (lines["bad"].status, lines["s1"].status) == ("failed", NOT_RUN)
    assert "tiled" in lines["s1"].reason and lines["bad"].reason


def test_without_statuses_a_failed_extraction_or_second_tiling_is_shown(made: Results) -> None:
    (made.results / "cohort_status.csv").unlink()
    write_receipt(made.results / "features/enc/s1.json", {"status": "failed", "reason": "9 % of the tiles are corrupt"})
    write_receipt(made.results / "features/enc/s10.json", {"status": "ok", "count": 425})
    write_receipt(made.results / "tiles/fine/s2.json", {"status": "empty", "reason": "no tissue"})
    lines = {line.slide_id: line for line in made.catalogue().cohort_rows(NAME, None)}
    assert (lines["s1"].status, lines["s1"].reason, lines["s1"].n_tiles) == ("failed", "9 % of the tiles are corrupt", "425")
    assert (lines["s2"].status, lines["s2"].reason) == ("empty", "no tissue")
    assert lines["s10"].status == NOT_RUN and lines["s10"].reason.startswith("features extracted")


def test_entries_are_those_with_predictions_or_scores(made: Results) -> None:
    made.write_predictions({"s1": 0.5}, "other/mhim")
    assert made.catalogue().entries == [ENTRY, Entry(NAME, "other", "mhim")]


def test_scores_are_matched_to_their_tiling(made: Results) -> None:
    slide = made.add_marked("s1", scored=False)
    made.rows.pop()
    slide.tiles["coords_digest"] = "other"
    made.write_tiles(slide, "fine")
    catalogue = made.catalogue()
    assert catalogue.tiling_of("s1", catalogue.scores("s1", ENTRY)) == "default"
    assert catalogue.tiling_of("s1", {"tiles": {"coords_digest": "other", "slide_hash": slide.slide_hash}}) == "fine"
    assert catalogue.tiling_of("s1", {"tiles": {"coords_digest": "none"}}) is None


@pytest.mark.parametrize("name", ["..", "../s1", "/etc/passwd", "s1/../s2", "<b>", "", ".hidden", "-rf"])
def test_an_invalid_file_name_never_becomes_a_path(made: Results, name: str) -> None:
    made.write_status({name: ("ok", "")})
    catalogue = made.catalogue()
    assert name not in catalogue.path_safe_ids
    for look_up in (catalogue.row, catalogue.tiles_receipts, catalogue.thumbnail_store):
        with pytest.raises(UnknownNameError):
            look_up(name)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"slide_id,status\ns1\n", b'slide_id,status\n"s1,ok\n'])
def test_a_damaged_table_is_ignored(made: Results, content: bytes) -> None:
    (made.results / "cohort_status.csv").write_bytes(content)
    lines = {line.slide_id: line for line in made.catalogue().cohort_rows(NAME, ENTRY)}
    assert lines["s2"].status == NOT_RUN


def test_an_empty_folder_has_an_empty_catalogue(tmp_path: Path) -> None:
    assert Catalogue(tmp_path).cohort_rows("", None) == [] and Catalogue(tmp_path).entries == []


def test_an_entry_with_vectors_of_slides_has_no_tiles_and_says_why_there_is_no_heatmap(made: Results) -> None:
    made.write_predictions({"s1": 0.5}, "titan/mean")
    write_receipt(made.results / "features/titan/s1.json", {"status": "ok", "of": "slide"})
    (made.results / "cohort_status.csv").write_text(
        "slide_id,status,reason,warnings,n_tiles_titan,n_tiles_enc\ns1,ok,,,1,425\n", encoding="utf-8"
    )
    catalogue = made.catalogue()
    assert catalogue.status("s1")[2] == "425" and catalogue.is_of_slides("titan") and not catalogue.is_of_slides("enc")
    image = SlideImage(None, THUMBNAIL, 0, None, "there is no slide file, the features were imported")
    notes = {entry["name"]: entry["notes"] for entry in slide_json(catalogue, "s1", image)["entries"]}
    assert notes["titan · mean"] == ["this model learned from one vector for each slide, so there is no heatmap"]
