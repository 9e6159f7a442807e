"""Batch normalisation folded into the convolutions before it: in a frozen network both are linear."""

import copy
import logging
from itertools import pairwise

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-3
"""Of what comes out, relative to the largest value. Rounding stays a hundred times below."""


def fused(module: nn.Module, input_px: int) -> nn.Module:
    """A frozen network without the batch norms that directly follow a convolution; the same one where there are none.

    A norm is taken to follow a convolution where it is registered right after it. Whether it does in `forward` too is tried
    on a picture of noise, in the module's own dtype; where it does not, the network stays as it is.

    Args:
        module: in eval mode, float32, on the CPU; not changed.
        input_px: side of its images.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    found = copy.deepcopy(module)
    _fuse(found)
    noise = torch.randn((2, 3, input_px, input_px), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (torch.as_tensor(network(noise)) for network in (module, found))
    if (before - after).abs().max() <= MAX_DIFFERENCE * before.abs().max():
        return found
    log.info("batch norms stay as they are: folded into the convolutions, the network says something else")
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
    """Whether a norm is of as many channels as come out of a convolution, and of statistics that are known."""
    return norm.num_features == conv.out_channels and norm.running_mean is not None


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What a norm did beside normalising: timm's may hold an activation."""
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(*(part for part in norm.children()))
    return nn.Identity()
