import numpy as np
import pytest
import timm
import torch
from PIL import Image
from skimage import data

from wsi_mil.config import Encoder
from wsi_mil.encoders import feature_dim, name_faults
from wsi_mil.encoders.encoder import create_encoder
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
def test_the_feature_length_is_that_of_the_output(name: str) -> None:
    encoder = create_encoder(Encoder(encoder=name, weights="random"), device=CPU, dtype=torch.float32)
    assert encoder.encode(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, encoder.dim)
    assert feature_dim(Encoder(encoder=name)) == encoder.dim


@pytest.mark.parametrize("name", ["kaiko_vits16", "ctranspath", "resnet50_cut"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encoders_with_a_record_encode_tiles(name: str, dtype: torch.dtype) -> None:
    settings = Encoder(encoder=name, weights="random")
    encoder = create_encoder(settings, device=CPU, dtype=dtype)
    tiles = np.random.default_rng(1).integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)
    features = encoder.encode(tiles)
    assert features.shape == (2, feature_dim(settings)) and np.isfinite(features).all()
    assert not np.array_equal(features[0], features[1])


def test_weights_from_a_file(tmp_path, photographs: np.ndarray) -> None:
    from safetensors.torch import save_file

    network, _ = create_classifier()
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    settings = Encoder(encoder="tf_efficientnet_lite0", weights=str(tmp_path / "w.safetensors"))
    loaded = create_encoder(settings, device=CPU, dtype=torch.float32).encode(photographs)
    assert np.array_equal(loaded, create_encoder(Encoder(), device=CPU, dtype=torch.float32).encode(photographs))


def test_weights_of_another_model_are_rejected(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"conv": torch.zeros(1)}, tmp_path / "w.safetensors")
    settings = Encoder(encoder="test_efficientnet.r160_in1k", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ConfigError, match="are not of this encoder"):
        create_encoder(settings, device=CPU, dtype=torch.float32)


def test_every_pretrained_timm_name_is_known_without_timm() -> None:
    names = [*timm.list_models(), *timm.list_models(pretrained=True)]
    assert len(names) > 1000 and not [name for name in names if name_faults("e", name, "random")]


def test_a_misspelt_name_comes_with_the_nearest() -> None:
    (fault,) = name_faults("e", "resnet51", "random")
    assert fault.startswith("encoders.e.encoder: timm has no model 'resnet51'; did you mean 'resnet5")
    assert not name_faults("e", "hf-hub:MahmoodLab/uni", "pretrained") and not name_faults("e", "resnet50", "pretrained")
