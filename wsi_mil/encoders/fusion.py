"""Fold batch normalisation into the preceding convolution, since both are linear in a frozen network."""

import copy
import logging
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsi_mil.encoders.remembered import remembered
from wsi_mil.receipts import fingerprint
from wsi_mil.version import __version__

log = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-3
"""Largest output difference after folding, relative to the largest value; rounding stays a hundred times below."""

CHECK_VERSION = 1
"""Raised when the folding or its check changes, so that results of earlier checks no longer count."""

FOLDED, PLAIN = "folded", "plain"
"""Forms of a network in which it may be used, as the cache of the comparison spells them."""


def fused(module: nn.Module, input_px: int, *, identity: Mapping[str, object]) -> nn.Module:
    """Return a frozen network with batch norms folded into the convolutions that they directly follow.

    A norm is taken to follow a convolution if it is registered right after it. Whether that holds in `forward` is checked on
    an image of noise; if the output changes, the network is returned as it is. The check is made once for each network and
    version of the libraries, and its result kept in the user's cache.

    Args:
        module: network in eval mode, float32, on the CPU; not changed.
        input_px: side of its images.
        identity: what determines the network and its weights, JSON-serialisable (`network_identity`).
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    versions = {"torch": version("torch"), "timm": version("timm"), "wsi_mil": __version__, "check": CHECK_VERSION}
    name = f"{fingerprint({'network': dict(identity), 'input_px': input_px, **versions})}.fusion"
    form = remembered(name, lambda: _form(module, input_px), is_valid=lambda text: text in (FOLDED, PLAIN))
    return _folded(module) if form == FOLDED else module


def _form(module: nn.Module, input_px: int) -> str:
    """Form in which a network may be used, by comparing the outputs of both."""
    noise = torch.randn((2, 3, input_px, input_px), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (torch.as_tensor(network(noise)) for network in (module, _folded(module)))
    if (before - after).abs().max() <= MAX_DIFFERENCE * before.abs().max():
        return FOLDED
    log.info("batch norms are not folded into the convolutions, since that would change the network's output")
    return PLAIN


def _folded(module: nn.Module) -> nn.Module:
    folded = copy.deepcopy(module)
    _fuse(folded)
    return folded


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
