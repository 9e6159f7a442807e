import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import tissue_image, write_aperio
from tests.slides.test_slides import damage_tile
from tests.test_store import tree
from wsi_mil.cli import app
from wsi_mil.config import Encoder, TileSettings, Tiling, Tissue
from wsi_mil.errors import ConfigError, MissingFileError, NotFiniteError, StoreMismatchError
from wsi_mil.extract import extract_slide
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow, Status
from wsi_mil.store import read_bag, read_grid
from wsi_mil.tile import tile_slide


@dataclass
class Done:
    """Features that are there already."""

    features: np.ndarray

    def result(self) -> np.ndarray:
        return self.features

    def seconds(self) -> float:
        return 0.0


class MeanColour:
    """An encoder small enough to check by hand: the mean colour of a tile, and its mean along x and along y."""

    dim = 5

    def __init__(self) -> None:
        self.n_tiles = 0

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, 77, np.uint8)

    def begin(self, tiles: np.ndarray) -> "Done":
        return Done(self.encode(tiles))

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        self.n_tiles += len(tiles)
        ramp = np.linspace(0, 1, tiles.shape[1])
        grey = tiles.mean(axis=3)
        along = [(grey * ramp[None, None, :]).mean((1, 2)), (grey * ramp[None, :, None]).mean((1, 2))]
        return np.column_stack([tiles.mean(axis=(1, 2)), *along]).astype(np.float16)


SETTINGS = TileSettings(tiling=Tiling(tile_px=32, mpp=0.5), tissue=Tissue(mpp=2.0, min_area_um2=500, max_hole_um2=500))


@pytest.fixture
def tiles(slide: Path, tmp_path: Path) -> Path:
    receipt = tmp_path / "tiles" / "s.json"
    tile_slide(SlideRow("s", slide), SETTINGS, receipt)
    return receipt


@pytest.fixture
def extract(slide: Path, tiles: Path, tmp_path: Path) -> Callable[..., tuple[Status, int]]:
    """Runs the stage; returns its status and how many tiles were encoded."""

    def run(settings: Encoder | None = None, dtype: str = "float32", threads: int = 2) -> tuple[Status, int]:
        encoder = MeanColour()
        receipt = tmp_path / "features" / "s.json"
        row = SlideRow("s", slide)
        status = extract_slide(
            tiles, row, settings or Encoder(batch_size=16), receipt, dtype=dtype, encoder=lambda: encoder, threads=threads
        )
        return status, encoder.n_tiles

    return run


def test_every_tile_is_encoded_from_its_own_place(extract, slide: Path, tiles: Path, tmp_path: Path) -> None:
    from wsi_mil.slides import open_slide

    assert extract()[0] is Status.OK
    bag, grid = read_bag(tmp_path / "features" / "s.json"), read_grid(store_path(tiles))
    assert np.array_equal(bag.coords, grid.coords)
    with open_slide(slide) as opened:
        cut = np.stack([opened.read_region((int(x), int(y)), (32, 32), 0.5) for x, y in grid.coords])
    assert np.array_equal(bag.features, MeanColour().encode(cut))


def test_a_second_run_encodes_nothing_and_rewrites_the_same_receipt(extract, slide: Path, tmp_path: Path) -> None:
    assert extract()[1] > 50
    before = tree(tmp_path / "features")
    slide.touch()
    assert extract()[1] == 0
    assert tree(tmp_path / "features") == before


def other_mpp(slide: Path, tiles: Path) -> None:
    tile_slide(SlideRow("s", slide), SETTINGS.model_copy(update={"tiling": Tiling(tile_px=32, mpp=0.6)}), tiles)


def other_file(slide: Path, tiles: Path) -> None:
    write_aperio(slide, tissue_image(640, 448, seed=5))
    tile_slide(SlideRow("s", slide), SETTINGS, tiles)


def nothing(slide: Path, tiles: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("how", "change"),
    [
        ({"dtype": "bfloat16"}, nothing),
        ({"settings": Encoder(encoder="resnet18", batch_size=16)}, nothing),
        ({"settings": Encoder(weights="random", batch_size=16)}, nothing),
        ({}, other_mpp),
        ({}, other_file),
    ],
)
def test_a_change_of_what_determines_the_features_encodes_again(
    extract, slide, tiles, tmp_path: Path, how: dict, change: Callable
) -> None:
    extract()
    first = read_receipt(tmp_path / "features" / "s.json")
    change(slide, tiles)
    assert extract(**how)[1] > 50
    second = read_receipt(tmp_path / "features" / "s.json")
    assert second["fingerprint"] != first["fingerprint"]


