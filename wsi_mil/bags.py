"""Bags of features: one slide, or all slides of a patient."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from wsi_mil.covariates import Cells
from wsi_mil.errors import EmptyBagError, NotFiniteError, StoreMismatchError
from wsi_mil.models import MILModel
from wsi_mil.receipts import store_path
from wsi_mil.records import Bag
from wsi_mil.store import feature_attributes, read_bag
from wsi_mil.tasks import Truth

ENCODER_KEYS = ("encoder", "weights_hash", "mpp", "tile_px")
"""Attributes of a feature store that must be equal for all bags of a model."""

READ_AHEAD = 3
"""Bags that are read while one is processed. More than one, since bags differ in size: a large one is read during small ones."""


@dataclass(frozen=True)
class LabelledBag:
    """Bag in memory with its encoded label: for classes, its class index."""

    bag: Bag
    label: Any


class BagSet:
    """Labelled bags that are read on demand, three ahead, and cached in memory up to a limit.

    Attributes:
        truth: encoded label of each bag, and whose bag it is.
    """

    def __init__(self, truth: Truth | Sequence[Any], load: Callable[[int], Bag], *, keep_bytes: int, pin: bool = False):
        """Prepare reading.

        Args:
            truth: encoded labels; without patients, each bag is from another one.
            load: reads a bag by its number; it is called by one thread at a time.
            keep_bytes: bytes of features that may be kept.
            pin: whether features are read into page-locked memory, from which a CUDA device copies while others compute.
        """
        self.truth = truth if isinstance(truth, Truth) else Truth.of(truth)
        self._load = load
        self._free = keep_bytes
        self._pin = pin
        self._cached: dict[int, Bag] = {}

    @classmethod
    def of(cls, bags: Sequence[LabelledBag]) -> Self:
        """Create from bags in memory."""
        return cls([b.label for b in bags], lambda i: bags[i].bag, keep_bytes=0)

    def __len__(self) -> int:
        return len(self.truth)

    def read(self, order: Iterable[int]) -> Generator[LabelledBag]:
        """Yield the bags with these indices, in this order; the next three are read by a thread while one is processed.

        The thread ends with the iteration. Whatever stops it early must close the iterator (`contextlib.closing`).

        Raises:
            EmptyBagError: a bag has no instances.
            Exception: what `load` raises, when that bag's turn comes.
        """
        ahead = deque[tuple[int, Future[Bag]]]()
        reader = ThreadPoolExecutor(1, thread_name_prefix="bags")
        try:
            for number in order:
                ahead.append((number, reader.submit(self._bag, number)))
                if len(ahead) > READ_AHEAD:
                    yield self._labelled(*ahead.popleft())
            while ahead:
                yield self._labelled(*ahead.popleft())
        finally:
            reader.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[LabelledBag]:
        return self.read(range(len(self)))

    def _labelled(self, number: int, read: Future[Bag]) -> LabelledBag:
        return LabelledBag(read.result(), self.truth.labels[number])

    def _bag(self, number: int) -> Bag:
        bag = self._cached.get(number) or self._read(number)
        return pinned(bag) if self._pin else bag

    def _read(self, number: int) -> Bag:
        bag = self._load(number)
        if not len(bag.features):
            raise EmptyBagError(bag.slide_id)
        if bag.features.nbytes <= self._free:
            self._free -= bag.features.nbytes
            self._cached[number] = bag
        return bag


def pinned(bag: Bag) -> Bag:
    """Return a bag whose features are in page-locked memory, which a CUDA device reads without another copy. Needs CUDA."""
    return replace(bag, features=torch.from_numpy(bag.features).pin_memory().numpy())


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


def blank_bag(bag_id: str, dim: int, covariates: Cells | None) -> Bag:
    """Return a bag for a model that sees no slides: one instance of zeros, and the covariates."""
    return Bag(bag_id, np.zeros((1, dim), np.float16), np.zeros((1, 2), np.int64), covariates)


def rows_of(own: Path, receipts: Sequence[Path]) -> slice:
    """Return the rows of one slide's instances in the bag of all `receipts`."""
    start = sum(len(read_bag(receipt).coords) for receipt in receipts[: receipts.index(own)])
    return slice(start, start + len(read_bag(own).coords))


def bag_tensor(bag: Bag, model: nn.Module) -> Tensor:
    """Return a bag as float32 `(1, n_instances, …)` on the model's device."""
    return stored_tensor(bag, model).float()


def stored_tensor(bag: Bag, model: nn.Module) -> Tensor:
    """Return a bag as stored, float16 `(1, n_instances, …)`, on the model's device; on the CPU it shares the bag's memory.

    Pinned features are copied to a CUDA device while the CPU goes on, so the bag must live until its step is done.
    """
    device = next(model.parameters()).device
    # not on other devices: Apple's may still be reading memory that was freed since
    return torch.from_numpy(bag.features).to(device, non_blocking=device.type == "cuda").unsqueeze(0)


@torch.inference_mode()
def finite_logits(model: MILModel, bag: Bag) -> Tensor:
    """Return a model's logits for a bag, `(1, n_outputs)`.

    Raises:
        ConfigError: the model takes covariates, and the bag has none.
        NotFiniteError: the features or the logits are not finite, so that nothing may follow from them.
    """
    logits = model.at(bag.covariates)(bag_tensor(bag, model)).logits
    if not torch.isfinite(logits).all():
        raise NotFiniteError(bag.slide_id, features_are_finite=bool(np.isfinite(bag.features).all()))
    return torch.as_tensor(logits)


def scalar(model: MILModel, bag: Bag, output: int) -> float:
    """Return the explained quantity of an output for a bag. Raises what `finite_logits` raises."""
    return float(model.outputs.scalar(finite_logits(model, bag)[0].double(), output))


def common_encoder(receipts: Iterable[Path]) -> dict[str, object]:
    """Return the encoder and scale that all stores have in common.

    Raises:
        StoreMismatchError: they differ.
    """
    stores = [store_path(receipt) for receipt in receipts]
    encoders = [_encoder_attributes(feature_attributes(path)) for path in stores]
    for path, encoder in zip(stores, encoders, strict=True):
        if encoder != encoders[0]:
            raise StoreMismatchError(path, f"was made with {encoder}, but {stores[0]} with {encoders[0]}; run `extract` again")
    return dict(encoders[0])


def _encoder_attributes(attributes: Mapping[str, object]) -> dict[str, object]:
    return {key: attributes[key] for key in ENCODER_KEYS}
