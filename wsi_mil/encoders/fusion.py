"""Fold batch normalisation into the preceding convolution, since both are linear in a frozen network."""

import copy
import logging
from itertools import pairwise

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-3
"""Largest output difference after folding, relative to the largest value; rounding stays a hundred times below."""


def fused(module: nn.Module, input_px: int) -> nn.Module:
    """Return a frozen network with batch norms folded into the convolutions that they directly follow.

    A norm is taken to follow a convolution if it is registered right after it. Whether that holds in `forward` is checked on
    an image of noise; if the output changes, the network is returned as it is.

    Args:
        module: network in eval mode, float32, on the CPU; not changed.
        input_px: side of its images.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    folded = copy.deepcopy(module)
    _fuse(folded)
    noise = torch.randn((2, 3, input_px, input_px), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (torch.as_tensor(network(noise)) for network in (module, folded))
    if (before - after).abs().max() <= MAX_DIFFERENCE * before.abs().max():
        return folded
    log.info("batch norms are not folded into the convolutions, since that would change the network's output")
    return module


def _fuse(module: nn.Module) -> None:
    parts = list(module.named_children())
    for (name, part), (next_name, following) in pairwise(parts):
        if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d) and _can_be_folded(part, following):
            setattr(module, name, fuse_conv_bn_eval(part, following))
            setattr(module, next_name, _rest(following))
    for _, part in module.named_children():
        _fuse(part)


def _can_be_folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether a norm has the convolution's output channels, and running statistics."""
    return norm.num_features == conv.out_channels and norm.running_mean is not None


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """Rest of a norm without normalisation: timm's norms may contain an activation."""
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(*(part for part in norm.children()))
    return nn.Identity()
