from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from wsi_mil.errors import IncompleteStoreError, StoreError
from wsi_mil.receipts import fingerprint, read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, TileGrid
from wsi_mil.store import (
    FeatureStore,
    bytes_on_disk,
    feature_bytes,
    feature_dim,
    features_digest,
    read_bag,
    read_grid,
    read_scores,
    read_thumbnail,
    shard_rows,
    write_grid,
    write_scores,
)

COORDS = np.arange(10_000, dtype=np.int64).reshape(-1, 2)
"""5,000 tiles: three shards of 2,048 at a batch of 64."""


def feature_store(path: Path, content: str = "a") -> FeatureStore:
    return FeatureStore(path, coords=COORDS, batch_size=64, attributes={"fingerprint": fingerprint({"content": content})})


def write_all(store: FeatureStore, *, shards: int) -> None:
    for _ in range(shards):
        rng = np.random.default_rng(store.rows_done)
        n = min(store.shard_rows, len(COORDS) - store.rows_done)
        store.append_shard(rng.random((n, 6)).astype(np.float16), np.arange(n) % 7 != 3)


def write_finished(folder: Path) -> Path:
    """A finished store; its receipt's path."""
    with feature_store(folder / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=3)
    return folder / "s.json"


def write_earlier_layout(path: Path, features: np.ndarray, valid: np.ndarray) -> None:
    """A finished store as earlier versions made it: compressed chunks of 256 rows in shards, of `valid` too."""
    attributes = {"fingerprint": fingerprint({"content": "a"}), "shards_done": 3}
    group = zarr.open_group(path, mode="w", zarr_format=3, attributes=attributes)
    group.create_array("coords", shape=COORDS.shape, dtype="int64", chunks=COORDS.shape)[...] = COORDS
    group.create_array("features", shape=(5000, 6), dtype="float16", chunks=(256, 6), shards=(2048, 6))[...] = features
    group.create_array("valid", shape=(5000,), dtype="bool", chunks=(256,), shards=(2048,))[...] = valid


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("n", "batch", "rows"), [(10, 64, 2048), (5000, 64, 2048), (100_000, 64, 16_896), (5000, 48, 2304)])
def test_shards_are_a_sixth_of_the_tiles_in_whole_batches(n: int, batch: int, rows: int) -> None:
    assert shard_rows(n, batch) == rows and rows % 256 == 0 and rows % batch == 0


def test_features_written_are_read_without_the_corrupt_tiles(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=3)
        assert store.is_complete and store.rows_done == 5000
    bag = read_bag(tmp_path / "s.json")
    n_corrupt = 2 * len(range(3, 2048, 7)) + len(range(3, 904, 7))
    assert bag.slide_id == "s" and len(bag.features) == len(bag.coords) == 5000 - n_corrupt
    assert bag.coords[3].tolist() == COORDS[4].tolist()