def test_another_batch_size_encodes_nothing_again(extract, tmp_path: Path) -> None:
    extract()
    before = tree(tmp_path / "features")
    assert extract(settings=Encoder(batch_size=7)) == (Status.OK, 0) and tree(tmp_path / "features") == before


def test_features_that_are_not_finite_are_an_error_with_slide_and_tile(slide: Path, tiles: Path, tmp_path: Path) -> None:
    class Overflows(MeanColour):
        def encode(self, tiles: np.ndarray) -> np.ndarray:
            features = super().encode(tiles)
            features[3, 1] = np.inf if self.n_tiles == 32 else features[3, 1]
            return features

    x, y = read_grid(store_path(tiles)).coords[19]
    with pytest.raises(NotFiniteError, match=rf"^s: the features of tile 19 at \({x}, {y}\) are not finite"):
        extract_slide(
            tiles,
            SlideRow("s", slide),
            Encoder(batch_size=16),
            tmp_path / "f" / "s.json",
            dtype="float32",
            encoder=Overflows,
            threads=1,
        )
    assert not (tmp_path / "f" / "s.json").exists()


def test_the_progress_shows_how_long_the_encoder_waited(extract, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    extract()
    (line,) = [r.getMessage() for r in caplog.records if "extract s:" in r.getMessage()]
    assert re.search(r"\d+ tiles in .* tiles/s, the encoder waited 100% of the time", line)


def test_threads_change_nothing(extract, tmp_path: Path) -> None:
    extract(threads=1)
    one = tree(tmp_path / "features")
    for file in (tmp_path / "features").rglob("zarr.json"):
        file.unlink()
    assert extract(threads=4)[1] > 50
    assert tree(tmp_path / "features") == one


def test_a_slide_that_changed_after_tiling_is_an_error(extract, slide: Path) -> None:
    write_aperio(slide, tissue_image(640, 448, seed=5))
    with pytest.raises(StoreMismatchError, match="changed since it was tiled"):
        extract()


def test_a_missing_slide_matters_only_while_tiles_are_left_to_encode(extract, slide: Path) -> None:
    extract()
    slide.unlink()
    assert extract() == (Status.OK, 0)
    with pytest.raises(MissingFileError):
        extract(dtype="bfloat16")


def test_corrupt_tiles_are_left_out_and_too_many_fail_the_slide(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "c.svs", tissue_image(640, 448), levels=(1, 4))
    receipt, features = tmp_path / "t" / "c.json", tmp_path / "f" / "c.json"
    tile_slide(SlideRow("c", path), SETTINGS, receipt)
    n = read_receipt(receipt)["n_tiles"]
    damage_tile(path, 5 + 3)  # the second row's fourth 128-px tile: (384, 128)
    receipt.write_text(receipt.read_text().replace(read_receipt(receipt)["slide_hash"], _hash(path)))
    for max_corrupt, status in ((0.2, Status.OK), (0.02, Status.FAILED)):
        settings = Encoder(batch_size=16, max_corrupt=max_corrupt)
        found = extract_slide(receipt, SlideRow("c", path), settings, features, dtype="float32", encoder=MeanColour, threads=2)
        assert found is status
        assert read_receipt(features)["n_corrupt"] == 16 and read_receipt(features)["n_tiles"] == n - 16
    assert "16 of" in read_receipt(features)["reason"]
    bag = read_bag(features)
    inside = ((bag.coords >= (384, 128)) & (bag.coords < (512, 256))).all(axis=1)
    assert len(bag.coords) == n - 16 and not inside.any()


def _hash(path: Path) -> str:
    from wsi_mil.slides import slide_hash

    return slide_hash(path)


def test_a_slide_without_tissue_keeps_its_status(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    tile_slide(SlideRow("g", path), SETTINGS, tmp_path / "t" / "g.json")

    def never() -> MeanColour:
        raise AssertionError("an encoder was made for a slide without tissue")

    receipt = tmp_path / "f" / "g.json"
    extract_slide(tmp_path / "t" / "g.json", SlideRow("g", path), Encoder(), receipt, dtype="float32", encoder=never, threads=1)
    assert read_receipt(receipt)["status"] == "empty" and read_receipt(receipt)["reason"] == "no tissue found"


def test_reading_always_ends_before_the_slide_is_closed(slide: Path, tiles: Path, tmp_path: Path) -> None:
    class FullDisk(MeanColour):
        def begin(self, tiles: np.ndarray) -> Done:
            raise OSError("no room")

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="no room") as caught:
        extract_slide(
            tiles,
            SlideRow("s", slide),
            Encoder(batch_size=4),
            tmp_path / "f" / "s.json",
            dtype="float32",
            encoder=FullDisk,
            threads=3,
        )
    assert caught.tb and not [t.name for t in set(threading.enumerate()) - before if t.name.startswith("ThreadPool")]


def test_a_replaced_store_keeps_no_old_receipt(extract, slide: Path, tiles: Path, tmp_path: Path) -> None:
    class Killed(MeanColour):
        def begin(self, tiles: np.ndarray) -> Done:
            raise KeyboardInterrupt

    extract()
    receipt = tmp_path / "features" / "s.json"
    with pytest.raises(KeyboardInterrupt):
        extract_slide(tiles, SlideRow("s", slide), Encoder(), receipt, dtype="bfloat16", encoder=Killed, threads=1)
    assert not receipt.exists() and store_path(receipt).exists()


def test_a_device_is_never_waited_for_with_the_lock_of_a_store_in_hand(slide: Path, tiles: Path, tmp_path: Path) -> None:
    """Or a process that holds the device, and comes to this slide, waits for ever."""
    receipt, other = tmp_path / "features" / "s.json", []

    def run(encoder: Callable) -> Status:
        row = SlideRow("s", slide)
        return extract_slide(tiles, row, Encoder(batch_size=16), receipt, dtype="float32", encoder=encoder, threads=1)

    def waits_for_its_device() -> MeanColour:
        if not other:
            other.append(threading.Thread(target=run, args=(MeanColour,), daemon=True))
            other[0].start()
            other[0].join(timeout=300)
            assert not other[0].is_alive(), "the process with the device waits for the store"
        return MeanColour()

    assert run(waits_for_its_device) is Status.OK


@pytest.mark.parametrize("part", ["features/c/0/0", "features/zarr.json", "features", "valid/c", "coords/c/0/0"])
def test_a_store_that_lost_files_is_written_anew(extract, tmp_path: Path, part: str) -> None:
    """A copy that was broken off, say; its attributes, which say that it is whole, are there."""
    n = extract()[1]
    whole = tree(tmp_path / "features")
    lost = tmp_path / "features" / "s.zarr" / part
    (tmp_path / "features" / "s.json").unlink()
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert extract() == (Status.OK, n) and tree(tmp_path / "features") == whole


def test_a_fault_of_one_slide_leaves_the_others_their_features(slide: Path, tiles: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "tiles" / "s.json", tmp_path / "tiles" / "gone.json")
    shutil.copytree(tmp_path / "tiles" / "s.zarr", tmp_path / "tiles" / "gone.zarr")
    rows = {"gone": tmp_path / "gone.svs", "s": slide, "lost": slide}
    options = [f"--row={json.dumps({'slide_id': name, 'path': str(path)})}" for name, path in rows.items()]
    options += [f"--tiles={tmp_path / 'tiles'}", f"--features={tmp_path / 'features'}", f"--record={tmp_path / 'record.json'}"]
    settings = json.dumps({"encoder": "test_vit", "weights": "random", "dtype": "float32"})
    done = CliRunner().invoke(app, ["extract", *options, f"--settings={settings}", "--device=cpu"])
    assert isinstance(done.exception, ConfigError)
    missing, lost = done.exception.faults
    assert missing.startswith(f"{tmp_path / 'gone.svs'}: no such file") and str(tmp_path / "tiles" / "lost.json") in lost
    assert [p.name for p in (tmp_path / "features").glob("[!.]*.json")] == ["s.json"]
    assert not (tmp_path / "record.json").exists()
    assert read_receipt(tmp_path / "features" / "s.json")["status"] == "ok"
