from pathlib import Path

import pytest

from tests.test_extract import MeanColour
from tests.tile.test_stage import tiled, without_mpp
from wsi_mil.cohort.status import cohort_statuses, identical_slides, slide_status
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
        about = {"status": status, "reason": "" if status == "ok" else f"it is {status}", "warnings": ["look"], "n_tiles": 7}
        write_receipt(tmp_path / entry / "s.json", about)
    found = slide_status("s", tmp_path, ["a", "b"])
    assert found.status == whole and found.warnings == "look" and found.n_tiles == {"a": 7, "b": 7}
    assert (f"it is {whole}" in found.reason) == (whole != "ok")


def test_a_skipped_slide_is_in_the_status_table(tmp_path: Path) -> None:
    row = SlideRow("a", without_mpp(tmp_path))
    tiled(row, tmp_path / "t", slide={"on_missing_mpp": "skip"})
    receipt = tmp_path / "f" / "e" / "a.json"
    extract_slide(tmp_path / "t" / "a.json", row, Encoder(), receipt, dtype="float32", encoder=MeanColour, threads=1)
    found = slide_status("a", tmp_path / "f", ["e"])
    assert found.status is Status.SKIPPED and "no usable resolution" in found.reason and found.n_tiles == {"e": 0}


def receipt(folder: Path, entry: str, slide_id: str, content: str, status: str = "ok") -> None:
    about = {"status": status, "reason": "", "warnings": ["pale"] if slide_id == "b" else [], "slide_hash": content}
    write_receipt(folder / entry / f"{slide_id}.json", about)


def test_slides_with_identical_content_have_deterministic_warnings(tmp_path: Path) -> None:
    for slide_id, content in zip("cabde", ("1-x", "2-y", "1-x", "3-z", "1-x"), strict=True):
        receipt(tmp_path, "e", slide_id, content)
    assert identical_slides("cabde", tmp_path, ["e"]) == [("c", "b", "e")]
    first = cohort_statuses(list("cabde"), tmp_path, ["e"])
    said = {status.slide_id: status.warnings for status in first}
    assert said == {
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
    assert identical_slides("abcdx", tmp_path, ["e"]) == []


def test_a_pair_found_by_two_encoders_is_reported_once(tmp_path: Path) -> None:
    for entry, content in (("e", "1-x"), ("f", "features-y")):
        for slide_id in "ab":
            receipt(tmp_path, entry, slide_id, content)
    assert identical_slides("ab", tmp_path, ["e", "f"]) == [("a", "b")]
    assert cohort_statuses(["a", "b"], tmp_path, ["e", "f"])[0].warnings == "same content as slide b"
