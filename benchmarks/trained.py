"""Train an entry of `models` on bags in memory, for MHIM after its base; for benchmarks of aggregators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import MHIM, parse_model
from wsi_mil.models import MILModel, create_mhim, create_model
from wsi_mil.tasks import Classes
from wsi_mil.train import fit

Entry = Mapping[str, Any]
TASK = Classes.numbered(2)


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    Attributes:
        entries: entries of `models` by name, with the bases of MHIM.
        training: settings of `train` that entries have in addition, by name.
        of_all: the same for all entries; overrides the others.
    """

    entries: Mapping[str, Entry]
    training: Mapping[str, Entry] = field(default_factory=dict)
    of_all: Entry = field(default_factory=dict)


def trained(name: str, recipe: Recipe, bags: tuple[Sequence[LabelledBag], Sequence[LabelledBag]], seed: int) -> MILModel:
    """Return a model fitted on the first bags, whose epoch the second ones select; in eval mode, its parameters frozen."""
    train, val = bags
    entry = recipe.entries[name]
    own = {**entry.get("train", {}), **recipe.training.get(name, {}), **recipe.of_all}
    settings = parse_model({**entry, "train": {**own, "seed": seed}})
    dim = train[0].bag.features.shape[1]
    torch.manual_seed(seed)
    if isinstance(settings, MHIM):
        student = create_model(parse_model(dict(recipe.entries[settings.base])), feature_dim=dim, n_classes=2)
        model: MILModel = create_mhim(settings, base=trained(settings.base, recipe, bags, seed), student=student)
    else:
        model = create_model(settings, feature_dim=dim, n_classes=2)
    fit(model, BagSet.of(list(train)), BagSet.of(list(val)), settings.train, task=TASK)
    return model.deployed.eval().requires_grad_(False)
