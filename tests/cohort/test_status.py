from pathlib import Path

import pytest

from tests.test_extract import MeanColour
from tests.tile.test_stage import tiled, without_mpp
from wsi_mil.cohort.status import cohort_statuses, duplicate_slides, slide_status
from wsi_mil.config import Encoder
from wsi_mil.extract import extract_slide
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow, Status


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [("ok", "ok", "ok"), ("ok", "empty", "empty"), ("skipped", "empty", "skipped"), ("failed", "skipped", "failed")],
)
def test_the_status_of_a_slide_is_that_of_its_worst_entry(tmp_path: Path, first: str, second: str, whole: str) -> None:
    for entry, status in (("a", first), ("b", second)):
        fields = {"status": status, "reason": "" if status == "ok" else f"it is {status}", "warnings": ["look"], "n_tiles": 7}
        write_receipt(tmp_path / entry / "s.json", fields)
    result = slide_status("s", tmp_path, ["a", "b"])
    assert result.status == whole and result.warnings == "look" and result.n_tiles == {"a": 7, "b": 7}
    assert (f"it is {whole}" in result.reason) == (whole != "ok")


def test_a_skipped_slide_is_skipped_in_cohort_status(tmp_path: Path) -> None:
    row = SlideRow("a", without_mpp(tmp_path))
    tiled(row, tmp_path / "t", slide={"on_missing_mpp": "skip"})
    receipt = tmp_path / "f" / "e" / "a.json"
    extract_slide(tmp_path / "t" / "a.json", row, Encoder(), receipt, dtype="float32", encoder=MeanColour, threads=1)
    result = slide_status("a", tmp_path / "f", ["e"])
    assert result.status is Status.SKIPPED and "no usable resolution" in result.reason and result.n_tiles == {"e": 0}


def receipt(folder: Path, entry: str, slide_id: str, content: str, status: str = "ok") -> None:
    fields = {"status": status, "reason": "", "warnings": ["pale"] if slide_id == "b" else [], "slide_hash": content}
    write_receipt(folder / entry / f"{slide_id}.json", fields)


def test_slides_with_identical_content_have_deterministic_warnings(tmp_path: Path) -> None:
    for slide_id, content in zip("cabde", ("1-x", "2-y", "1-x", "3-z", "1-x"), strict=True):
        receipt(tmp_path, "e", slide_id, content)
    assert duplicate_slides("cabde", tmp_path, ["e"]) == [("c", "b", "e")]
    first = cohort_statuses(list("cabde"), tmp_path, ["e"])
    warnings = {status.slide_id: status.warnings for status in first}
    assert warnings == {
        "c": "same content as slides b, e",
        "a": "",
        "b": "pale; same content as slides c, e",
        "d": "",
        "e": "same content as slides c, b",
    }
    assert cohort_statuses(list("cabde"), tmp_path, ["e"]) == first and {status.status for status in first} == {Status.OK}


def test_unused_slides_and_receipts_without_a_hash_are_no_duplicates(tmp_path: Path) -> None:
    receipt(tmp_path, "e", "a", "1-x")
    receipt(tmp_path, "e", "b", "1-x", status="failed")
    receipt(tmp_path, "e", "c", "")
    receipt(tmp_path, "e", "d", "")
    assert duplicate_slides("abcdx", tmp_path, ["e"]) == []


def test_a_pair_found_by_two_encoders_is_reported_once(tmp_path: Path) -> None:
    for entry, content in (("e", "1-x"), ("f", "features-y")):
        for slide_id in "ab":
            receipt(tmp_path, entry, slide_id, content)
    assert duplicate_slides("ab", tmp_path, ["e", "f"]) == [("a", "b")]
    assert cohort_statuses(["a", "b"], tmp_path, ["e", "f"])[0].warnings == "same content as slide b"
