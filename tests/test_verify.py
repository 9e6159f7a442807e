import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from tests.conftest import tissue_image, write_aperio
from tests.test_extract import SETTINGS, MeanColour
from tests.test_store import COORDS, feature_store, tree, write_all
from wsi_mil.cli import app
from wsi_mil.config import Encoder
from wsi_mil.errors import MissingFileError
from wsi_mil.extract import extract_slide
from wsi_mil.receipts import array_digest, fingerprint, read_receipt, write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.shifts import Shift, shifts
from wsi_mil.store import remove_store
from wsi_mil.tile import tile_slide
from wsi_mil.tile.shifted import tile_shifted
from wsi_mil.verify import verify


def found(results: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Verdict and faults by the receipt's path."""
    return {one.receipt.relative_to(results).as_posix(): (one.verdict, one.faults) for one in verify(results)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one slide, tiled and extracted, and a slide of nothing but glass."""
    folder = tmp_path_factory.mktemp("verify")
    for name, image in (("s", tissue_image(640, 448)), ("glass", np.full((448, 640, 3), 243, np.uint8))):
        slide = write_aperio(folder / f"{name}.svs", image)
        row, tiles = SlideRow(name, slide), folder / "results" / "tiles" / "default" / f"{name}.json"
        features = folder / "results" / "features" / "tiny" / f"{name}.json"
        tile_slide(row, SETTINGS, tiles)
        extract_slide(tiles, row, Encoder(batch_size=16), features, dtype="float32", encoder=MeanColour, threads=1)
    return folder / "results"


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "results"))


def test_stores_written_by_the_stages_are_sound(results: Path) -> None:
    paths = [f"{stage}/{name}.json" for stage in ("features/tiny", "tiles/default") for name in ("glass", "s")]
    assert found(results) == dict.fromkeys(paths, ("sound", ()))


def test_stores_of_shifted_tilings_are_checked_too(results: Path, tmp_path: Path) -> None:
    slide, usual = write_aperio(tmp_path / "s.svs", tissue_image(640, 448)), results / "tiles" / "default" / "s.json"
    receipts = {shift: Results(results).shifted(shift.name).tiles_receipt("default", "s") for shift in shifts(2)}
    tile_shifted(SlideRow("s", slide), usual, receipts)
    names = {receipt.relative_to(results).as_posix() for receipt in receipts.values()}
    assert names < set(found(results)) and {verdict for verdict, _ in found(results).values()} == {"sound"}
    damaged = receipts[Shift(1, 0, 2)]
    write_receipt(damaged, {**read_receipt(damaged), "coords_digest": "other"})
    assert [name for name, (verdict, _) in found(results).items() if verdict == "damaged"] == [
        damaged.relative_to(results).as_posix()
    ]


def flip_a_feature(store: Path) -> None:
    shard = store / "features" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)


def cut_a_shard(store: Path) -> None:
    shard = store / "features" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-2])


def lose_a_shard(store: Path) -> None:
    (store / "features" / "c" / "0" / "0").unlink()


def move_a_tile(store: Path) -> None:
    coords = zarr.open_array(store / "coords", mode="r+")
    coords[3, 0] = coords[3, 0] + 1


def other_tiles(store: Path) -> None:
    zarr.open_array(store / "valid", mode="r+").resize((9,))


def lose_the_store(store: Path) -> None:
    shutil.rmtree(store)


def break_the_metadata(store: Path) -> None:
    (store / "features" / "zarr.json").write_text("{")


def features_of_something_else(store: Path) -> None:
    zarr.open_group(store, mode="r+").attrs["fingerprint"] = "f" * 64


def break_the_receipt(store: Path) -> None:
    store.with_suffix(".json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_feature, "features/c/0/0 or valid has changed since it was written"),
        (cut_a_shard, "features/c/0/0 has "),
        (lose_a_shard, "features/c/0/0 is missing"),
        (move_a_tile, "coords_digest: the receipt has "),
        (other_tiles, "coords 110, valid 9"),
        (lose_the_store, "its store is missing"),
        (break_the_metadata, "no readable array 'features'"),
        (features_of_something_else, "fingerprint: the receipt has "),
        (break_the_receipt, "is no readable receipt"),
    ],
)
def test_only_damaged_stores_have_faults_and_each_is_named(results: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(results / "features" / "tiny" / "s.zarr")
    verdicts = found(results)
    verdict, faults = verdicts.pop("features/tiny/s.json")
    assert verdict == "damaged" and any(said in fault for fault in faults), faults
    assert {verdict for verdict, _ in verdicts.values()} == {"sound"}


def test_tiles_that_are_not_those_of_their_receipt_are_found(results: Path) -> None:
    move_a_tile(results / "tiles" / "default" / "s.zarr")
    verdict, (fault,) = found(results)["tiles/default/s.json"]
    assert verdict == "damaged" and "are not those of the receipt" in fault


def test_a_thumbnail_with_a_byte_that_is_another_is_found(results: Path) -> None:
    chunk = results / "tiles" / "default" / "s.zarr" / "thumbnail" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    verdict, faults = found(results)["tiles/default/s.json"]
    assert verdict == "damaged" and "'thumbnail' cannot be read" in faults[0]


def test_features_that_are_no_numbers_are_found(tmp_path: Path) -> None:
    path = tmp_path / "features" / "tiny" / "s.zarr"
    with feature_store(path) as store:
        store.begin(6)
        write_all(store, shards=1)
        bad = np.zeros((2048, 6), np.float16)
        bad[5, 2] = np.nan
        store.append_shard(bad, np.ones(2048, bool))
        write_all(store, shards=1)
        about = {"dim": 6, "n_corrupt": int((~store.valid()).sum()), "digest": store.digest()}
    about |= {"status": "ok", "fingerprint": fingerprint({"content": "a"}), "coords_digest": array_digest(COORDS)}
    write_receipt(path.with_suffix(".json"), about)
    verdict, (fault,) = found(tmp_path)["features/tiny/s.json"]
    assert verdict == "damaged" and fault == "features/c/1/0: the features of tile 2053 are not finite"


def test_a_store_to_be_resumed_is_not_damaged(tmp_path: Path) -> None:
    with feature_store(tmp_path / "features" / "tiny" / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
    assert found(tmp_path) == {"features/tiny/s.json": ("unfinished", ("2 shards are not yet written",))}
    assert CliRunner().invoke(app, ["verify", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize(
    ("status", "verdict", "faults"),
    [
        ("ok", "damaged", ("2 shards are missing, although the receipt says that all are written",)),
        ("failed", "sound", ()),
    ],
)
def test_the_receipt_decides_whether_a_partial_store_is_damaged(
    tmp_path: Path, status: str, verdict: str, faults: tuple[str, ...]
) -> None:
    """No run goes on with a slide that has its receipt."""
    with feature_store(tmp_path / "features" / "tiny" / "s.zarr") as store:
        store.begin(6)
        write_all(store, shards=1)
    write_receipt(tmp_path / "features" / "tiny" / "s.json", {"slide_id": "s", "status": status})
    assert found(tmp_path) == {"features/tiny/s.json": (verdict, faults)}


def test_the_command_removes_damaged_stores_on_request(results: Path) -> None:
    cut_a_shard(results / "features" / "tiny" / "s.zarr")
    before = tree(results)
    told = CliRunner().invoke(app, ["verify", str(results)])
    assert told.exit_code == 1 and tree(results) == before
    assert "s.json: features/c/0/0 has" in told.stdout and "4 stores and receipts" in told.stdout and "1 damaged" in told.stdout
    assert CliRunner().invoke(app, ["verify", str(results), "--discard"]).exit_code == 1
    gone = {path for path in before if path.startswith("features/tiny/s.")}
    assert tree(results) == {path: content for path, content in before.items() if path not in gone}
    assert CliRunner().invoke(app, ["verify", str(results)]).exit_code == 0


def test_a_receipt_of_an_earlier_version_has_no_digest(results: Path) -> None:
    receipt = results / "features" / "tiny" / "s.json"
    content = json.loads(receipt.read_text())
    del content["digest"]
    receipt.write_text(json.dumps(content))
    verdict, (fault,) = found(results)["features/tiny/s.json"]
    assert verdict == "damaged" and fault.startswith("digest: the receipt has None")


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="expected a results folder"):
        list(verify(tmp_path))


def test_a_removal_that_is_killed_leaves_no_half_of_a_store_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attributes would go on saying that it is whole."""
    (tmp_path / "s.zarr" / "features").mkdir(parents=True)
    (tmp_path / "s.zarr" / "zarr.json").touch()

    def killed(path: Path) -> None:
        (path / "features").rmdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        remove_store(tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    remove_store(tmp_path / "s.zarr")
    assert not list(tmp_path.iterdir())
