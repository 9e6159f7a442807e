"""The same bytes whoever does the work, also where somebody is killed at it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image, write_aperio
from tests.statistics.conftest import drawn_slides, write_features
from wsi_mil.config import Statistics, TileSettings
from wsi_mil.errors import ClusterError, MissingFileError, SlideReadError, UnreachableError
from wsi_mil.heatmaps import raster
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.runtime import parallel
from wsi_mil.statistics import write_statistics
from wsi_mil.tile import tile_slide

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


class Cluster:
    """A scheduler and two workers, processes of their own without anybody who starts them again."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.file = folder / "scheduler.json"
        self.log = stack.enter_context((folder / "log.txt").open("w"))
        self._stack = stack
        self._start("dask_scheduler", "--scheduler-file", str(self.file), "--no-dashboard", "--port", "0", "--host", "127.0.0.1")
        while not self.file.exists() or not self.file.read_text().strip():
            time.sleep(0.05)
        self.workers = [self.add_worker(), self.add_worker()]
        self.client = stack.enter_context(distributed.Client(scheduler_file=str(self.file), set_as_default=False))
        self.client.wait_for_workers(2, timeout=300)

    def add_worker(self) -> subprocess.Popen:
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1")
        return self._start("dask_worker", "--scheduler-file", str(self.file), *options)

    def finished(self) -> int:
        """Steps that are done, and that some worker holds the result of."""
        return len(self.client.has_what() and [key for held in self.client.has_what().values() for key in held])

    def _start(self, program: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *options]
        process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

        def end() -> None:
            process.kill()
            process.wait()

        self._stack.callback(end)
        return process


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with ExitStack() as stack:
        (tmp_path / "cluster").mkdir()
        found = Cluster(tmp_path / "cluster", stack)
        monkeypatch.setenv(parallel.SCHEDULER_VARIABLE, str(found.file))
        yield found
        parallel._connected(str(found.file), 0).close()


def killed_in_the_middle(cluster: Cluster, work: Callable[[str], object]) -> str:
    """Do the work under a name, and kill a worker of the two when a few steps are done and others are not; the name.

    Where all was done before the kill came, which nobody can rule out, it is done again under another name.
    """
    failed: list[BaseException] = []

    def run(name: str) -> None:
        try:
            work(name)
        except BaseException as error:
            failed.append(error)

    for name in (f"killed-{attempt}" for attempt in range(20)):
        running = threading.Thread(target=run, args=(name,))
        running.start()
        while cluster.finished() < 3 and running.is_alive():
            time.sleep(0.01)
        cluster.workers.pop(0).send_signal(signal.SIGKILL)
        is_in_time = running.is_alive()
        running.join(timeout=600)
        assert not running.is_alive() and not failed, failed
        if is_in_time:
            assert len(cluster.client.scheduler_info(n_workers=-1)["workers"]) == 1
            return name
        cluster.workers.append(cluster.add_worker())
        cluster.client.wait_for_workers(2, timeout=300)
    pytest.fail("it was killed too late every time")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def slow(seconds: float, item: int) -> int:
    time.sleep(seconds)
    return item * item


def test_statistics_are_byte_identical_after_a_worker_was_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = drawn_slides(24, dim=160, largest=3000)
    features = write_features(tmp_path / "features", slides)
    for slide_id in slides:
        write_receipt(features / f"{slide_id}.json", {"slide_id": slide_id, "status": "ok"})

    def write(name: str, threads: int) -> None:
        write_statistics(slides, features, Statistics(components=5), tmp_path / name / "tiny.json", threads=threads)

    killed = killed_in_the_middle(cluster, partial(write, threads=1))
    write("undisturbed", 1)
    monkeypatch.setenv(parallel.SCHEDULER_VARIABLE, "threads")
    write("threads", 3)
    expected = files_of(tmp_path / "threads")
    assert len(expected) > 5 and files_of(tmp_path / killed) == files_of(tmp_path / "undisturbed") == expected


