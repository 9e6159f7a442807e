import hashlib
import json
import os
from pathlib import Path

import pytest

from wsi_mil.config import Encoder
from wsi_mil.encoders import RECORDS, network_identity, weights_hash
from wsi_mil.encoders.identity import file_hash
from wsi_mil.encoders.names import default_weights


def test_other_weights_have_another_hash(tmp_path: Path) -> None:
    content = default_weights().read_bytes()
    (tmp_path / "same.pth").write_bytes(content)
    (tmp_path / "other.pth").write_bytes(content[:-1])
    same, other = (weights_hash("efficientnet_lite0", str(tmp_path / name)) for name in ("same.pth", "other.pth"))
    assert same == weights_hash("efficientnet_lite0", "pretrained") == hashlib.sha256(content).hexdigest() != other


def test_every_network_differs_from_every_other() -> None:
    found = [network_identity(Encoder(encoder=name)) for name in (*RECORDS, "resnet50.a1_in1k", "resnet50.a2_in1k")]
    assert len({json.dumps(each, sort_keys=True) for each in found}) == len(RECORDS) + 2
    assert all(json.loads(json.dumps(each)) == each for each in found)


def test_the_identity_contains_all_that_determines_the_features() -> None:
    both, one = (network_identity(Encoder(encoder=name)) for name in ("virchow2", "virchow2_cls"))
    assert {key for key in both if both[key] != one[key]} == {"encoder", "network"}
    assert {key for key in both["network"] if both["network"][key] != one["network"][key]} == {"pooling"}
    assert network_identity(Encoder(encoder="gigapath"))["network"]["resize_px"] == 256
    random = network_identity(Encoder(encoder="uni", weights="random"))
    assert random["weights_hash"] == "random-seed-0" and random["network"]["mean"] == [0.485, 0.456, 0.406]


def test_the_hash_of_a_large_file_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("wsi_mil.encoders.identity.WORTH_KEEPING", 3)
    file = tmp_path / "w.bin"
    file.write_bytes(b"abcd")
    assert file_hash(file) == hashlib.sha256(b"abcd").hexdigest()
    (kept,) = (tmp_path / "cache/wsi_mil/weights").iterdir()
    assert kept.read_text() == hashlib.sha256(b"abcd").hexdigest()
    file.write_bytes(b"abce")
    os.utime(file, ns=(0, 7))
    assert file_hash(file) == hashlib.sha256(b"abce").hexdigest()


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("wsi_mil.encoders.identity.WORTH_KEEPING", 3)
    (tmp_path / "v.bin").write_bytes(b"abcd")
    assert file_hash(tmp_path / "v.bin") == hashlib.sha256(b"abcd").hexdigest()
