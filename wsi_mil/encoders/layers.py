"""Layers of published encoders that timm does not have, and token pooling."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil.encoders.record import Pooling

CONCH_HEADS = 8


class ConvStem(nn.Module):
    """CTransPath's patch embedding: two strided convolutions that reduce the image fourfold, then a 1 × 1 convolution.

    Source: Wang et al. 2022, doi:10.1016/j.media.2022.102559. Takes the arguments that timm's Swin passes to a patch
    embedding; ignores `strict_img_size` and `output_fmt`.

    Args:
        img_size: side of the images in pixels, or (height, width).
        patch_size: 4.
        in_chans: input channels.
        embed_dim: output channels.
        norm_layer: normalisation over the output channels.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: type[nn.Module] = nn.LayerNorm,
        **_: Any,
    ):
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (height // patch_size, width // patch_size)
        first, second = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, first, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Conv2d(second, embed_dim, kernel_size=1),
        )
        self.norm = norm_layer(embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(n, 3, height, width)` to `(n, height / 4, width / 4, embed_dim)`."""
        return torch.as_tensor(self.norm(self.proj(images).permute(0, 2, 3, 1)))


class AttentionPooler(nn.Module):
    """CONCH's attention pooler: learned queries attend to all tokens, as in CoCa (Yu et al. 2022, arXiv:2205.01917).

    Attributes are named as the published tensors.
    """

    def __init__(self, context_dim: int, dim: int, n_queries: int = 1):
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_queries, dim))
        self.ln_k = nn.LayerNorm(context_dim)
        self.ln_q = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(n, n_tokens, context_dim)` to `(n, n_queries, dim)`."""
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        query, key, value = (x.unflatten(-1, (CONCH_HEADS, -1)).transpose(1, 2) for x in (query, key, value))
        attended = functional.scaled_dot_product_attention(query, key, value)
        return torch.as_tensor(self.to_out(attended.transpose(1, 2).flatten(2)))


class AttentionPooledNetwork(nn.Module):
    """Vision transformer followed by CONCH's pooler; returns the normalised output of the first query."""

    def __init__(self, trunk: nn.Module, context_dim: int, dim: int):
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = AttentionPooler(context_dim, dim)
        self.ln_contrast = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(n, 3, input_px, input_px)` to `(n, dim)`."""
        tokens = self.trunk.forward_features(images)  # type: ignore[operator]
        return torch.as_tensor(self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0]))


class CoCaPooler(nn.Module):
    """Attention pooler of CONCH v1: one learned query attends to all tokens. Attributes are named as the published tensors."""

    def __init__(self, context_dim: int, dim: int, n_queries: int = 1):
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_queries, dim))
        self.attn = nn.MultiheadAttention(dim, CONCH_HEADS, kdim=context_dim, vdim=context_dim, batch_first=True)
        self.ln_q = nn.LayerNorm(dim)
        self.ln_k = nn.LayerNorm(context_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(n, n_tokens, context_dim)` to `(n, n_queries, dim)`."""
        context = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return torch.as_tensor(self.attn(query, context, context, need_weights=False)[0])


class CoCaPooledNetwork(AttentionPooledNetwork):
    """Vision transformer followed by the pooler of CONCH v1; returns the normalised output of the query."""

    def __init__(self, trunk: nn.Module, context_dim: int, dim: int):
        super().__init__(trunk, context_dim, dim)
        self.attn_pool_contrast = CoCaPooler(context_dim, dim)  # type: ignore[assignment]


class ProjectedNetwork(nn.Module):
    """Vision transformer whose class token is projected by two layers and scaled to length 1, as in KEEP."""

    def __init__(self, visual: nn.Module, width: int, dim: int):
        super().__init__()
        self.visual = visual
        self.visual_head = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(n, 3, input_px, input_px)` to `(n, dim)`, each of length 1."""
        return functional.normalize(self.visual_head(self.visual(images)), dim=-1)


class PooledTokens(nn.Module):
    """Vision transformer whose tokens are pooled to one vector, always in float32.

    Args:
        network: network with `forward_features`, which maps images to tokens `(n, n_tokens, dim)`, and `num_prefix_tokens`,
            the number of leading tokens that are no patches: the class token, then registers.
        pooling: cls, mean (of the patch tokens) or cls+mean (concatenated).
    """

    def __init__(self, network: nn.Module, pooling: Pooling):
        super().__init__()
        self.network = network
        self._pooling = pooling

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(n, 3, input_px, input_px)` to float32 `(n, dim)`, or `(n, 2 * dim)` for cls+mean."""
        tokens = self.network.forward_features(images).float()  # type: ignore[operator]
        if self._pooling == "cls":
            return torch.as_tensor(tokens[:, 0])
        mean = tokens[:, self.network.num_prefix_tokens :].mean(dim=1)
        return torch.as_tensor(mean if self._pooling == "mean" else torch.cat([tokens[:, 0], mean], dim=1))
