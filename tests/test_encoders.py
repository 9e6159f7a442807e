import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from skimage import data

from wsi_mil.config import Encoder
from wsi_mil.encoders import feature_dim, find_weights, name_faults, weights_hash
from wsi_mil.encoders.encoder import create_encoder
from wsi_mil.encoders.names import default_weights
from wsi_mil.encoders.networks import create_classifier
from wsi_mil.errors import ConfigError

CPU = torch.device("cpu")
IMAGENET_TIGER_CAT, IMAGENET_ESPRESSO, IMAGENET_CUP = 282, 967, 968


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """A cat and a cup of coffee, uint8 (2, 224, 224, 3), as ImageNet is evaluated: 256 px, the middle 224."""
    tiles = []
    for image in (data.chelsea(), data.coffee()):
        picture = Image.fromarray(image)
        width, height = (round(side * 256 / min(picture.size)) for side in picture.size)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        tiles.append(np.asarray(picture.crop((left, top, left + 224, top + 224))))
    return np.stack(tiles)


def test_the_packaged_weights_know_a_cat_from_a_cup(photographs: np.ndarray) -> None:
    network, settings = create_classifier()
    assert settings["input_size"] == (3, 224, 224) and settings["mean"] == settings["std"] == (0.5, 0.5, 0.5)
    images = (torch.from_numpy(photographs).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        cat, cup = network(images).argmax(dim=1).tolist()
    assert cat == IMAGENET_TIGER_CAT and cup in (IMAGENET_ESPRESSO, IMAGENET_CUP)


def test_features_are_those_before_the_classifier(photographs: np.ndarray) -> None:
    network, _ = create_classifier()
    features = create_encoder(Encoder(), device=CPU, dtype=torch.float32).encode(photographs)
    assert features.shape == (2, feature_dim(Encoder())) == (2, 1280) and features.dtype == np.float16
    with torch.inference_mode():
        logits = network.get_classifier()(torch.from_numpy(features).float())
    assert logits.argmax(dim=1)[0] == IMAGENET_TIGER_CAT


def test_bfloat16_features_point_the_same_way(photographs: np.ndarray) -> None:
    exact = create_encoder(Encoder(), device=CPU, dtype=torch.float32).encode(photographs).astype(float)
    fast = create_encoder(Encoder(), device=CPU, dtype=torch.bfloat16).encode(photographs).astype(float)
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.99


def test_any_timm_model_encodes_and_resizes_tiles() -> None:
    settings = Encoder(encoder="test_efficientnet.r160_in1k", weights="random")
    encoder = create_encoder(settings, device=CPU, dtype=torch.float32)
    tiles = np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3), dtype=np.uint8)
    features = encoder.encode(tiles)
    again = create_encoder(settings, device=CPU, dtype=torch.float32).encode(tiles)
    assert features.shape == (3, encoder.dim) and np.array_equal(features, again)
    assert not np.array_equal(features[0], features[1])


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "ghostnet_050"])
def test_the_length_of_features_is_that_of_what_comes_out(name: str) -> None:
    encoder = create_encoder(Encoder(encoder=name, weights="random"), device=CPU, dtype=torch.float32)
    assert encoder.encode(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, encoder.dim)
    assert feature_dim(Encoder(encoder=name)) == encoder.dim


def test_weights_from_a_file(tmp_path, photographs: np.ndarray) -> None:
    from safetensors.torch import save_file

    network, _ = create_classifier()
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    settings = Encoder(encoder="tf_efficientnet_lite0", weights=str(tmp_path / "w.safetensors"))
    loaded = create_encoder(settings, device=CPU, dtype=torch.float32).encode(photographs)
    assert np.array_equal(loaded, create_encoder(Encoder(), device=CPU, dtype=torch.float32).encode(photographs))


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"conv": torch.zeros(1)}, tmp_path / "w.safetensors")
    settings = Encoder(encoder="test_efficientnet.r160_in1k", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ConfigError, match="not of this encoder"):
        create_encoder(settings, device=CPU, dtype=torch.float32)


