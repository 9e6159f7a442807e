import pytest

from wsi_mil.config import Encoder
from wsi_mil.encoders import advice


def warnings(encoder: str, mpp: float, tile_px: int, **settings: str) -> list[str]:
    return advice("e", Encoder(encoder=encoder, **settings), mpp=mpp, tile_px=tile_px)


FITTING = [("uni", 0.5, 224), ("uni", 0.5, 256), ("uni", 0.25, 448), ("virchow2", 0.25, 224), ("ctranspath", 1.0, 224)]
FITTING += [("gigapath", 0.5, 224), ("conch_v1_5", 0.5, 512), ("efficientnet_lite0", 4.0, 96), ("resnet50_cut", 0.25, 64)]


@pytest.mark.parametrize(("encoder", "mpp", "tile_px"), FITTING)
def test_tiles_at_about_the_scale_of_the_training_are_fine(encoder: str, mpp: float, tile_px: int) -> None:
    assert not warnings(encoder, mpp, tile_px)


def test_tiles_at_a_foreign_scale_are_warned_of() -> None:
    (text,) = warnings("uni", 0.25, 224)
    assert text == (
        "encoders.e: uni would see tissue at 0.25 µm per pixel (224 px at 0.25 µm become 224 px), and was made for 0.5:"
        " tile with mpp 0.5 and tile_px 224"
    )
    assert "at 1.1 µm per pixel (512 px at 0.5 µm become 224 px)" in warnings("h_optimus_0", 0.5, 512)[0]
    assert "made for 0.57: tile with mpp 0.5 and tile_px 512" in warnings("conch_v1_5", 0.5, 224)[0]
    assert "made for 0.5, 0.25, 1, 2" in warnings("midnight", 4.0, 224)[0]


def test_names_of_the_hub_that_have_a_record_are_pointed_to_it() -> None:
    (text,) = warnings("hf-hub:paige-ai/Virchow2", 0.5, 224)
    assert "`encoder: virchow2` sets its arguments, pooling and scale" in text
    assert warnings("hf_hub:MahmoodLab/UNI@main", 0.5, 224)


def test_names_of_the_hub_without_a_commit_are_warned_of() -> None:
    (text,) = warnings("hf-hub:a/b", 0.5, 224)
    assert "its weights may change under it: write hf-hub:a/b@COMMIT" in text
    assert not warnings("hf-hub:a/b@0123abc", 0.5, 224) and not warnings("resnet50", 0.5, 224)
    assert not warnings("hf-hub:a/b", 0.5, 224, weights="random")
