"""Rename published tensors to timm's names."""

import math
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from wsi_mil.encoders.record import TensorNames

Tensors = dict[str, Tensor]

PARTS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^(embeddings\.)?register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(layernorm_before|norm1)\.", ".norm1."),
    (r"\.(layernorm_after|norm2)\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.(intermediate\.dense|mlp\.fc1|mlp\.weights_in|mlp\.w12)\.", ".mlp.fc1."),
    (r"(?<!attn)\.(output\.dense|mlp\.fc2|mlp\.weights_out|mlp\.w3)\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
"""Name patterns of transformers' ViTModel, Dinov2Model and Dinov2WithRegistersModel and of DINOv2's own code, with those of
timm's VisionTransformer.
"""

SPLIT = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$")
NOT_USED = re.compile(r"^((embeddings\.)?mask_token$|pooler\.)")
"""Tensors used in training only, and a layer after the class token that feature extraction does not use."""

CONCH_OFFSET = 0.1
"""Grid cells by which the published code stretches CONCH's position grid on resampling."""


def renamed(tensors: Tensors, names: TensorNames, target: Mapping[str, Tensor]) -> Tensors:
    """Rename tensors to the names of `target`; tensors that have these names already are returned unchanged.

    Args:
        tensors: tensors of a file.
        names: naming scheme of the encoder's published files.
        target: tensors of the network, for order and shapes.
    """
    if _is_native(tensors, target):
        return tensors
    rename = RENAMING.get(names)
    return tensors if rename is None else rename(tensors, target)


def _is_native(tensors: Tensors, target: Mapping[str, Tensor]) -> bool:
    """Whether all names exist with the right shapes."""
    return all(name in tensors and tensors[name].shape == own.shape for name, own in target.items() if _counts(name))


def _counts(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


def from_transformers(tensors: Tensors, target: Mapping[str, Tensor]) -> Tensors:
    """Rename tensors of transformers or DINOv2: q, k and v become one matrix, positions are adapted."""
    out: Tensors = {}
    for name, value in tensors.items():
        if SPLIT.match(name) or NOT_USED.match(name):
            continue
        out[_timm_name(name)] = value
    for part in {m.groups()[::2] for m in map(SPLIT.match, tensors) if m}:
        layer, kind = part
        stem = f"encoder.layer.{layer}.attention.attention"
        projections = [tensors[key] for x in ("query", "key", "value") if (key := f"{stem}.{x}.{kind}") in tensors]
        out[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(projections)
    return _with_positions(out, target)


def _timm_name(name: str) -> str:
    for pattern, new in PARTS:
        name = re.sub(pattern, new, name)
    return name


def _with_positions(tensors: Tensors, target: Mapping[str, Tensor]) -> Tensors:
    """Position embeddings on the target's grid; with registers, the class token's position is added to the token."""
    if "pos_embed" not in tensors or "cls_token" not in tensors:
        return tensors
    positions = tensors["pos_embed"]
    own = target["pos_embed"]
    if "reg_token" not in target:
        return {**tensors, "pos_embed": on_grid(positions, own.shape[1] - 1, offset=0.0)}
    places = on_grid(positions, own.shape[1], offset=0.0)[:, 1:]
    return {**tensors, "cls_token": tensors["cls_token"] + positions[:, :1], "pos_embed": places}


def on_grid(positions: Tensor, n_places: int, *, offset: float) -> Tensor:
    """Resample position embeddings `(1, 1 + n, dim)`, the class token's first, to another square grid as the published code does.

    Args:
        positions: embeddings on the training grid.
        n_places: number of cells of the new grid, a square number.
        offset: cells by which the new grid is stretched.
    """
    n_cells = positions.shape[1] - 1
    side, new_side = math.isqrt(n_cells), math.isqrt(n_places)
    if n_cells == n_places or side**2 != n_cells or new_side**2 != n_places:
        return positions
    grid = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if offset:
        grid = functional.interpolate(grid, scale_factor=(new_side + offset) / side, mode="bicubic")
    else:
        grid = functional.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False)
    places = grid.permute(0, 2, 3, 1).reshape(1, n_places, -1).to(positions.dtype)
    return torch.cat([positions[:, :1], places], dim=1)


def from_old_swin(tensors: Tensors, _: Mapping[str, Tensor]) -> Tensors:
    """Rename tensors of timm's Swin before 0.9, where patch merging ended a stage and derived tables were stored."""
    kept = {name: v for name, v in tensors.items() if not name.endswith(("relative_position_index", "attn_mask"))}
    if not any(name.startswith("layers.0.downsample.") for name in kept):
        return kept

    def later(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) + 1}.downsample"

    return {re.sub(r"^layers\.(\d+)\.downsample", later, name): value for name, value in kept.items()}


def in_order(tensors: Tensors, target: Mapping[str, Tensor]) -> Tensors:
    """Rename tensors by their order, which is the target's; unchanged if their number differs."""
    values = [value for name, value in tensors.items() if _counts(name)]
    names = [name for name in target if _counts(name)]
    classifier = [value for value in values[len(names) :] if value.ndim <= 2]
    return dict(zip(names, values, strict=False)) if len(values) == len(names) + len(classifier) else tensors


def of_conch(tensors: Tensors, target: Mapping[str, Tensor]) -> Tensors:
    """Resample the positions of CONCH v1.5, which are stored for 224 px, to its 448 px."""
    name = "trunk.pos_embed"
    if name not in tensors:
        return tensors
    return {**tensors, name: on_grid(tensors[name], target[name].shape[1] - 1, offset=CONCH_OFFSET)}


def of_coca(tensors: Tensors, target: Mapping[str, Tensor]) -> Tensors:
    """Remove the prefix of CONCH v1's image part; positions are resampled if they are stored for another size."""
    own = {name.removeprefix("visual."): value for name, value in tensors.items()}
    name = "trunk.pos_embed"
    return {**own, name: on_grid(own[name], target[name].shape[1] - 1, offset=0.0)} if name in own else own


def of_keep(tensors: Tensors, _: Mapping[str, Tensor]) -> Tensors:
    """Rename the layer scales of KEEP, which the library transformers saves as weights."""
    return {re.sub(r"\.(ls\d)\.weight$", r".\1.gamma", name): value for name, value in tensors.items()}


BEIT3_PARTS = (
    (r"^beit3\.vision_embed\.cls_token$", "cls_token"),
    (r"^beit3\.vision_embed\.proj\.", "patch_embed.proj."),
    (r"^beit3\.encoder\.layer_norm\.A\.", "norm."),
    (r"^beit3\.encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.self_attn_layer_norm\.A\.", ".norm1."),
    (r"\.final_layer_norm\.A\.", ".norm2."),
    (r"\.self_attn\.inner_attn_ln\.A\.", ".attn.norm."),
    (r"\.self_attn\.out_proj\.A\.", ".attn.proj."),
    (r"\.ffn\.A\.ffn_layernorm\.", ".mlp.norm."),
    (r"\.ffn\.A\.(fc\d)\.", r".mlp.\1."),
)
"""Name patterns of BEiT-3's branch for images, A, with those of timm's VisionTransformer."""

BEIT3_SPLIT = re.compile(r"^beit3\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.A\.(weight|bias)$")
BEIT3_POSITIONS = "beit3.encoder.embed_positions.A.weight"
BEIT3_FIRST = 2
"""Positions before that of the class token, which nothing has."""


def from_beit3(tensors: Tensors, _: Mapping[str, Tensor]) -> Tensors:
    """Rename the image part of BEiT-3, as MUSK has it: q, k and v become one matrix; the branch for text is left out."""
    out: Tensors = {}
    for name, value in tensors.items():
        renamed_to = name
        for pattern, new in BEIT3_PARTS:
            renamed_to = re.sub(pattern, new, renamed_to)
        if renamed_to != name and ".B." not in name and not BEIT3_SPLIT.match(name):
            out[renamed_to] = value
    for layer, kind in {m.groups()[::2] for m in map(BEIT3_SPLIT.match, tensors) if m}:
        names = [f"beit3.encoder.layers.{layer}.self_attn.{x}_proj.A.{kind}" for x in "qkv"]
        out[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat([tensors[name] for name in names if name in tensors])
    if BEIT3_POSITIONS in tensors:
        out["pos_embed"] = tensors[BEIT3_POSITIONS][None, BEIT3_FIRST:]
    return out


RENAMING: dict[TensorNames, Callable[[Tensors, Mapping[str, Tensor]], Tensors]] = {
    "transformers": from_transformers,
    "old_swin": from_old_swin,
    "in_order": in_order,
    "conch": of_conch,
    "coca": of_coca,
    "keep": of_keep,
    "beit3": from_beit3,
}
