import json
from pathlib import Path

import pytest

from tests.encoders.conftest import PLACE, TEMPLATE, Hub, put_in_cache
from wsi_mil.config import Encoder
from wsi_mil.encoders import RECORDS, feature_dim, find_weights, weights_file, weights_hash
from wsi_mil.encoders.names import default_weights
from wsi_mil.encoders.networks import create_network
from wsi_mil.errors import ConfigError, WsiMilError

RESNET = Encoder(encoder="resnet18.a1_in1k")
UNI, MIDNIGHT = RECORDS["uni"], RECORDS["midnight"]


def test_weights_that_need_no_hub_are_there_or_not(tmp_path: Path) -> None:
    assert find_weights(Encoder()).source == f"packaged ({default_weights().name})" and not find_weights(Encoder()).missing
    assert not find_weights(Encoder(weights="random")).missing
    file = tmp_path / "w.safetensors"
    assert "no such file" in find_weights(Encoder(weights=str(file))).missing
    file.touch()
    assert not find_weights(Encoder(weights=str(file))).missing
    assert "no pretrained weights" in find_weights(Encoder(encoder="botnet50ts_256")).missing


def test_weights_in_the_cache_of_the_hub_are_there(hub_cache: Path, offline: None) -> None:
    assert find_weights(RESNET).missing.startswith("HF_HUB_OFFLINE forbids")
    put_in_cache(hub_cache, "timm/resnet18.a1_in1k", "model.safetensors")
    assert find_weights(RESNET).source == "in the cache of the Hugging Face Hub (timm/resnet18.a1_in1k)"
    assert not find_weights(RESNET).missing


def test_the_hub_is_asked_for_what_is_not_in_its_cache(hub: Hub, hub_cache: Path) -> None:
    hub.files["/timm/resnet18.a1_in1k/resolve/main/pytorch_model.bin"] = bytes(3_000_000)
    found = find_weights(RESNET)
    assert not found.missing and found.source.endswith("not in its cache: fetched on first use (3 MB)")
    assert (
        "the Hub has none of model.safetensors, pytorch_model.bin in a/b@main"
        in find_weights(Encoder(encoder="hf-hub:a/b")).missing
    )
    assert not hub_cache.exists() and feature_dim(Encoder(encoder="hf-hub:a/b")) is None
    assert not [line for line in hub.asked if line.startswith("GET")]


def test_a_hub_that_does_not_answer_is_one_line(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TEMPLATE, f"http://127.0.0.1:9{PLACE}")
    missing = find_weights(RESNET).missing
    assert missing.startswith("cannot be fetched (") and "set `weights: /path/to/model.safetensors`" in missing
    assert "\n" not in missing
    with pytest.raises(WsiMilError, match="encoder uni: no weights; cannot be fetched") as error:
        weights_file(Encoder(encoder="uni"))
    assert f"https://huggingface.co/MahmoodLab/uni/resolve/{UNI.revision}/pytorch_model.bin" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_is_looked_for_at_its_commit(hub_cache: Path, offline: None) -> None:
    put_in_cache(hub_cache, UNI.repository, "pytorch_model.bin")  # main, which may have moved on
    assert find_weights(Encoder(encoder="uni")).missing
    put_in_cache(hub_cache, UNI.repository, "pytorch_model.bin", revision=UNI.revision or "")
    assert find_weights(Encoder(encoder="uni")).source == "in the cache of the Hugging Face Hub (MahmoodLab/uni)"
    found = weights_file(Encoder(encoder="uni"))
    assert found is not None and found.is_file() and found.parent.name == UNI.revision


def test_without_a_network_the_message_names_the_file_to_download(hub_cache: Path, offline: None) -> None:
    with pytest.raises(WsiMilError, match="encoder uni2_h: no weights; HF_HUB_OFFLINE forbids downloads; download") as error:
        weights_file(Encoder(encoder="uni2_h"))
    url = f"https://huggingface.co/MahmoodLab/UNI2-h/resolve/{RECORDS['uni2_h'].revision}/pytorch_model.bin"
    assert str(error.value).endswith(f"download {url} elsewhere and set `weights: /path/to/pytorch_model.bin`")


def test_gated_weights_say_where_the_licence_is_accepted(hub: Hub, hub_cache: Path) -> None:
    hub.gated.add(UNI.repository)
    with pytest.raises(WsiMilError) as error:
        weights_file(Encoder(encoder="uni"))
    text = str(error.value)
    assert "accept the licence (CC-BY-NC-ND-4.0) at https://huggingface.co/MahmoodLab/uni: accept it and log in" in text
    assert "set `weights: /path/to/pytorch_model.bin`" in text and "\n" not in text
    assert "accept the licence at https://huggingface.co/MahmoodLab/uni" in find_weights(Encoder(encoder="uni")).missing


def test_weights_are_fetched_once_and_are_the_same_weights_before_and_after(hub: Hub, hub_cache: Path) -> None:
    hub.files[f"/{MIDNIGHT.repository}/resolve/{MIDNIGHT.revision}/pytorch_model.bin"] = b"tensors"  # its second file
    before = weights_hash("midnight", "pretrained")
    file = weights_file(Encoder(encoder="midnight"))
    assert file is not None and file.read_bytes() == b"tensors"
    assert weights_hash("midnight", "pretrained") == before == f"kaiko-ai/midnight@{MIDNIGHT.revision}"
    asked = len(hub.asked)
    put_in_cache(hub_cache, MIDNIGHT.repository, "pytorch_model.bin", b"tensors", revision=MIDNIGHT.revision or "")
    assert weights_file(Encoder(encoder="midnight")) is not None and len(hub.asked) == asked


def test_a_repository_without_a_weights_file_is_named(hub: Hub) -> None:
    with pytest.raises(WsiMilError, match=r"the Hub has none of model.safetensors, pytorch_model.bin in owkin/phikon@057cc02"):
        weights_file(Encoder(encoder="phikon"))


def test_a_file_and_random_weights_need_no_hub(tmp_path: Path, hub: Hub) -> None:
    assert weights_file(Encoder(encoder="uni", weights=str(tmp_path / "w.bin"))) == tmp_path / "w.bin"
    assert weights_file(Encoder(encoder="uni", weights="random")) is None and weights_file(RESNET) is None
    assert feature_dim(Encoder(encoder="virchow2")) == 2560 and not hub.asked


@pytest.mark.usefixtures("offline")
def test_a_configuration_that_leaves_tokens_unpooled_is_rejected(hub_cache: Path) -> None:
    """As that of Virchow does; the features would be one row for each token."""
    about = {"architecture": "test_vit", "num_classes": 0, "pretrained_cfg": {"input_size": [3, 160, 160]}}
    for name, arguments in {"pooled": {}, "unpooled": {"global_pool": "", "class_token": True}}.items():
        content = json.dumps({**about, "model_args": arguments}).encode()
        put_in_cache(hub_cache, f"a/{name}", "config.json", content)
    assert create_network(Encoder(encoder="hf-hub:a/pooled", weights="random")).input_px == 160
    with pytest.raises(ConfigError, match="'hf-hub:a/unpooled': its configuration leaves its tokens unpooled, but one vec"):
        create_network(Encoder(encoder="hf-hub:a/unpooled", weights="random"))
