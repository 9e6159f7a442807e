"""Single: what the model says of each instance as a bag of its own."""

import torch
from torch import Tensor

from wsi_mil.explain.base import Values
from wsi_mil.explain.gradient import CHUNK
from wsi_mil.models import MILModel


@torch.no_grad()
def single(model: MILModel, bag: Tensor, output: int) -> Values:
    """s({x_k}), s the explained quantity of a bag of one instance; of DSMIL the bag stream's.

    Where instances meet in attention alone this is `evidence`. TransMIL also sees the class token, and was never trained on
    such a bag: its order within a slide may be used, its value may not.
    """
    logits = torch.cat([model.single_logits(model.embed(part)[0]) for part in torch.split(bag, CHUNK, dim=1)])
    return Values(model.outputs.scalar(logits.double(), output).cpu().numpy())
