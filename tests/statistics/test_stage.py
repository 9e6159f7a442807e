import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.statistics.conftest import drawn_slides, write_features
from wsi_mil.config import Statistics
from wsi_mil.errors import EmptyBagError, MissingFileError, NotFiniteError, StoreError, StoreMismatchError
from wsi_mil.receipts import read_receipt
from wsi_mil.statistics import read_projections, write_statistics
from wsi_mil.store import FeatureRows
from wsi_mil.store.shards import BLOCK_ROWS

SETTINGS = Statistics(components=4, tiles_per_slide=9)


def written(folder: Path, slides: dict[str, np.ndarray], *, threads: int = 1, corrupt: int = 0, **changes: int) -> Path:
    """Stores of slides, and the receipt of their statistics."""
    features = write_features(folder / "f", slides, corrupt=corrupt)
    settings = SETTINGS.model_copy(update=changes)
    write_statistics(slides, features, settings, folder / "st" / "enc.json", threads=threads)
    return folder / "st" / "enc.json"


def stored(receipt: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(array[...]) for name, array in zarr.open_group(receipt.with_suffix(".zarr"), mode="r").arrays()}


def files(receipt: Path) -> dict[str, bytes]:
    return {str(p.relative_to(receipt.parent)): p.read_bytes() for p in sorted(receipt.parent.rglob("*")) if p.is_file()}


def test_statistics_match_numpy_with_slides_weighted_equally(tmp_path: Path) -> None:
    slides = drawn_slides(7)
    receipt = written(tmp_path, slides, corrupt=3)
    tiles = np.concatenate(list(slides.values())).astype(np.float64)
    weights = np.concatenate([np.full(len(rows), 1 / len(rows)) for rows in slides.values()])
    found, about = stored(receipt), read_receipt(receipt)
    covariance = np.cov(tiles, rowvar=False, aweights=weights, ddof=0)
    assert np.allclose(found["mean"], np.average(tiles, axis=0, weights=weights), rtol=1e-13)
    assert np.allclose(found["variance"], np.diag(covariance), rtol=1e-6)
    variances, vectors = np.linalg.eigh(covariance)
    assert np.allclose(about["explained"], variances[::-1][:4] / variances.sum(), rtol=1e-5)
    assert np.allclose(np.abs((found["components"] * vectors.T[::-1][:4]).sum(axis=1)), 1, atol=1e-8)
    assert about["n_slides"] == 7 and about["n_tiles"] == len(tiles), "corrupt tiles are none"


