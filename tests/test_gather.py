from pathlib import Path

import pytest

from tests.test_extract import MeanColour
from tests.test_tile import tiled, without_mpp
from wsi_mil.config import Encoder
from wsi_mil.extract import extract_slide
from wsi_mil.gather import slide_status
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow, Status


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [("ok", "ok", "ok"), ("ok", "empty", "empty"), ("skipped", "empty", "skipped"), ("failed", "skipped", "failed")],
)
def test_a_slide_is_as_bad_as_its_worst_entry(tmp_path: Path, first: str, second: str, whole: str) -> None:
    for entry, status in (("a", first), ("b", second)):
        about = {"status": status, "reason": "" if status == "ok" else f"it is {status}", "warnings": ["look"], "n_tiles": 7}
        write_receipt(tmp_path / entry / "s.json", about)
    found = slide_status("s", tmp_path, ["a", "b"])
    assert found.status == whole and found.warnings == "look" and found.n_tiles == {"a": 7, "b": 7}
    assert (f"it is {whole}" in found.reason) == (whole != "ok")


def test_a_skipped_slide_goes_its_way_to_the_cohorts_table(tmp_path: Path) -> None:
    row = SlideRow("a", without_mpp(tmp_path))
    tiled(row, tmp_path / "t", slide={"on_missing_mpp": "skip"})
    receipt = tmp_path / "f" / "e" / "a.json"
    extract_slide(tmp_path / "t" / "a.json", row, Encoder(), receipt, dtype="float32", encoder=MeanColour, threads=1)
    found = slide_status("a", tmp_path / "f", ["e"])
    assert found.status is Status.SKIPPED and "no usable resolution" in found.reason and found.n_tiles == {"e": 0}