def test_a_store_is_resumed_after_its_last_whole_shard(tmp_path: Path) -> None:
    with feature_store(tmp_path / "whole.zarr") as store:
        store.begin(6)
        for _ in range(3):
            write_all(store, shards=1)
    with feature_store(tmp_path / "parts.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
    with feature_store(tmp_path / "parts.zarr") as store:
        store.begin(6)
        assert store.rows_done == 2048 and not store.is_complete
        write_all(store, shards=1)
        write_all(store, shards=1)
    assert tree(tmp_path / "parts.zarr") == tree(tmp_path / "whole.zarr")


def test_partial_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    write_finished(tmp_path / "whole")
    with feature_store(tmp_path / "killed" / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
    (tmp_path / "killed" / "s.zarr" / "features" / "c" / "1").mkdir()
    (tmp_path / "killed" / "s.zarr" / "features" / "c" / "1" / "0.5eed.partial").write_bytes(b"half a shard")
    with feature_store(tmp_path / "killed" / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=2)
    assert tree(tmp_path / "killed" / "s.zarr") == tree(tmp_path / "whole" / "s.zarr")


def test_a_bag_equals_what_zarr_reads(tmp_path: Path) -> None:
    bag, group = read_bag(write_finished(tmp_path)), zarr.open_group(tmp_path / "s.zarr", mode="r")
    features, valid, coords = (np.asarray(group[name][...]) for name in ("features", "valid", "coords"))
    assert bag.features.dtype == np.float16 and bag.coords.dtype == np.int64
    assert np.array_equal(bag.features, features[valid]) and np.array_equal(bag.coords, coords[valid])


def test_a_store_of_the_earlier_layout_is_read(tmp_path: Path) -> None:
    receipt = write_finished(tmp_path / "new")
    group = zarr.open_group(tmp_path / "new" / "s.zarr", mode="r")
    write_earlier_layout(tmp_path / "old" / "s.zarr", *(np.asarray(group[name][...]) for name in ("features", "valid")))
    old, new = read_bag(tmp_path / "old" / "s.json"), read_bag(receipt)
    assert np.array_equal(old.features, new.features) and np.array_equal(old.coords, new.coords)


def test_a_resumed_store_keeps_its_shards_with_any_batch_size(tmp_path: Path) -> None:
    attributes = {"fingerprint": fingerprint({"content": "a"})}
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
    with FeatureStore(tmp_path / "s.zarr", coords=COORDS, batch_size=96, attributes=attributes) as store:
        assert store.shard_rows == store.rows_done == 2048 and store.batch_size == 64
        write_all(store, shards=2)
    assert tree(tmp_path / "s.zarr") == tree(store_path(write_finished(tmp_path / "whole")))


def test_the_digest_of_a_store_is_known_without_writing_it(tmp_path: Path) -> None:
    features, valid = np.random.default_rng(0).random((5000, 6)).astype(np.float16), np.arange(5000) % 5 != 1
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        for start in range(0, 5000, 2048):
            store.append_shard(features[start : start + 2048], valid[start : start + 2048])
        assert features_digest(features, valid, 64) == store.digest() != features_digest(features, ~valid, 64)


def test_a_large_store_has_twelve_files(tmp_path: Path) -> None:
    coords = np.zeros((50_001, 2), np.int64)
    with FeatureStore(tmp_path / "s.zarr", coords=coords, batch_size=48, attributes={"fingerprint": "f"}) as store:
        store.begin(1)
        while not store.is_complete:
            rows = min(store.shard_rows, len(coords) - store.rows_done)
            store.append_shard(np.ones((rows, 1), np.float16), np.ones(rows, bool))
    assert len(tree(tmp_path / "s.zarr")) == 12


def test_a_missing_shard_is_not_read_as_zeros(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
        store.append_shard(np.zeros((2048, 6), np.float16), np.ones(2048, bool))
        write_all(store, shards=1)
    bag = read_bag(tmp_path / "s.json")
    assert (bag.features != 0).any(axis=1).sum() == len(bag.features) - 2048
    (tmp_path / "s.zarr/features/c/1/0").unlink()
    with pytest.raises(StoreError, match=r"features/c/1/0 is missing"):
        read_bag(tmp_path / "s.json")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    receipt = write_finished(tmp_path)
    shard = tmp_path / "s.zarr/features/c/1/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"features/c/1/0 is damaged: expected 24576 bytes, found 24575; delete the store"):
        read_bag(receipt)


def test_features_of_other_tiles_than_the_coords_are_no_bag(tmp_path: Path) -> None:
    receipt = write_finished(tmp_path)
    zarr.open_array(tmp_path / "s.zarr" / "coords", mode="r+").resize((4999, 2))
    with pytest.raises(StoreError, match=r"different numbers of tiles \(features 5000, coords 4999, valid 5000\)"):
        read_bag(receipt)


def test_the_length_of_features_is_known_before_any_is_written(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
    assert feature_dim(tmp_path / "s.json") == 6


def test_a_store_that_is_not_there_or_has_no_features_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no readable store"):
        feature_dim(tmp_path / "s.json")
    write_scores(tmp_path / "t.zarr", COORDS[:2], [], {})
    with pytest.raises(StoreError, match="no readable array 'features'"):
        read_bag(tmp_path / "t.json")


def test_a_store_of_something_else_starts_afresh(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr", "a") as store:
        store.begin(6)
        write_all(store, shards=3)
    with feature_store(tmp_path / "s.zarr", "b") as store:
        assert store.rows_done == 0 and not store.is_complete
        store.begin(4)
        assert store.dim == 4


def test_an_unfinished_store_is_no_bag(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=2)
    with pytest.raises(IncompleteStoreError, match="run `extract` again"):
        read_bag(tmp_path / "s.json")


def test_a_shard_of_the_wrong_length_is_rejected(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        with pytest.raises(ValueError, match=r"the next shard is \(2048, 6\), got \(2047, 6\)"):
            store.append_shard(np.zeros((2047, 6), np.float16), np.ones(2047, bool))


def test_tiles_written_are_read(tmp_path: Path) -> None:
    grid = TileGrid(COORDS[:7], np.linspace(0, 1, 7, dtype=np.float32), 224, (448, 230))
    thumbnail = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    write_grid(tmp_path / "t.zarr", grid, thumbnail, {"slide_id": "t"})
    read = read_grid(tmp_path / "t.zarr")
    assert np.array_equal(read.coords, grid.coords) and np.array_equal(read.tissue_fraction, grid.tissue_fraction)
    assert (read.tile_px, read.tile_px_level0) == (224, (448, 230))
    assert np.array_equal(read_thumbnail(tmp_path / "t.zarr"), thumbnail)


def test_scores_written_are_read_and_a_method_that_is_not_there_is_named(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan], np.float32)
    scores = InstanceScores("attention", values, kind="", unit="share", comparable=False)
    write_scores(tmp_path / "s.zarr", COORDS[:2], [scores], {})
    coords, read = read_scores(tmp_path / "s.zarr", "attention")
    assert np.array_equal(coords, COORDS[:2]) and np.array_equal(read, values, equal_nan=True)
    with pytest.raises(StoreError, match=rf"^{tmp_path}/s\.zarr: has no array 'sparse_inversion'"):
        read_scores(tmp_path / "s.zarr", "sparse_inversion")


def test_scores_and_thumbnails_with_a_byte_that_is_another_are_not_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = InstanceScores("attention", rng.random(60, np.float32), kind="", unit="share", comparable=False)
    write_scores(tmp_path / "s.zarr", COORDS[:60], [scores], {})
    grid = TileGrid(COORDS[:2], np.zeros(2, np.float32), tile_px=224, tile_px_level0=(448, 230))
    thumbnail = rng.integers(0, 255, (9, 11, 3), np.uint8)
    write_grid(tmp_path / "t.zarr", grid, thumbnail, {})

    def damaged(chunk: Path, read: Callable[[], np.ndarray], expected: np.ndarray) -> int:
        """How many of its bytes are known to be others; the rest must make no difference."""
        whole, n_known = chunk.read_bytes(), 0
        for place in range(len(whole)):
            chunk.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            try:
                assert np.array_equal(read(), expected)
            except StoreError:
                n_known += 1
        chunk.write_bytes(whole)
        return len(whole) - n_known

    chunk = tmp_path / "s.zarr" / "attention" / "c" / "0"
    assert damaged(chunk, lambda: read_scores(tmp_path / "s.zarr", "attention")[1], scores.values) <= 1
    for metadata in ("zarr.json", "attention/zarr.json", "coords/zarr.json"):
        damaged(tmp_path / "s.zarr" / metadata, lambda: read_scores(tmp_path / "s.zarr", "attention")[1], scores.values)
    chunk = tmp_path / "t.zarr" / "thumbnail" / "c" / "0" / "0" / "0"
    assert damaged(chunk, lambda: read_thumbnail(tmp_path / "t.zarr"), thumbnail) <= 1


def test_a_receipt_is_the_same_bytes_for_the_same_content_and_holds_no_nan(tmp_path: Path) -> None:
    write_receipt(tmp_path / "a.json", {"b": [1.5, float("nan")], "a": "é"})
    write_receipt(tmp_path / "b.json", {"a": "é", "b": [1.5, float("nan")]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_receipt(tmp_path / "a.json") == {"a": "é", "b": [1.5, None]}


def test_a_receipt_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(StoreError, match=r"a\.json: is no readable receipt"):
        read_receipt(tmp_path / "a.json")


@pytest.mark.parametrize(("n", "batch_size"), [(1, 64), (300, 64), (2049, 64), (20_000, 48)])
def test_the_bytes_of_a_store_are_known_beforehand(tmp_path: Path, n: int, batch_size: int) -> None:
    coords = np.zeros((n, 2), np.int64)
    with FeatureStore(tmp_path / "s.zarr", coords=coords, batch_size=batch_size, attributes={"fingerprint": "f"}) as store:
        store.begin(3)
        while not store.is_complete:
            rows = min(store.shard_rows, n - store.rows_done)
            store.append_shard(np.ones((rows, 3), np.float16), np.ones(rows, bool))
    described = sum(file.stat().st_size for file in (tmp_path / "s.zarr").rglob("zarr.json"))
    assert bytes_on_disk(tmp_path / "s.zarr") - described == feature_bytes(n, 3, batch_size)
    assert bytes_on_disk(tmp_path / "none.zarr") == 0
