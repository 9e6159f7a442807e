import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import tissue_image
from tests.servers import Files
from wsi_mil.cli import app
from wsi_mil.errors import ConfigError, SlideFormatError, UnreachableError
from wsi_mil.slides import open_slide, remove_copies
from wsi_mil.slides.staging import local_copy, scratch_folder

MB = 1_000_000


def copies() -> list[Path]:
    return sorted(path for path in scratch_folder().iterdir() if not path.name.startswith("."))


def serve(files: Files, name: str, size: int) -> str:
    (files.folder / name).write_bytes(np.random.default_rng(len(name)).bytes(size))
    return f"{files.url}/{name}"


def test_a_copy_is_opened_by_the_fastest_reader_and_called_by_its_address(
    files: Files, served_slide: Path, remote: Callable
) -> None:
    remote(staging="scratch")
    url = f"{files.url}/slide.svs"
    with open_slide(url) as copied, open_slide(served_slide) as local:
        assert (copied.reader, copied.path, copied.version) == ("jpeg_tiff", url, copied.version) and copied.version
        assert np.array_equal(copied.read_region((250, 40), (64, 48), 1.0), local.read_region((250, 40), (64, 48), 1.0))
    with open_slide(url, "openslide") as again:
        assert again.reader == "openslide"
    assert files.sent["slide.svs"] == served_slide.stat().st_size, "one copy for both"
    assert (scratch_folder().stat().st_mode & 0o777, copies()[0].stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_slide_sent_to_another_node_has_a_copy_there(
    files: Files, served_slide: Path, remote: Callable, tmp_path: Path
) -> None:
    remote(staging="scratch")
    with open_slide(f"{files.url}/slide.svs", mpp=0.3) as here:
        remote(staging="scratch", scratch=str(tmp_path / "there"))
        with pickle.loads(pickle.dumps(here)) as there:
            assert there.file == copies()[0] and there.file != here.file
            assert (there.path, there.reader, there.version, there.mpp) == (here.path, here.reader, here.version, here.mpp)
            assert np.array_equal(there.read_region((9, 40), (64, 48), 1.0), here.read_region((9, 40), (64, 48), 1.0))


def test_a_copy_lets_readers_at_a_slide_that_cannot_be_read_in_place(files: Files, remote: Callable) -> None:
    Image.fromarray(tissue_image(320, 200)).save(files.folder / "a.png")
    url = f"{files.url}/a.png"
    with pytest.raises(SlideFormatError, match=r"set remote\.staging to scratch"):
        open_slide(url, mpp=0.5)
    remote(staging="scratch")
    for in_place in (False, True):
        with open_slide(url, mpp=0.5, in_place=in_place) as copied:
            assert copied.reader == "image" and copied.dimensions == (320, 200)
    (files.folder / "text.svs").write_text("no slide")
    with pytest.raises(SlideFormatError) as caught:
        open_slide(f"{files.url}/text.svs")
    assert f"{files.url}/text.svs" in str(caught.value) and "scratch" not in str(caught.value).split("(", 1)[1]
    assert remove_copies() > 0 and not copies(), "a slide that cannot be opened holds no copy"


def test_the_longest_unused_copy_makes_room_and_one_in_use_never(files: Files, remote: Callable) -> None:
    remote(scratch_gb=0.0025)
    a, b, c = (serve(files, name, MB) for name in ("a", "bb", "ccc"))
    for url, used in ((a, 2e9), (b, 1e9)):
        with closing(local_copy(url)) as copy:
            os.utime(copy.path, (used, used))
    first = local_copy(a)
    local_copy(c).close()
    assert {path.name.partition("-")[2] for path in copies()} == {first.path.name.partition("-")[2], "ccc"}
    assert sum(path.stat().st_size for path in copies()) <= 2.5 * MB
    assert first.path.read_bytes() == (files.folder / "a").read_bytes()
    second = local_copy(c)
    with pytest.raises(UnreachableError, match=r"raise remote\.scratch_gb"):
        local_copy(b, patience_s=0.3)
    second.close()
    assert local_copy(b, patience_s=0.3).path.read_bytes() == (files.folder / "bb").read_bytes()
    first.close()


def test_the_bound_holds_at_every_moment_with_many_at_work(files: Files, remote: Callable) -> None:
    remote(scratch_gb=0.0021)
    urls = [serve(files, "x" * (1 + n), MB) for n in range(8)]
    most, stop = [0], threading.Event()

    def look() -> None:
        with suppress(FileNotFoundError):  # one was removed while they were counted
            most.append(sum(path.stat().st_size for path in copies()))

    def watch() -> None:
        while not stop.wait(0.002):
            look()

    def use(url: str) -> bool:
        copy = local_copy(url)
        same = copy.path.read_bytes() == (files.folder / url.rpartition("/")[2]).read_bytes()
        copy.close()
        return same

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(use, urls + urls[:4]))
    finally:
        stop.set()
        watching.join()
    look()  # at the last ones, which lie there still
    assert MB <= max(most) <= 2.1 * MB


