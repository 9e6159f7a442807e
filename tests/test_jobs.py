"""Slides are divided among jobs, and a job's record says what it has done."""

import errno
import json
from pathlib import Path

import pytest

from wsi_mil.cli.options import forget_if_forced
from wsi_mil.errors import ConfigError, DeviceMemoryError, StoreError
from wsi_mil.jobs import (
    MAX_SLIDES,
    divide,
    incomplete_records,
    lost_text,
    process_slides,
    read_division,
    write_record,
)
from wsi_mil.receipts import read_receipt, write_receipt


def test_slides_are_divided_evenly_in_the_order_of_the_sheet() -> None:
    assert divide(["g", "a", "f", "b", "e"], {}, None, parallel=2) == {"g": ["g", "a"], "f": ["f", "b", "e"]}


def test_auto_gives_every_core_work_and_no_job_more_than_the_limit() -> None:
    ids = [f"s{n}" for n in range(100)]
    assert sorted(len(members) for members in divide(ids, {}, None, parallel=64).values()) == [2] * 50
    assert max(len(members) for members in divide(ids, {}, None, parallel=2).values()) <= MAX_SLIDES


def test_a_number_fixes_the_size() -> None:
    assert divide(["a", "b", "c"], {}, 1, parallel=1) == {"a": ["a"], "b": ["b"], "c": ["c"]}
    assert divide(["a", "b", "c"], {}, 3, parallel=8) == {"a": ["a", "b", "c"]}


def test_slides_keep_their_job_when_others_come_and_go_and_the_sheet_is_sorted_differently() -> None:
    first = divide(["a", "b", "c", "d"], {}, None, parallel=2)
    assert divide(["d", "new", "b", "a", "z"], first, None, parallel=1) == {"a": ["a", "b"], "c": ["d"], "new": ["new", "z"]}


def test_no_two_jobs_have_one_name() -> None:
    first = {"a": ["b", "c"]}  # its first slide was taken out of the sheet, and is back
    assert divide(["a", "b", "c"], first, None, parallel=1) == {"a": ["b", "c"], "a~2": ["a"]}


def test_a_smaller_number_divides_larger_jobs_again() -> None:
    first = divide(["a", "b", "c"], {}, 3, parallel=1)
    assert divide(["a", "b", "c"], first, 2, parallel=1) == {"a": ["a"], "b": ["b", "c"]}
    assert divide(["a", "b", "c"], first, None, parallel=8) == first


def test_a_damaged_division_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "null", "[1]", '{"a": 3}'):
        (tmp_path / "slides.json").write_text(text)
        assert read_division(tmp_path / "slides.json") == {}
    division = divide(["a", "b"], {}, None, parallel=1)
    write_receipt(tmp_path / "slides.json", division)
    assert read_division(tmp_path / "slides.json") == division


def test_a_faulty_slide_does_not_stop_the_others_and_all_faults_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def work(item: int) -> None:
        if item == 1:
            raise StoreError(Path("s1"), "is damaged")
        if item == 2:
            raise ZeroDivisionError("a bug")
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        process_slides(["s0", "s1", "s2", "s3"], range(4), work)
    assert done == [0, 3] and "s1: is damaged" in caplog.text
    assert "s2: unexpected error" in caplog.text and "ZeroDivisionError" in caplog.text
    with pytest.raises(ConfigError) as error:
        process_slides(["s0", "s1", "again"], [1, 1], work)
    assert error.value.faults == ["s1: is damaged", "s1: is damaged"]
    with pytest.raises(StoreError):
        process_slides(["s0", "s1"], range(2), work)


@pytest.mark.parametrize("fault", [DeviceMemoryError("cuda:0", "no memory"), OSError(errno.ENOSPC, "full")])
def test_a_fault_of_the_machine_ends_the_job_at_once(fault: Exception) -> None:
    done = []

    def work(item: int) -> None:
        done.append(item)
        raise fault

    with pytest.raises(type(fault)):
        process_slides(["s0", "s1"], range(2), work)
    assert done == [0]


def test_a_record_changes_with_its_receipts_only_and_notices_deleted_files(tmp_path: Path) -> None:
    receipts = {name: tmp_path / "tiles" / f"{name}.json" for name in ("a", "b")}
    for receipt in receipts.values():
        write_receipt(receipt, {"status": "ok"})
    picture = tmp_path / "tiles" / "a.png"
    picture.write_bytes(b"1")
    record = tmp_path / "jobs" / "tile" / "default" / "a.json"
    write_record(record, receipts.values(), [picture])
    before = record.read_bytes()
    picture.write_bytes(b"2")
    write_record(record, receipts.values(), [picture])
    assert record.read_bytes() == before and incomplete_records(tmp_path / "jobs") == {}
    write_receipt(receipts["b"], {"status": "empty"})
    assert incomplete_records(tmp_path / "jobs") == {record: [record.parent / "../../../tiles/b.json"]}, "it was changed"
    write_record(record, receipts.values(), [picture])
    assert record.read_bytes() != before
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert incomplete_records(moved / "jobs") == {}
    (moved / "tiles" / "a.png").unlink()
    lost = incomplete_records(moved / "jobs")
    assert list(lost) == [moved / "jobs" / "tile" / "default" / "a.json"]
    assert lost_text(lost).startswith("1 result is missing") and lost_text(lost).endswith(f": {moved / 'tiles' / 'a.png'}")


def test_a_damaged_record_counts_as_incomplete(tmp_path: Path) -> None:
    record = tmp_path / "tile" / "default" / "a.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert incomplete_records(tmp_path) == {record: [record]}


def test_only_receipts_of_a_forced_stage_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = tmp_path / "a.json"
    write_receipt(receipt, {})
    rows = [json.dumps({"slide_id": name}) for name in ("a", "none")]
    monkeypatch.setenv("WSI_MIL_AGAIN", "explain_validation report")
    forget_if_forced("explain", rows, tmp_path)
    assert read_receipt(receipt) == {}
    monkeypatch.setenv("WSI_MIL_AGAIN", "explain report")
    forget_if_forced("explain", rows, tmp_path)
    assert not receipt.exists()
