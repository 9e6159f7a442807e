"""Bags of features: one slide, or all slides of a patient."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from wsi_mil.errors import EmptyBagError, NotFiniteError, StoreMismatchError
from wsi_mil.models import MILModel
from wsi_mil.receipts import store_path
from wsi_mil.records import Bag
from wsi_mil.store import read_attributes, read_bag

ENCODER_KEYS = ("encoder", "weights_hash", "mpp", "tile_px")
"""Attributes of a feature store that must be equal for all bags of a model."""


@dataclass(frozen=True)
class LabelledBag:
    """Bag in memory with its class index."""

    bag: Bag
    label: int


class BagSet:
    """Labelled bags that are read on demand, one ahead, and cached in memory up to a limit.

    Attributes:
        labels: class index of each bag.
    """

    def __init__(self, labels: Sequence[int], load: Callable[[int], Bag], *, keep_bytes: int):
        self.labels = list(labels)
        self._load = load
        self._free = keep_bytes
        self._cached: dict[int, Bag] = {}

    @classmethod
    def of(cls, bags: Sequence[LabelledBag]) -> Self:
        """Create from bags in memory."""
        return cls([b.label for b in bags], lambda i: bags[i].bag, keep_bytes=0)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, order: Iterable[int]) -> Iterator[LabelledBag]:
        """Yield the bags with these indices, in this order; the next is read while one is processed.

        Raises:
            EmptyBagError: a bag has no instances.
        """
        numbers = list(order)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._bag, numbers[0]) if numbers else None
            for position, number in enumerate(numbers):
                assert ahead is not None
                bag = ahead.result()
                if position + 1 < len(numbers):
                    ahead = reader.submit(self._bag, numbers[position + 1])
                yield LabelledBag(bag, self.labels[number])

    def __iter__(self) -> Iterator[LabelledBag]:
        return self.read(range(len(self)))

    def _bag(self, number: int) -> Bag:
        if number in self._cached:
            return self._cached[number]
        bag = self._load(number)
        if not len(bag.features):
            raise EmptyBagError(bag.slide_id)
        if bag.features.nbytes <= self._free:
            self._free -= bag.features.nbytes
            self._cached[number] = bag
        return bag


def read_bag_of(bag_id: str, receipts: Sequence[Path]) -> Bag:
    """Read the bag of one or more slides, concatenated in order.

    Raises:
        EmptyBagError: no slide has a valid tile.
    """
    parts = [read_bag(receipt) for receipt in receipts]
    if not any(len(part.features) for part in parts):
        raise EmptyBagError(bag_id)
    if len(parts) == 1:
        return replace(parts[0], slide_id=bag_id)
    return Bag(bag_id, np.concatenate([p.features for p in parts]), np.concatenate([p.coords for p in parts]))


def rows_of(own: Path, receipts: Sequence[Path]) -> slice:
    """Return the rows of one slide's instances in the bag of all `receipts`."""
    start = sum(len(read_bag(receipt).coords) for receipt in receipts[: receipts.index(own)])
    return slice(start, start + len(read_bag(own).coords))


def bag_tensor(bag: Bag, model: nn.Module) -> Tensor:
    """Return a bag as float32 `(1, n_instances, …)` on the model's device."""
    return stored_tensor(bag, model).float()


def stored_tensor(bag: Bag, model: nn.Module) -> Tensor:
    """Return a bag as stored, float16 `(1, n_instances, …)`, on the model's device; on the CPU it shares the bag's memory."""
    device = next(model.parameters()).device
    return torch.from_numpy(bag.features).to(device).unsqueeze(0)


@torch.inference_mode()
def finite_logits(model: MILModel, bag: Bag) -> Tensor:
    """Return a model's logits for a bag, `(1, n_classes)`.

    Raises:
        NotFiniteError: the features or the logits are not finite, so that no class may follow from them.
    """
    logits = model(bag_tensor(bag, model)).logits
    if not torch.isfinite(logits).all():
        raise NotFiniteError(bag.slide_id, features_are_finite=bool(np.isfinite(bag.features).all()))
    return torch.as_tensor(logits)


def common_encoder(receipts: Iterable[Path]) -> dict[str, object]:
    """Return the encoder and scale that all stores have in common.

    Raises:
        StoreMismatchError: they differ.
    """
    stores = [store_path(receipt) for receipt in receipts]
    encoders = [_encoder_attributes(read_attributes(path)) for path in stores]
    for path, encoder in zip(stores, encoders, strict=True):
        if encoder != encoders[0]:
            raise StoreMismatchError(path, f"was made with {encoder}, but {stores[0]} with {encoders[0]}; run `extract` again")
    return dict(encoders[0])


def _encoder_attributes(attributes: Mapping[str, object]) -> dict[str, object]:
    return {key: attributes[key] for key in ENCODER_KEYS}
