import json
from pathlib import Path

from tests.encoders.conftest import put_in_cache
from tests.test_cli import is_light, run
from wsi_mil.encoders import RECORDS
from wsi_mil.encoders.listing import availability, markdown_table, rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"


def test_the_page_shows_the_records() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("<!-- records: encoders -->\n")[2].partition("<!-- end of records -->")[0]
    assert table == markdown_table(), "write it anew: make schema"


def test_weights_are_said_to_be_where_they_are(hub_cache: Path) -> None:
    uni = RECORDS["uni"]
    assert availability(RECORDS["efficientnet_lite0"]) == "packaged" and availability(uni) == "on the Hub"
    put_in_cache(hub_cache, uni.repository, "model.safetensors", revision=uni.revision or "")
    assert availability(uni) == "in the cache"


def test_without_a_network_the_list_says_what_to_bring(hub_cache: Path, offline: None) -> None:
    assert availability(RECORDS["conch_v1_5"]) == "download pytorch_model_vision.bin"
    assert [row["encoder"] for row in rows() if row["on_this_machine"]] == ["efficientnet_lite0"]


def test_the_command_lists_every_record_without_torch(tmp_path: Path) -> None:
    done = run("encoders", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and [line.split()[0] for line in lines[1 : len(RECORDS) + 1]] == list(RECORDS)
    assert "virchow 2,560 224 0.5 µm × 224 px Apache-2.0 yes on the Hub" in [" ".join(line.split()) for line in lines]
    assert is_light("encoders", cwd=tmp_path)


def test_the_command_prints_json_and_one_record(tmp_path: Path) -> None:
    listed = json.loads(run("encoders", "--json", cwd=tmp_path).stdout)
    assert [row["encoder"] for row in listed] == list(RECORDS) and listed[0]["weights"] == "packaged"
    one = json.loads(run("encoders", "h0_mini", "--json", cwd=tmp_path).stdout)
    assert one["features"] == 768 and one["gated"] and one["repository"] == "bioptimus/H0-mini"
    text = run("encoders", "gigapath", cwd=tmp_path).stdout
    assert (
        "images      224 px, cropped from 256 px" in text
        and "accept it at https://huggingface.co/prov-gigapath/prov-gigapath" in text
    )


def test_an_encoder_without_a_record_comes_with_the_nearest(tmp_path: Path) -> None:
    done = run("encoders", "uni2-h", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: no known encoder 'uni2-h'; did you mean 'uni2_h'?\n"
