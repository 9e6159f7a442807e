"""TransMIL: a transformer over the tiles of a bag."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.embedding import Embedding
from wsi_mil.models.encode_classify import BagEncoding, EncodeClassifyModel
from wsi_mil.models.held import LayerNorm, depthwise
from wsi_mil.models.keywords import TransMILKeywords, model_settings
from wsi_mil.models.nystrom import NystromAttention
from wsi_mil.models.outputs import Outputs, chosen_outputs
from wsi_mil.models.self_attention import ExactAttention, SelfAttention

KERNELS = (7, 5, 3)


class TransMIL(EncodeClassifyModel):
    """A class token gathers the bag through two attention layers with a positional convolution between.

    Source:
        Shao et al.: TransMIL, NeurIPS 2021, https://arxiv.org/abs/2106.00908; the residual attention layers
        x ← x + Nys(LN x), and PPEG: t + DW7(t) + DW5(t) + DW3(t) on the raster of tokens.

    Differs:
        Attention is exact in a model whose training bags are small (`attention`, settled once by training; an entry that is
        not settled makes an exact one), and then a larger bag costs time, not memory.
        The convolutions of positions and values start from zero, so that no tile is mixed with its neighbours before there
        is a reason to (`position_start: random` is the paper's start).
        The raster is filled in the order of the bag (as in the authors' code), which is not the slide's geometry: the
        order of instances matters, and is never shuffled.
        Only the class token of the last layer is computed, since nothing else of it is used: the result is the same.
        The three convolutions are added up to one 7 × 7 kernel before they are applied: the same sum, one pass.
        Batches are processed bag by bag, so padding changes nothing.
    """

    provides = config.TransMIL.provides

    def __init__(
        self,
        settings: config.TransMIL | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[TransMILKeywords],
    ):
        settings = model_settings(config.TransMIL, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        dim = settings.embed_dim
        self.embedding = Embedding(feature_dim, dim, settings.dropout)
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.layers = nn.ModuleList(_layer(settings) for _ in range(2))
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in range(2))
        self.position = PPEG(dim)
        self.norm = LayerNorm(dim)
        self.classifier = nn.Linear(dim, outputs.n)
        if settings.position_start == "zero":
            for convolution in (self.position.seven, self.position.five, self.position.three):
                nn.init.zeros_(convolution.weight)
                nn.init.zeros_(torch.as_tensor(convolution.bias))
            for layer in self.layers:
                nn.init.zeros_(layer.residual.weight)  # type: ignore[union-attr,arg-type]

    def encode(self, embedded: Tensor, bag_mask: Tensor | None = None) -> BagEncoding:
        bags = [bag[mask] for bag, mask in zip(embedded, bag_mask, strict=True)] if bag_mask is not None else list(embedded)
        return BagEncoding(torch.cat([self._encode(bag.unsqueeze(0)) for bag in bags]))

    def encode_scored(self, embedded: Tensor) -> tuple[BagEncoding, Tensor]:
        tokens, side = self._tokens(embedded)
        mixed, attention = self.layers[0].with_class_attention(self.norms[0](tokens))  # type: ignore[operator]
        return BagEncoding(self._last(self.position(tokens + mixed, side))), attention[:, : embedded.shape[1]]

    def single_logits(self, embedded: Tensor) -> Tensor:
        """Each instance and the class token are a pair of tokens, and the pairs a batch."""
        tokens = torch.cat([self.class_token.to(embedded.dtype).expand(len(embedded), -1, -1), embedded.unsqueeze(1)], dim=1)
        first, last = self.layers
        tokens = self.position(tokens + first.of_pairs(self.norms[0](tokens)), 1)  # type: ignore[operator]
        mixed = last.of_pairs(self.norms[1](tokens))[:, :1]  # type: ignore[operator]
        return self.classify(BagEncoding(self.norm(tokens[:, :1] + mixed)))

    def classify(self, encoding: BagEncoding) -> Tensor:
        return torch.as_tensor(self.classifier(encoding.bag.squeeze(1)))

    def class_attention(self, bag: Tensor, *, layer: int = 0) -> Tensor:
        """The class token's attention to each instance of one bag, `(heads, n_instances)`, in layer 0 or 1.

        Nyström's is approximate: entries may be negative. Of an instance that was repeated to fill the raster the first counts.
        """
        tokens, side = self._tokens(self.embed(bag))
        if layer == 1:
            tokens = self.position(tokens + self.layers[0](self.norms[0](tokens)), side)
        _, attention = self.layers[layer].with_class_attention(self.norms[layer](tokens))  # type: ignore[operator]
        return torch.as_tensor(attention)[:, : bag.shape[1]]

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        """Attention: head-mean of the first layer's |class-token attention|, scaled to sum to 1; the same for all classes.

        In the last layer tokens are mixed already, and the class token's attention there says little about the tile
        that a token came from (docs/decisions.md has the figures).
        """
        strength = self.class_attention(bag).abs().double().mean(dim=0)
        return {"attention": strength / strength.sum()}

    def _encode(self, embedded: Tensor) -> Tensor:
        tokens, side = self._tokens(embedded)
        return self._last(self.position(tokens + self.layers[0](self.norms[0](tokens)), side))

    def _last(self, tokens: Tensor) -> Tensor:
        """The class token after the last layer `(1, 1, embed_dim)`."""
        mixed = self.layers[1].first_row(self.norms[1](tokens))  # type: ignore[operator]
        return torch.as_tensor(self.norm(tokens[:, :1] + mixed))

    def _tokens(self, embedded: Tensor) -> tuple[Tensor, int]:
        """Class token and square raster `(1, 1 + side², embed_dim)`."""
        side, repeated = square_of(embedded.shape[1])
        return torch.cat([self.class_token.to(embedded.dtype), embedded, embedded[:, :repeated]], dim=1), side


class PPEG(nn.Module):
    """Positional encoding of a raster of tokens by depth-wise convolutions; the class token passes by."""

    def __init__(self, dim: int):
        super().__init__()
        self.seven, self.five, self.three = (nn.Conv2d(dim, dim, k, padding=k // 2, groups=dim) for k in KERNELS)

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        """`(batch_size, 1 + side², dim)` → the same."""
        dim = tokens.shape[2]
        raster = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), dim, side, side)
        convolutions = (self.seven, self.five, self.three)
        kernel = torch.stack([functional.pad(c.weight, [(KERNELS[0] - c.kernel_size[0]) // 2] * 4) for c in convolutions]).sum(0)
        kernel[:, :, KERNELS[0] // 2, KERNELS[0] // 2] += 1  # the token itself
        # not `stack(…).sum(0)`: torch would let the gradients of the three share their memory, and add to it three times
        bias = torch.as_tensor(self.seven.bias) + torch.as_tensor(self.five.bias) + torch.as_tensor(self.three.bias)
        encoded = depthwise(raster, kernel, bias)
        return torch.cat([tokens[:, :1], encoded.flatten(2).transpose(1, 2)], dim=1)


def square_of(n: int) -> tuple[int, int]:
    """Side of the smallest square that holds `n` tokens, and how many leading ones are repeated to fill it (algorithm 2)."""
    side = math.isqrt(n - 1) + 1
    return side, side * side - n


def _layer(settings: config.TransMIL) -> SelfAttention:
    dim, heads, dropout = settings.embed_dim, settings.heads, settings.attention_dropout
    if settings.attention == "nystrom":
        return NystromAttention(dim, heads=heads, landmarks=settings.landmarks, dropout=dropout)
    return ExactAttention(dim, heads=heads, dropout=dropout)
