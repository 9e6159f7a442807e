from pathlib import Path

import numpy as np
import pytest

from wsi_mil.errors import IncompleteStoreError, StoreError
from wsi_mil.records import InstanceScores, TileGrid
from wsi_mil.store import (
    FeatureStore,
    fingerprint,
    read_bag,
    read_receipt,
    read_scores,
    read_thumbnail,
    read_tiles,
    shard_rows,
    write_receipt,
    write_scores,
    write_tiles,
)

COORDS = np.arange(10_000, dtype=np.int64).reshape(-1, 2)
"""5,000 tiles: three shards of 2,048 at a batch of 64."""


def feature_store(path: Path, content: str = "a") -> FeatureStore:
    return FeatureStore(path, coords=COORDS, batch_size=64, attributes={"fingerprint": fingerprint({"content": content})})


def write_all(store: FeatureStore, *, shards: int) -> None:
    rng = np.random.default_rng(store.rows_done)
    for _ in range(shards):
        n = min(store.shard_rows, len(COORDS) - store.rows_done)
        store.append_shard(rng.random((n, 6)).astype(np.float16), np.arange(n) % 7 != 3)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("n", "batch", "rows"), [(10, 64, 2048), (5000, 64, 2048), (100_000, 64, 12_544), (5000, 48, 2304)])
def test_shards_are_an_eighth_of_the_tiles_in_whole_chunks_and_batches(n: int, batch: int, rows: int) -> None:
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


def test_a_store_goes_on_after_its_last_whole_shard(tmp_path: Path) -> None:
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


def test_a_shard_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        with pytest.raises(ValueError, match=r"the next shard is \(2048, 6\), got \(2047, 6\)"):
            store.append_shard(np.zeros((2047, 6), np.float16), np.ones(2047, bool))


def test_a_store_has_at_most_twelve_files(tmp_path: Path) -> None:
    with feature_store(tmp_path / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=3)
    assert len(tree(tmp_path / "s.zarr")) <= 12


def test_tiles_written_are_read(tmp_path: Path) -> None:
    grid = TileGrid(COORDS[:7], np.linspace(0, 1, 7, dtype=np.float32), 224, (448, 230))
    thumbnail = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    write_tiles(tmp_path / "t.zarr", grid, thumbnail, {"slide_id": "t"})
    read = read_tiles(tmp_path / "t.zarr")
    assert np.array_equal(read.coords, grid.coords) and np.array_equal(read.tissue_fraction, grid.tissue_fraction)
    assert (read.tile_px, read.tile_px_level0) == (224, (448, 230))
    assert np.array_equal(read_thumbnail(tmp_path / "t.zarr"), thumbnail)


def test_scores_written_are_read_and_a_method_that_is_not_there_is_named(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan], np.float32)
    scores = InstanceScores("attention", values, kind="", unit="share", comparable=False)
    write_scores(tmp_path / "s.zarr", COORDS[:2], [scores], {})
    coords, read = read_scores(tmp_path / "s.zarr", "attention")
    assert np.array_equal(coords, COORDS[:2]) and np.array_equal(read, values, equal_nan=True)
    with pytest.raises(StoreError, match="no array 'sparse_inversion'"):
        read_scores(tmp_path / "s.zarr", "sparse_inversion")


def test_a_receipt_is_the_same_bytes_for_the_same_content_and_holds_no_nan(tmp_path: Path) -> None:
    write_receipt(tmp_path / "a.json", {"b": [1.5, float("nan")], "a": "é"})
    write_receipt(tmp_path / "b.json", {"a": "é", "b": [1.5, float("nan")]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_receipt(tmp_path / "a.json") == {"a": "é", "b": [1.5, None]}


def test_a_receipt_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(StoreError, match=r"a\.json: not a readable receipt"):
        read_receipt(tmp_path / "a.json")
