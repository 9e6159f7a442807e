"""Jacobian maps: the positive signal of a class passed back to the features, or pixels, of each instance."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wsi_mil.explain.base import Values
from wsi_mil.explain.gradient import CHUNK, embedded_bag
from wsi_mil.models import InstanceClassifier, MILModel

LEAST_MEAN = 1e-30
"""Lower bound of the mean that maps are divided by: the map of a bag that passes nothing back is zero."""


def jacobian_map(model: MILModel, bag: Tensor, output: int) -> Values:
    """The map summed over each instance, P·p_n·g_n, divided by the mean of g: how much an instance of the bag lets through."""
    parts = [(weight.double(), signal.double().flatten(1).sum(dim=1)) for _, weight, signal in _signals(model, bag, output)]
    weights, let_through = (torch.cat(part) for part in zip(*parts, strict=True))
    scores = weights * let_through / let_through.mean().clamp_min(LEAST_MEAN)
    return Values(scores.cpu().numpy())


def jacobian_parts(model: MILModel, bag: Tensor, output: int) -> Iterator[tuple[slice, Tensor]]:
    """The map itself, part by part: rows of the bag, and `(n_rows, …)` like the instances, nowhere negative.

    Starts at the pool with P·p_n, P the bag's pooled probability of the class and p_n the instance's; goes back layer by layer
    by â ← ReLU(Jᵀ â), J the layer's Jacobian at this instance. For images the sum over channels is a map of pixels.

    Source:
        Kraus, Ba, Frey, Bioinformatics 2016, section 2 (Jacobian maps). https://arxiv.org/abs/1511.05286

    Differs:
        The paper's formula goes from pre-activations to the activations below. Taken by the letter, activations themselves are
        passed by, and behind one hidden layer the map is P·p_n times a constant; here J is that of layer and activation, so that
        units that an instance does not use let nothing through. No threshold makes it a mask: heatmaps have their own.

    Args:
        model: frozen, in eval mode; an instance encoder must be an `nn.Sequential` of layers that are gone through in turn.
        bag: `(1, n_instances, …)`.
        output: class index.
    """
    for rows, weight, signal in _signals(model, bag, output):
        yield rows, signal * weight.reshape(-1, *[1] * (signal.ndim - 1))


def _signals(model: MILModel, bag: Tensor, output: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows, P·p_n, and the map of an instance whose P·p_n is 1: ReLU keeps positive factors, so they may come last."""
    if not isinstance(model, InstanceClassifier):
        raise TypeError(f"Jacobian maps need a pool of instances' probabilities, got {type(model).__name__}")
    layers = [layer for part in (model.instance_encoder, model.embedding, model.classifier) for layer in _layers(part)]
    slices = [slice(start, start + CHUNK) for start in range(0, bag.shape[1], CHUNK)]
    with torch.no_grad():
        prob = model.bag_probability(embedded_bag(model, bag, slices), output)
    for rows in slices:
        units, signal = _passed_back(layers, bag[0, rows].float(), *model.outputs.unit_of(output))
        yield rows, prob * model.instance_probs(units, output), signal


def _layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a chain, in order."""
    if isinstance(module, nn.Sequential):
        return [layer for part in module for layer in _layers(part)]
    return [module]


def _passed_back(layers: list[nn.Module], instances: Tensor, unit: int, sign: float) -> tuple[Tensor, Tensor]:
    """Units of the last layer, and what comes back of one of them; layers may work in place, so they get copies."""
    reached = [instances]
    with torch.no_grad():
        for layer in layers:
            reached.append(layer(reached[-1].clone()))
    units = reached.pop()
    signal = torch.zeros_like(units)
    signal[:, unit] = sign
    for layer, below in zip(reversed(layers), reversed(reached), strict=True):
        with torch.enable_grad():
            variable = below.requires_grad_()
            (gradient,) = torch.autograd.grad(layer(variable.clone()), variable, signal)
        signal = torch.relu(gradient)
    return units, signal