def test_every_pretrained_timm_name_is_known_without_timm() -> None:
    names = [*timm.list_models(), *timm.list_models(pretrained=True)]
    assert len(names) > 1000 and not [name for name in names if name_faults("e", name, "random")]


def test_a_misspelt_name_comes_with_the_nearest() -> None:
    (fault,) = name_faults("e", "resnet51", "random")
    assert fault.startswith("encoders.e.encoder: timm has no model 'resnet51'; did you mean 'resnet5")
    assert not name_faults("e", "hf-hub:MahmoodLab/uni", "pretrained") and not name_faults("e", "resnet50", "pretrained")


def test_other_weights_have_another_hash(tmp_path) -> None:
    content = default_weights().read_bytes()
    (tmp_path / "same.pth").write_bytes(content)
    (tmp_path / "other.pth").write_bytes(content[:-1])
    same, other = (weights_hash("efficientnet_lite0", str(tmp_path / name)) for name in ("same.pth", "other.pth"))
    assert same == weights_hash("efficientnet_lite0", "pretrained") != other


def test_weights_that_need_no_hub_are_there_or_not(tmp_path: Path) -> None:
    assert find_weights(Encoder()).source == f"packaged ({default_weights().name})" and not find_weights(Encoder()).missing
    assert not find_weights(Encoder(weights="random")).missing
    file = tmp_path / "w.safetensors"
    assert "no such file" in find_weights(Encoder(weights=str(file))).missing
    file.touch()
    assert not find_weights(Encoder(weights=str(file))).missing
    assert "no pretrained weights" in find_weights(Encoder(encoder="botnet50ts_256")).missing


URLS, PLACE = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "/{repo_id}/resolve/{revision}/{filename}"
RESNET = Encoder(encoder="resnet18.a1_in1k")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_weights_in_the_cache_of_the_hub_are_there(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_weights(RESNET).missing.startswith("HF_HUB_OFFLINE forbids")
    folder = hub_cache / "models--timm--resnet18.a1_in1k"
    for file, text in (("refs/main", "abc"), ("snapshots/abc/model.safetensors", "")):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    assert find_weights(RESNET).source == "in the cache of the Hugging Face Hub (timm/resnet18.a1_in1k)"
    assert not find_weights(RESNET).missing


class Hub(BaseHTTPRequestHandler):
    """A hub that has the second file that timm asks for, of one model."""

    def do_HEAD(self) -> None:
        is_there = self.path == "/timm/resnet18.a1_in1k/resolve/main/pytorch_model.bin"
        self.send_response(200 if is_there else 404)
        self.send_header("X-Error-Code", "" if is_there else "EntryNotFound")
        self.send_header("X-Repo-Commit", "abc")
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", "3000000" if is_there else "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """A small hub on this machine."""
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(URLS, f"http://127.0.0.1:{server.server_port}{PLACE}")
        yield server
        server.shutdown()
        thread.join()


def test_the_hub_is_asked_for_what_is_not_in_its_cache(hub: HTTPServer, hub_cache: Path) -> None:
    found = find_weights(RESNET)
    assert not found.missing and found.source.endswith("not in its cache: fetched on first use (3 MB)")
    assert "the Hub has none of model.safetensors, pytorch_model.bin" in find_weights(Encoder(encoder="hf-hub:a/b")).missing
    assert not hub_cache.exists() and feature_dim(Encoder(encoder="hf-hub:a/b")) is None


def test_a_hub_that_does_not_answer_is_one_line(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(URLS, f"http://127.0.0.1:9{PLACE}")
    missing = find_weights(RESNET).missing
    assert missing.startswith("cannot be fetched (") and "set `weights: /path/to/model.safetensors`" in missing and "\n" not in missing