def test_a_fine_mask_is_byte_identical_after_a_worker_was_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_aperio(tmp_path / "slide.svs", tissue_image(2600, 1900), levels=(1, 4))
    tissue = {"mpp": 0.5, "min_area_um2": 20_000}
    settings = TileSettings.model_validate({"tiling": {"tile_px": 64}, "tissue": tissue})
    monkeypatch.setattr("wsi_mil.tile.layout.MEMORY_BYTES", 24 << 20)

    def tile(name: str) -> None:
        assert tile_slide(SlideRow("s", path), settings, tmp_path / name / "s.json", threads=1) == "ok"

    killed = killed_in_the_middle(cluster, tile)
    monkeypatch.setenv(parallel.SCHEDULER_VARIABLE, "threads")
    tile("threads")
    expected = files_of(tmp_path / "threads")
    assert len(expected) > 5 and files_of(tmp_path / killed) == expected


def test_a_pyramid_built_in_bands_on_a_cluster_is_identical(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((601, 1003), np.float32)
    image[100:300, 50:700] = np.nan
    whole = raster.pyramid(image)
    monkeypatch.setattr(raster, "BAND_PX", 50_000)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(raster.pyramid(image), whole, strict=True))
    monkeypatch.setenv(parallel.SCHEDULER_VARIABLE, "threads")
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(raster.pyramid(image), whole, strict=True))


def test_results_come_in_input_order_and_two_jobs_do_not_interfere(cluster: Cluster) -> None:
    assert parallel.parallel_map(partial(slow, 0.0), [3, 1, 2], threads=1) == [9, 1, 4]
    for start in (2, 5):
        steps = {("a", 0): (slow, 0.0, start), ("a", 1): (slow, 0.0, ("a", 0))}
        assert parallel.run_graph(steps, ("a", 1), threads=1) == start**4


def broken(number: int) -> int:
    kinds = (SlideReadError(Path("a.svs"), "is damaged"), UnreachableError("s3://b/a.svs", "is away"))
    raise kinds[number]


def test_an_error_raised_by_a_worker_is_raised_here(cluster: Cluster) -> None:
    for number, kind in enumerate((SlideReadError, UnreachableError)):
        with pytest.raises(kind, match=r"a\.svs: is") as caught:
            parallel.parallel_map(broken, [number], threads=1)
        assert str(caught.value.path).endswith("a.svs")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_work_that_kills_every_worker_raises_a_cluster_error_and_does_not_hang(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        cluster.add_worker()
    with pytest.raises(ClusterError, match="lost its work"):
        parallel.parallel_map(die, [1], threads=1)


@pytest.mark.parametrize(
    ("scheduler", "word"), [("nowhere.json", "no file nowhere.json"), ("tcp://127.0.0.1:9", "no cluster answers")]
)
def test_an_unreachable_cluster_is_reported(scheduler: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CONNECT_S", 1)
    monkeypatch.setenv(parallel.SCHEDULER_VARIABLE, scheduler)
    with pytest.raises(ClusterError, match=word):
        parallel.parallel_map(partial(slow, 0.0), [1], threads=1)


def test_the_local_scheduler_uses_processes_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import json, os\nfrom wsi_mil.runtime.parallel import parallel_map\n"
        "def who(_):\n    return os.getpid()\n"
        "if __name__ == '__main__':\n    print(json.dumps([os.getpid(), parallel_map(who, [1, 2, 3], threads=2)]))\n"
    )
    env = {**os.environ, parallel.SCHEDULER_VARIABLE: "local"}
    done = subprocess.run([sys.executable, "job.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, timeout=600, check=True)
    own, others = json.loads(done.stdout)
    assert own not in others and 1 <= len(set(others)) <= 2


def test_errors_survive_pickling() -> None:
    import pickle

    for error in (MissingFileError(Path("a"), "is gone"), UnreachableError("s3://b/c", "is away")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.path) == (type(error), str(error), error.path)
