"""Small real files; asymmetric on purpose, so that swapped axes are noticed."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from filelock import FileLock
from hypothesis import settings

GLASS = (243, 243, 243)
TISSUE = (205, 140, 180)
LESION = (110, 60, 140)
SHARED_SLIDES = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides"

settings.register_profile("patient", deadline=None)  # other processes may slow the machine down
settings.load_profile("patient")


def write_aperio(path: Path, image: np.ndarray, *, mpp: float = 0.5, levels: tuple[int, ...] = (1, 4)) -> Path:
    """Write a tiled JPEG pyramid as an Aperio scanner does; sides of levels are rounded down."""
    height, width = image.shape[:2]
    text = f"Aperio Image Library v12\r\n{width}x{height} [0,0 {width}x{height}] (128x128) JPEG/RGB Q=90|AppMag = 20|MPP = {mpp}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tif:
        for number, step in enumerate(levels):
            level = image[: height // step * step, : width // step * step].reshape(height // step, step, width // step, step, 3)
            jpeg = {"photometric": "rgb", "compression": "jpeg", "description": text, "metadata": None}
            pixels = np.rint(level.mean(axis=(1, 3))).astype(np.uint8)
            tif.write(pixels, tile=(128, 128), compressionargs={"level": 90}, **jpeg)
            if number == 0:  # the second image of an Aperio file is a thumbnail in strips
                tif.write(image[::8, ::8].copy(), rowsperstrip=16, compressionargs={"level": 90}, **jpeg)
    return path


def tissue_image(width: int, height: int, *, seed: int = 0, lesion: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Return an image of noisy tissue in an off-centre rectangle on glass; `lesion` is (left, top, right, bottom), pixels."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), GLASS, np.int16)
    left, top, right, bottom = tissue_box(width, height)
    image[top:bottom, left:right] = TISSUE
    if lesion is not None:
        image[lesion[1] : lesion[3], lesion[0] : lesion[2]] = LESION
    inside = image[top:bottom, left:right]
    inside += rng.integers(-40, 40, inside.shape, dtype=np.int16)
    return np.clip(image, 0, 255).astype(np.uint8)


def tissue_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the rectangle (left, top, right, bottom) of the tissue in `tissue_image`: nearer to the right and to the top."""
    return round(0.4 * width), round(0.1 * height), round(0.95 * width), round(0.8 * height)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment after each test: commands called in this process set variables."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Aperio, 640×448 at 0.5 µm, levels 1 and 4; tissue from (256, 45) to (608, 358)."""
    return write_aperio(tmp_path / "slide.svs", tissue_image(640, 448))


def write_cohort(folder: Path, slides: list[dict[str, str]]) -> Path:
    """Write a cohort sheet with all columns that occur in the rows."""
    columns = list(dict.fromkeys(name for row in slides for name in row))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(slides)
    return folder / "cohort.csv"


def write_geojson(path: Path, box: tuple[int, int, int, int]) -> Path:
    """Write one rectangle (left, top, right, bottom), level-0 pixels, as GeoJSON."""
    left, top, right, bottom = box
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


@pytest.fixture
def shared_slides() -> Path:
    """Folder of real slides next to the project; skips the test if it is missing."""
    if not SHARED_SLIDES.is_dir():
        pytest.skip(f"no real slides in {SHARED_SLIDES}")
    return SHARED_SLIDES


def synthetic_bags(n: int, *, seed: int = 0) -> list:
    """Return labelled bags of 8 to 29 instances × 12 features; in positive ones, two instances have a higher feature 0."""
    from wsi_mil.bags import LabelledBag
    from wsi_mil.records import Bag

    rng = np.random.default_rng(seed)
    bags = []
    for number in range(n):
        features = rng.random((int(rng.integers(8, 30)), 12)).astype(np.float16)
        label = number % 2
        features[:2, 0] += 4 * label
        coords = np.arange(2 * len(features)).reshape(-1, 2)
        bags.append(LabelledBag(Bag(f"s{number:02d}", features, coords), label))
    return bags


@pytest.fixture
def random_bags() -> Callable[..., list]:
    """Function `synthetic_bags`."""
    return synthetic_bags


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Folder with features (`f`) and models of three folds (`m`) of 24 slides, to be copied, and their splits."""
    from tests.train.cohort import CPU, SETTINGS, TASK, splits_of, write_features
    from wsi_mil.train import Fold, train_fold

    folder = tmp_path_factory.mktemp("trained")
    bags = synthetic_bags(26)
    write_features(folder / "f", bags)
    splits = splits_of(bags[:24])
    for fold in range(3):
        train_fold(Fold(splits, fold, folder / "f", TASK), SETTINGS, folder / "m" / f"fold-{fold}", CPU)
    return folder, splits


@pytest.fixture
def trained(trained_once: tuple, tmp_path: Path) -> tuple:
    """Splits, ensemble and sheet of three trained folds; the sheet also has new slides of a known and of a new patient."""
    from tests.train.cohort import CPU, TASK
    from wsi_mil.ensemble import Ensemble
    from wsi_mil.records import SlideRow

    folder, splits = trained_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    rows = [SlideRow(s, Path("x"), splits.labels[s], splits.patients[s]) for s in splits.patients]
    rows += [SlideRow("s24", Path("x"), "", splits.patients["s00"]), SlideRow("s25", Path("x"), "", "nobody")]
    return splits, Ensemble(tmp_path / "m", splits, TASK, CPU), rows


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str, command: Path) -> Path:
    """Results of a finished run with a job for each slide, to be copied; created by the first test process that needs them."""
    expected = {"tile": 10, "extract": 10, "explain": 8, "heatmap": 8}
    return _finished(_shared_folder(tmp_path_factory, worker_id) / "finished", expected, command)


@pytest.fixture(scope="session")
def finished_jobs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """As `finished`, with two jobs for all slides, and by the installed command."""
    from tests.dag import INSTALLED

    expected = {"tile": 2, "extract": 2, "explain": 2, "heatmap": 2}
    return _finished(_shared_folder(tmp_path_factory, worker_id) / "finished-jobs", expected, INSTALLED, slides_per_job="auto")


def _shared_folder(factory: pytest.TempPathFactory, worker_id: str) -> Path:
    base = factory.getbasetemp()
    return base if worker_id == "master" else base.parent


def _finished(folder: Path, of_slides: dict[str, int], command: Path, **settings: object) -> Path:
    from tests.dag import Run, make_cohort

    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "calls.txt").exists():
            (folder / "co hort").mkdir(parents=True)
            make_cohort(folder / "co hort")
            run = Run(folder, command)
            run.config(**settings)
            expected = {"cohort": 1, "split": 1, "train": 2, "predict": 1, "explain-validation": 1, "trust": 1, "evaluate": 1}
            assert run.snakemake() == {**of_slides, **expected, "statistics": 1, "report": 1}
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel."""
    from tests.wheels import build_wheel

    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel."""
    from tests.wheels import create_environment, install

    bin_folder = create_environment(tmp_path_factory.mktemp("environment"))
    install(wheel, bin_folder)
    return bin_folder


@pytest.fixture(scope="session")
def command() -> Iterator[Path]:
    """Fast `wsi-mil`, by which most runs are made; `finished_jobs` is made with the installed command."""
    from tests.dag import INSTALLED
    from tests.forks import forking_command

    if sys.platform == "linux":
        with forking_command() as fast_command:
            yield fast_command
    else:  # forking a process with these imports is safe on Linux only
        yield INSTALLED
