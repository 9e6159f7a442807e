import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.cohort import write_features
from wsi_mil.bags import READ_AHEAD, BagSet, LabelledBag, bag_tensor, read_bag_of, rows_of
from wsi_mil.errors import EmptyBagError, StoreError
from wsi_mil.records import Bag


def test_bags_beyond_the_bound_in_memory_are_read_again(random_bags: Callable) -> None:
    bags, loads = random_bags(6), []

    def load(number: int) -> Bag:
        loads.append(number)
        return bags[number].bag

    room = bags[0].bag.features.nbytes + bags[1].bag.features.nbytes
    some = BagSet([b.label for b in bags], load, keep_bytes=room)
    for _ in range(2):
        assert [b.bag.slide_id for b in some.read([0, 1, 5, 4])] == ["s00", "s01", "s05", "s04"]
    assert loads == [0, 1, 5, 4, 5, 4]


def test_a_bag_of_two_slides_is_one_after_the_other(random_bags: Callable, tmp_path: Path) -> None:
    first, second, _ = (item.bag for item in random_bags(3))
    write_features(tmp_path, random_bags(3))
    receipts = [tmp_path / "s00.json", tmp_path / "s01.json"]
    both = read_bag_of("p", receipts)
    assert both.slide_id == "p" and np.array_equal(both.features, np.concatenate([first.features, second.features]))
    for bag, receipt in zip((first, second), receipts, strict=True):
        assert np.array_equal(both.coords[rows_of(receipt, receipts)], bag.coords)


def test_a_bag_in_memory_without_instances_is_named() -> None:
    empty = Bag("s1", np.zeros((0, 3), np.float16), np.zeros((0, 2), np.int64))
    with pytest.raises(EmptyBagError, match="s1: a bag without instances"):
        list(BagSet([0], lambda _: empty, keep_bytes=0))


class Reads:
    """Bags that note which of them were read; `until` waits for the reader instead of for a time."""

    def __init__(self, bags: list[LabelledBag]):
        self.bags, self.numbers, self.changed = bags, list[int](), threading.Condition()

    def __call__(self, number: int) -> Bag:
        with self.changed:
            self.numbers.append(number)
            self.changed.notify_all()
        return self.bags[number].bag

    def until(self, n: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.numbers) >= n, timeout=60)


def reader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("bags")]


@pytest.fixture
def reads(random_bags: Callable) -> Iterator[Reads]:
    yield Reads(random_bags(7))
    assert not reader_threads(), "no thread outlives its epoch"


def test_three_bags_and_no_more_are_read_while_one_is_processed(reads: Reads) -> None:
    order = [4, 0, 6, 2, 1, 5]
    bags = BagSet([b.label for b in reads.bags], reads, keep_bytes=0)
    for position, item in enumerate(bags.read(order)):
        ahead = min(position + 1 + READ_AHEAD, len(order))
        assert reads.until(ahead) and reads.numbers == order[:ahead]
        assert item == reads.bags[order[position]]
    assert READ_AHEAD == 3 and position == 5


def test_a_fault_of_the_reader_comes_at_its_bags_turn_with_its_message(reads: Reads) -> None:
    def load(number: int) -> Bag:
        if number == 2:
            raise StoreError(Path("s02.zarr"), "features/c/0/0 is missing")
        return reads(number)

    seen = []
    with pytest.raises(StoreError, match=r"s02\.zarr.*features/c/0/0 is missing"):
        for item in BagSet([b.label for b in reads.bags], load, keep_bytes=0).read(range(7)):
            seen.append(item.bag.slide_id)
    assert seen == ["s00", "s01"] and set(reads.numbers) <= {0, 1, 3, 4, 5}


def test_reading_ends_with_whoever_stops_early(reads: Reads) -> None:
    with pytest.raises(KeyboardInterrupt), closing(BagSet([0] * 7, reads, keep_bytes=0).read(range(7))) as items:
        next(items)
        assert len(reader_threads()) == 1
        raise KeyboardInterrupt
    assert len(reads.numbers) <= 1 + READ_AHEAD and not reader_threads()


def test_for_a_gpu_the_reader_pins_each_bag_also_those_it_keeps(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []

    def stand_in(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append((threading.current_thread().name.startswith("bags"), tensor.dtype))
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", stand_in)
    bags = BagSet([b.label for b in reads.bags], reads, keep_bytes=10**6, pin=True)
    for _ in range(2):
        for item, expected in zip(bags, reads.bags, strict=True):
            assert np.array_equal(item.bag.features, expected.bag.features) and item.bag.coords is expected.bag.coords
            assert item.bag.features is not expected.bag.features
    assert pinned == [(True, torch.float16)] * 14 and len(reads.numbers) == 7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pinned_bag_is_on_the_gpu_what_it_is_in_memory(reads: Reads) -> None:
    bags = BagSet([b.label for b in reads.bags], reads, keep_bytes=0, pin=True)
    model = nn.Linear(12, 2).cuda()
    for item, expected in zip(bags, reads.bags, strict=True):
        assert torch.from_numpy(item.bag.features).is_pinned()
        assert np.array_equal(bag_tensor(item.bag, model)[0].cpu().numpy(), expected.bag.features.astype(np.float32))