def test_slides_and_sampled_tiles_are_projected_on_the_components(tmp_path: Path) -> None:
    slides = drawn_slides(5)
    receipt = written(tmp_path, slides, corrupt=3)
    found, at = stored(receipt), read_projections(receipt)
    assert at.slide_ids == tuple(slides)
    for slide_id, place in zip(at.slide_ids, at.slides, strict=True):
        mean = slides[slide_id].astype(np.float64).mean(axis=0)
        assert np.allclose(place, (mean - found["mean"]) @ found["components"].T, atol=1e-4)
    with receipt.with_suffix(".tiles.csv").open() as file:
        sampled = list(csv.DictReader(file))
    assert [sum(row["slide_id"] == s for row in sampled) for s in slides] == [min(9, len(rows)) for rows in slides.values()]
    for row in sampled:
        number = int(row["x"]) // 224  # of the row on disk: each of the first three valid ones has a corrupt one before it
        assert number not in (0, 2, 4)
        tile = slides[row["slide_id"]][number // 2 if number < 6 else number - 3].astype(np.float64)
        place = (tile - found["mean"]) @ found["components"].T
        assert np.allclose([float(row[f"pc{k}"]) for k in (1, 2, 3, 4)], place, atol=1e-3)


def test_output_is_identical_for_any_threads_and_order_of_slides(tmp_path: Path) -> None:
    slides = drawn_slides(9)
    once = written(tmp_path / "once", slides)
    again = written(tmp_path / "again", dict(reversed(slides.items())), threads=4)
    assert files(once) == files(again)


def test_another_slide_does_not_change_the_tiles_sampled_from_others(tmp_path: Path) -> None:
    def drawn(receipt: Path) -> set[tuple[str, str]]:
        with receipt.with_suffix(".tiles.csv").open() as file:
            return {(row["slide_id"], row["x"]) for row in csv.DictReader(file)}

    slides = drawn_slides(4)
    fewer = drawn(written(tmp_path / "fewer", {s: rows for s, rows in slides.items() if s != "s1"}))
    more = drawn(written(tmp_path / "more", slides))
    other_seed = drawn(written(tmp_path / "seed", slides, seed=1))
    assert fewer < more and more != other_seed


def test_a_slide_larger_than_a_block_is_read_in_blocks_without_its_corrupt_tiles(tmp_path: Path) -> None:
    rows = np.arange(2 * 5000).reshape(5000, 2).astype(np.float16)
    write_features(tmp_path, {"big": rows}, corrupt=1500)
    found = FeatureRows(tmp_path / "big.json")
    blocks = list(found.blocks())
    assert len(blocks) == 4 and max(map(len, blocks)) == BLOCK_ROWS
    assert np.array_equal(np.concatenate(blocks), rows) and len(found) == 5000
    some = np.array([0, 1, 1499, 1500, 4999])
    assert np.array_equal(found.at(some), rows[some])


def test_a_compressed_store_of_an_earlier_version_is_read_too(tmp_path: Path) -> None:
    rows = drawn_slides(1, largest=400)["s0"]
    write_features(tmp_path, {"s": rows}, corrupt=5)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r+")
    values = np.asarray(group["features"][...])
    shutil.rmtree(tmp_path / "s.zarr" / "features")
    group.create_array("features", shape=values.shape, dtype="float16", chunks=(64, 12), shards=(2048, 12))[...] = values
    found = FeatureRows(tmp_path / "s.json")
    assert np.array_equal(np.concatenate(list(found.blocks())), rows) and np.array_equal(found.at(np.array([2, 7])), rows[[2, 7]])


def test_non_finite_features_are_reported_with_slide_and_tile(tmp_path: Path) -> None:
    """Valid tile 2300 stands behind a block of others and behind five corrupt ones."""
    slides = {"s0": drawn_slides(1)["s0"], "s1": np.ones((2500, 12), np.float16)}
    slides["s1"][2300:, 5] = np.nan
    features = write_features(tmp_path, slides, corrupt=5)
    with pytest.raises(NotFiniteError, match=r"s1: the features of tile 2305 at \(516320, 7\) are not finite"):
        write_statistics(slides, features, SETTINGS, tmp_path / "st" / "enc.json", threads=1)
    assert not (tmp_path / "st" / "enc.json").exists()


def test_features_of_other_lengths_and_slides_without_tiles_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreMismatchError, match=r"odd\.zarr: has features of length 5, .*a\.zarr of 12"):
        written(tmp_path / "odd", {"a": np.ones((3, 12), np.float16), "odd": np.ones((3, 5), np.float16)})
    features = write_features(tmp_path / "none", {"a": np.ones((3, 5), np.float16)})
    zarr.open_group(features / "a.zarr", mode="r+")["valid"][...] = False
    with pytest.raises(EmptyBagError, match="a: a bag without instances"):
        write_statistics(["a"], features, SETTINGS, tmp_path / "st.json", threads=1)


def test_a_missing_shard_is_reported(tmp_path: Path) -> None:
    features = write_features(tmp_path, drawn_slides(2))
    (features / "s1.zarr/features/c/0/0").unlink()
    with pytest.raises(StoreError, match=r"s1\.zarr: features/c/0/0 is missing"):
        write_statistics(["s0", "s1"], features, SETTINGS, tmp_path / "st.json", threads=1)


def test_a_missing_table_is_reported(tmp_path: Path) -> None:
    receipt = written(tmp_path, drawn_slides(3))
    receipt.with_suffix(".tiles.csv").unlink()
    with pytest.raises(MissingFileError, match=r"enc\.tiles\.csv: no such file; run the stage that writes it again"):
        read_projections(receipt)


def test_one_tile_has_no_variance_and_no_components(tmp_path: Path) -> None:
    at = read_projections(written(tmp_path, {"s": np.array([[3.0, 4.0]], np.float16)}))
    assert at.shares == () and at.slides.shape == (1, 0) and at.receipt["between_slides"] is None


def test_the_share_between_slides_by_hand(tmp_path: Path) -> None:
    slides = {"a": np.array([[0.0], [2.0]], np.float16), "b": np.array([[10.0], [10.0], [13.0]], np.float16)}
    about = read_receipt(written(tmp_path, slides))
    assert about["total_variance"] == pytest.approx((1 + 2) / 2 + 25) and about["between_slides"] == pytest.approx(25 / 26.5)
