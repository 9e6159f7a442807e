"""Image parts of vision-language encoders: CONCH v1, MUSK, KEEP."""

import dataclasses
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import _convert_beit3
from torch import Tensor

from wsi_mil.encoders import RECORDS
from wsi_mil.encoders.networks import EXTRA_TENSORS, build
from wsi_mil.encoders.renaming import renamed
from wsi_mil.encoders.tensors import load_weights


def beit3_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a timm vision transformer as MUSK names them, with a branch for text and its heads."""
    names = {"norm1": "self_attn_layer_norm.A", "norm2": "final_layer_norm.A", "attn.norm": "self_attn.inner_attn_ln.A"}
    names |= {
        "attn.proj": "self_attn.out_proj.A",
        "mlp.norm": "ffn.A.ffn_layernorm",
        "mlp.fc1": "ffn.A.fc1",
        "mlp.fc2": "ffn.A.fc2",
    }
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith("blocks."):
            _, layer, *parts = name.split(".")
            part, kind = ".".join(parts[:-1]), parts[-1]
            stem = f"beit3.encoder.layers.{layer}"
            if part == "attn.qkv":
                rows = value.chunk(3)
                found |= {f"{stem}.self_attn.{x}_proj.A.{kind}": r for x, r in zip("qkv", rows, strict=True)}
                found |= {f"{stem}.self_attn.{x}_proj.B.{kind}": r + 1 for x, r in zip("qkv", rows, strict=True)}
            else:
                found[f"{stem}.{names[part]}.{kind}"] = value
                found[f"{stem}.{names[part]}.{kind}".replace(".A.", ".B.")] = value + 1
    found |= {f"beit3.encoder.layer_norm.{x}.{kind}": tensors[f"norm.{kind}"] for x in "A" for kind in ("weight", "bias")}
    found["beit3.encoder.embed_positions.A.weight"] = torch.cat([torch.full((2, value.shape[-1]), 9.0), tensors["pos_embed"][0]])
    found["beit3.vision_embed.cls_token"] = tensors["cls_token"]
    found |= {f"beit3.vision_embed.proj.{kind}": tensors[f"patch_embed.proj.{kind}"] for kind in ("weight", "bias")}
    rest = (
        "beit3.vision_embed.mask_token",
        "beit3.text_embed.weight",
        "vision_head.weight",
        "language_head.weight",
        "logit_scale",
    )
    return found | dict.fromkeys(rest, torch.zeros(3))


def test_musks_branch_for_images_is_timms_beit3() -> None:
    record = dataclasses.replace(
        RECORDS["musk"], arguments={**RECORDS["musk"].arguments, "embed_dim": 48, "depth": 2, "num_heads": 3}
    )
    torch.manual_seed(0)
    own = {name: torch.randn_like(value) for name, value in build(record).state_dict().items()}
    found = renamed(beit3_names(own), "beit3", own)
    assert set(found) == set(own) and all(torch.equal(found[name], own[name]) for name in own)
    timms = _convert_beit3(beit3_names(own), None)
    assert all(torch.equal(found[name], timms[name]) for name in own if not name.startswith("norm.")), (
        "timm's own renaming agrees"
    )


@pytest.mark.parametrize("name", ["conch", "keep"])
def test_image_parts_of_language_encoders_load_from_whole_files(tmp_path: Path, name: str) -> None:
    sizes = {"embed_dim": 48, "depth": 1, "num_heads": 3}
    record = dataclasses.replace(RECORDS[name], arguments={**RECORDS[name].arguments, **sizes}, dim=64)
    torch.manual_seed(0)
    published, network = build(record), build(record)
    own = published.state_dict()
    if name == "conch":
        file = {f"visual.{key}": value for key, value in own.items()}
        file |= dict.fromkeys(
            ("visual.proj_contrast", "visual.attn_pool_caption.query", "text.cls_emb", "logit_scale"), torch.zeros(2)
        )
    else:
        file = {key.replace(".gamma", ".weight"): value for key, value in own.items()}
        file |= dict.fromkeys(("text.embeddings.word_embeddings.weight", "logit_scale"), torch.zeros(2))
    torch.save(file, tmp_path / "w.bin")
    extra = EXTRA_TENSORS[record.change]
    load_weights(network, tmp_path / "w.bin", names=record.tensor_names, extra=extra, encoder=name)
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())
    images = torch.randn(2, 3, record.input_px, record.input_px)
    with torch.inference_mode():
        assert torch.equal(network.eval()(images), published.eval()(images))


def test_positions_of_conch_for_another_size_are_resampled() -> None:
    with torch.device("meta"):
        own = build(RECORDS["conch"]).state_dict()
    found = renamed({"visual.trunk.pos_embed": torch.randn(1, 197, 768)}, "coca", own)
    assert found["trunk.pos_embed"].shape == own["trunk.pos_embed"].shape == (1, 785, 768)
