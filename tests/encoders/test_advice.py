import pytest

from wsi_mil.config import Encoder
from wsi_mil.encoders import advice


def warnings(encoder: str, mpp: float, tile_px: int, **settings: str) -> list[str]:
    return advice("e", Encoder(encoder=encoder, **settings), mpp=mpp, tile_px=tile_px)


FITTING = [("uni", 0.5, 224), ("uni", 0.5, 256), ("uni", 0.25, 448), ("virchow2", 0.25, 224), ("ctranspath", 1.0, 224)]
FITTING += [("gigapath", 0.5, 224), ("conch_v1_5", 0.5, 512), ("efficientnet_lite0", 4.0, 96), ("resnet50_cut", 0.25, 64)]


@pytest.mark.parametrize(("encoder", "mpp", "tile_px"), FITTING)
def test_tiles_near_a_training_resolution_give_no_warning(encoder: str, mpp: float, tile_px: int) -> None:
    assert not warnings(encoder, mpp, tile_px)


def test_tiles_far_from_every_training_resolution_give_a_warning() -> None:
    (text,) = warnings("uni", 0.25, 224)
    assert text == (
        "encoders.e: uni was trained at 0.5 µm per pixel, but would see 0.25 (224 px at 0.25 µm, resized to 224 px):"
        " set mpp 0.5 and tile_px 224 in its tiling"
    )
    assert "would see 1.1 (512 px at 0.5 µm, resized to 224 px)" in warnings("h_optimus_0", 0.5, 512)[0]
    (conch,) = warnings("conch_v1_5", 0.5, 224)
    assert "trained at 0.57 µm per pixel" in conch and "set mpp 0.5 and tile_px 512" in conch
    assert "trained at 0.5, 0.25, 1, 2 µm per pixel" in warnings("midnight", 4.0, 224)[0]


def test_a_hub_name_of_a_built_in_encoder_gives_a_warning() -> None:
    (text,) = warnings("hf-hub:paige-ai/Virchow2", 0.5, 224)
    assert "`encoder: virchow2` uses its authors' arguments, pooling and scale" in text
    assert warnings("hf_hub:MahmoodLab/UNI@main", 0.5, 224)


def test_a_hub_name_without_a_commit_gives_a_warning() -> None:
    (text,) = warnings("hf-hub:a/b", 0.5, 224)
    assert "its weights may change: write hf-hub:a/b@COMMIT" in text
    assert not warnings("hf-hub:a/b@0123abc", 0.5, 224) and not warnings("resnet50", 0.5, 224)
    assert not warnings("hf-hub:a/b", 0.5, 224, weights="random")
