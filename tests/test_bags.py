from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.cohort import write_features
from wsi_mil.bags import BagSet, read_bag_of, rows_of
from wsi_mil.errors import EmptyBagError
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