def test_several_that_want_the_same_slide_fetch_it_once(files: Files, remote: Callable) -> None:
    url = serve(files, "shared", 3 * MB)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(local_copy, [url] * 4))
    assert files.sent["shared"] == 3 * MB and len({copy.path for copy in found}) == 1
    for copy in found:
        copy.close()


def test_a_slide_larger_than_the_limit_is_named_in_the_message(files: Files, remote: Callable) -> None:
    remote(scratch_gb=0.001)
    with pytest.raises(ConfigError, match=r"remote\.scratch_gb: .*alone has 0\.002 GB"):
        local_copy(serve(files, "a", 2 * MB))


def test_a_changed_object_is_copied_again(files: Files, remote: Callable) -> None:
    url = serve(files, "a", MB)
    local_copy(url).close()
    (files.folder / "a").write_bytes(b"other")
    assert local_copy(url).path.read_bytes() == b"other"


def copying(url: str, first: str = "") -> list[str]:
    """The command of a process that copies a slide, after something else."""
    return [sys.executable, "-c", f"{first}\nfrom wsi_mil.slides.staging import local_copy\nlocal_copy({url!r})"]


def test_a_partial_file_of_a_killed_job_is_no_copy_and_takes_no_space(files: Files, remote: Callable) -> None:
    remote(scratch_gb=0.0025, timeout_s=600)
    files.silence_s = 600.0  # the job waits for as long as this test may take
    url = serve(files, "a", 2 * MB)
    files.answers["a"] = [200] * 3 + [0]  # HEAD twice and open, then silence: it hangs in the middle of its copy
    with subprocess.Popen(copying(url), env=dict(os.environ)) as job:
        while not [path for path in copies() if path.suffix == ".part"]:
            assert job.poll() is None
            time.sleep(0.01)
        assert copies()[0].stat().st_size == 2 * MB, "counts from the moment that it has its name"
        job.send_signal(signal.SIGKILL)
    assert copies()[0].stat().st_size == 2 * MB
    files.answers.clear()
    assert local_copy(url).path.read_bytes() == (files.folder / "a").read_bytes()
    assert [path.suffix for path in copies()] == [""]


@pytest.mark.parametrize("call", ["ftruncate", "rename"])
def test_a_part_that_a_kill_left_without_its_size_or_name_does_not_stay(files: Files, remote: Callable, call: str) -> None:
    url = serve(files, "a", MB)
    killed = f"import os, signal\nos.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run(copying(url, killed), env=dict(os.environ)).returncode == -signal.SIGKILL
    assert not copies() and (scratch_folder() / ".new").exists()
    local_copy(url).close()
    assert copies()[0].stat().st_size == MB and not (scratch_folder() / ".new").exists()
    assert subprocess.run(copying(serve(files, "bb", MB), killed), env=dict(os.environ)).returncode == -signal.SIGKILL
    assert remove_copies() == MB and {path.name for path in scratch_folder().iterdir()} <= {".lock"}


def test_a_folder_for_copies_that_others_could_read_is_closed_and_one_that_others_made_is_not_used(
    files: Files, remote: Callable, tmp_path: Path
) -> None:
    url = serve(files, "a", MB)
    scratch_folder().chmod(0o777)
    local_copy(url).close()
    assert scratch_folder().stat().st_mode & 0o777 == 0o700
    remote(scratch=str(tmp_path / "taken"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / f"wsi_mil-slides-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"remote\.scratch: .* is a link, or another user's"):
        local_copy(url)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_copy_that_fails_leaves_nothing(files: Files, remote: Callable) -> None:
    remote(attempts=1)
    url = serve(files, "a", MB)
    files.answers["a"] = [200, 200, 500]
    with pytest.raises(UnreachableError, match="answers 500"):
        local_copy(url)
    assert not copies()


def test_copies_are_removed_but_for_those_in_use(files: Files, remote: Callable) -> None:
    used, unused = (local_copy(serve(files, name, MB)) for name in ("a", "bb"))
    unused.close()
    assert remove_copies() == MB and copies() == [used.path]
    used.close()
    assert remove_copies() == MB and not copies()


def test_the_command_removes_copies_from_where_the_configuration_puts_them(
    files: Files, remote: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, after a killed run, nothing but the configuration says where that is."""
    remote(scratch=str(tmp_path / "own"))
    local_copy(serve(files, "a", MB)).close()
    held = copies()
    monkeypatch.delenv("WSI_MIL_REMOTE")
    (tmp_path / "my.yaml").write_text(f"remote: {{staging: scratch, scratch: '{tmp_path / 'own'}'}}\n")
    done = CliRunner().invoke(app, ["unstage", "--configfile", str(tmp_path / "my.yaml")])
    assert done.exit_code == 0 and f"removed 1.0 MB of copies from {tmp_path / 'own'}" in done.output, done.output
    assert held and not held[0].exists()
