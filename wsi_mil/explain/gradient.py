"""Gradient of what is explained of a bag with respect to the bag, exact for any chunk size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_mil.models import MILModel

CHUNK = 512
"""Instances whose gradients are held at once where no setting says otherwise."""


@dataclass(frozen=True)
class MarginGradient:
    """The explained quantity of an output for one bag, and its gradient.

    Attributes:
        logits: `(n_outputs,)`.
        margin: the explained quantity (`Outputs.scalar`), for a class its log odds against the others.
        parts: gives the gradient part by part: rows of the bag, and `(1, n_rows, …)`. May be iterated more than once,
            and rows that were yielded may be changed before the next ones.
    """

    logits: Tensor
    margin: Tensor
    parts: Callable[[], Iterator[tuple[slice, Tensor]]]


def margin_gradient(model: MILModel, bag: Tensor, output: int, *, chunk: int) -> MarginGradient:
    """Gradient of the explained quantity of an output, for a whole bag under one softmax.

    Instances are embedded one by one, and pooled together. So the embedded bag is differentiated whole, and the step
    from there back to the instances is taken chunk by chunk: the chain rule, nothing is approximated.

    Args:
        model: frozen, in eval mode.
        bag: `(1, n_instances, …)`.
        output: index of the output.
        chunk: instances whose embedding is differentiated at once.

    Raises:
        ValueError: the model is not in eval mode.
    """
    if model.training:
        raise ValueError("the model must be in eval mode: dropout would make every gradient another one")
    slices = [slice(start, start + chunk) for start in range(0, bag.shape[1], chunk)]
    embedded = embedded_bag(model, bag, slices)
    with torch.enable_grad():
        embedded.requires_grad_(True)
        logits = model.pool(embedded).logits[0]
        margin = model.outputs.scalar(logits, output)
        (slope,) = torch.autograd.grad(margin, embedded)

    def parts() -> Iterator[tuple[slice, Tensor]]:
        for rows in slices:
            with torch.enable_grad():
                variable = bag[:, rows].detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(model.embed(variable), variable, slope[:, rows])
            yield rows, gradient

    return MarginGradient(logits.detach(), margin.detach(), parts)


@torch.no_grad()
def embedded_bag(model: MILModel, bag: Tensor, slices: list[slice]) -> Tensor:
    """Embedded bag `(1, n_instances, embed_dim)`, filled in part by part: a list of parts would hold it twice."""
    first = model.embed(bag[:, slices[0]])
    embedded = first.new_empty(1, bag.shape[1], first.shape[2])
    embedded[:, slices[0]] = first
    for rows in slices[1:]:
        embedded[:, rows] = model.embed(bag[:, rows])
    return embedded
