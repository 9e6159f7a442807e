import pytest
import torch
from torch import Tensor

from wsi_mil.encoders import RECORDS
from wsi_mil.encoders.networks import build
from wsi_mil.encoders.renaming import on_grid, renamed

LIKE_DINOV2 = {"phikon_v2", "midnight", "hibou_b", "hibou_l"}


def published_names(name: str, *, grid: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the library transformers (ViTModel, or Dinov2Model with or without registers), by its documentation."""
    dim, depth, patch, inner = {
        "phikon": (768, 12, 16, 3072),
        "phikon_v2": (1024, 24, 16, 4096),
        "hibou_b": (768, 12, 14, 2048),
        "hibou_l": (1024, 24, 14, 2736),
        "midnight": (1536, 40, 14, 4096),
    }[name]
    found: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, dim),
        "embeddings.position_embeddings": (1, grid**2 + 1, dim),
        "embeddings.patch_embeddings.projection.weight": (dim, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (dim,),
        "layernorm.weight": (dim,),
        "layernorm.bias": (dim,),
    }
    if name in LIKE_DINOV2:
        found["embeddings.mask_token"] = (1, dim)
    else:
        found |= {"pooler.dense.weight": (dim, dim), "pooler.dense.bias": (dim,)}
    if name.startswith("hibou"):
        found["embeddings.register_tokens"] = (1, 4, dim)
    for layer in range(depth):
        found |= {f"encoder.layer.{layer}.{key}": shape for key, shape in block_names(name, dim, inner).items()}
    return found


def block_names(name: str, dim: int, inner: int) -> dict[str, tuple[int, ...]]:
    is_gated = name in ("midnight", "hibou_b", "hibou_l")
    linear = {f"attention.attention.{part}": (dim, dim) for part in ("query", "key", "value")}
    linear["attention.output.dense"] = (dim, dim)
    if is_gated:
        linear |= {"mlp.weights_in": (2 * inner, dim), "mlp.weights_out": (dim, inner)}
    elif name in LIKE_DINOV2:
        linear |= {"mlp.fc1": (inner, dim), "mlp.fc2": (dim, inner)}
    else:
        linear |= {"intermediate.dense": (inner, dim), "output.dense": (dim, inner)}
    norms = ("norm1", "norm2") if name in LIKE_DINOV2 else ("layernorm_before", "layernorm_after")
    found: dict[str, tuple[int, ...]] = {f"{key}.weight": shape for key, shape in linear.items()}
    found |= {f"{key}.bias": shape[:1] for key, shape in linear.items()}
    found |= {f"{norm}.{kind}": (dim,) for norm in norms for kind in ("weight", "bias")}
    return found | ({f"layer_scale{i}.lambda1": (dim,) for i in (1, 2)} if name in LIKE_DINOV2 else {})


@pytest.mark.parametrize("name", ["phikon", *sorted(LIKE_DINOV2)])
@pytest.mark.parametrize("other_grid", [False, True])
def test_every_tensor_of_transformers_finds_its_place(name: str, other_grid: bool) -> None:
    record = RECORDS[name]
    grid = 37 if other_grid else 224 // (16 if name.startswith("phikon") else 14)
    with torch.device("meta"):
        own = build(record).state_dict()
        tensors = {key: torch.empty(shape) for key, shape in published_names(name, grid=grid).items()}
    found = renamed(tensors, record.tensor_names, own)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}
    if name == "midnight":
        assert len(tensors) == 727  # as counted in the published file
    if name == "phikon_v2":
        assert len(tensors) == 439


def test_the_names_of_dinov2s_own_code_find_their_place() -> None:
    with torch.device("meta"):
        own = build(RECORDS["hibou_b"]).state_dict()
        positions, mask = torch.empty(1, 257, 768), torch.empty(1, 768)
    as_there = {".mlp.fc1.": ".mlp.w12.", ".mlp.fc2.": ".mlp.w3.", "reg_token": "register_tokens"}
    tensors = {"mask_token": mask}
    for name, value in own.items():
        for ours, theirs in as_there.items():
            name = name.replace(ours, theirs)
        tensors[name] = positions if name == "pos_embed" else value
    found = renamed(tensors, "transformers", own)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}


def test_query_key_and_value_stand_in_this_order() -> None:
    stem = "encoder.layer.2.attention.attention"
    parts = {f"{stem}.{key}.bias": torch.full((2,), value) for key, value in (("value", 3.0), ("query", 1.0), ("key", 2.0))}
    found = renamed(parts, "transformers", {"blocks.2.attn.qkv.bias": torch.empty(6)})
    assert found["blocks.2.attn.qkv.bias"].tolist() == [1, 1, 2, 2, 3, 3]


def test_with_registers_the_class_token_holds_its_own_position() -> None:
    own = {"cls_token": torch.empty(1, 1, 2), "reg_token": torch.empty(1, 1, 2), "pos_embed": torch.empty(1, 4, 2)}
    positions = torch.arange(10.0).reshape(1, 5, 2)
    found = renamed(
        {
            "embeddings.cls_token": torch.tensor([[[100.0, 200.0]]]),
            "embeddings.register_tokens": torch.ones(1, 1, 2),
            "embeddings.position_embeddings": positions,
        },
        "transformers",
        own,
    )
    assert found["cls_token"].tolist() == [[[100.0, 201.0]]] and torch.equal(found["pos_embed"], positions[:, 1:])
    assert torch.equal(found["reg_token"], torch.ones(1, 1, 2))


def test_timms_own_names_are_taken_as_they_are() -> None:
    own = {"cls_token": torch.zeros(1, 1, 2), "pos_embed": torch.ones(1, 5, 2)}
    assert renamed(own, "transformers", own) is own


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_positions_on_another_grid_keep_the_class_tokens_and_their_places(offset: float) -> None:
    down = torch.arange(4.0).view(4, 1).expand(4, 4)  # row by row, the same along a row
    positions = torch.cat([torch.full((1, 1, 2), 9.0), torch.stack([down, 3 * down], -1).reshape(1, 16, 2)], dim=1)
    found = on_grid(positions, 64, offset=offset)
    grid = found[0, 1:].reshape(8, 8, 2)
    assert found.shape == (1, 65, 2) and found[0, 0].tolist() == [9, 9]
    assert torch.allclose(grid[:, :1].expand(8, 8, 2), grid, atol=1e-5) and (grid[1:, 0, 0] > grid[:-1, 0, 0]).all()
    assert torch.allclose(3 * grid[..., 0], grid[..., 1], atol=1e-5)
    assert on_grid(positions, 16, offset=offset) is positions


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a Swin of timm as it was saved before 0.9, with its tables."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        found[".".join(parts)] = value
    table = {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "layers.0.blocks.1.attn_mask": torch.zeros(64),
    }
    return found | table


def test_merging_of_patches_moves_to_the_stage_that_it_begins() -> None:
    with torch.device("meta"):
        own = build(RECORDS["ctranspath"]).state_dict()
    tensors = old_names(own)
    assert "layers.0.downsample.reduction.weight" in tensors and "layers.0.downsample.reduction.weight" not in own
    found = renamed(tensors, "old_swin", own)
    assert set(found) == set(own) and all(found[name] is own[name] for name in own)


def test_conchs_positions_are_resampled_to_448_pixels() -> None:
    with torch.device("meta"):
        own = build(RECORDS["conch_v1_5"]).state_dict()
    small = {**own, "trunk.pos_embed": torch.randn(1, 197, 1024)}
    found = renamed(small, "conch", own)
    assert found["trunk.pos_embed"].shape == own["trunk.pos_embed"].shape == (1, 785, 1024)
    assert {"attn_pool_contrast.query", "attn_pool_contrast.to_kv.weight", "ln_contrast.weight"} <= set(own)
