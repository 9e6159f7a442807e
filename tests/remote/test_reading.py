import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image, write_aperio
from tests.servers import Files, free_port
from wsi_mil.errors import MissingFileError, SlideAccessError, SlideFormatError, SlideReadError, UnreachableError
from wsi_mil.slides import is_same_slide, open_slide, remote_object, slide_hash
from wsi_mil.slides.remote import BLOCK, RemoteFile

pytestmark = pytest.mark.usefixtures("remote")
REGION = ((250, 40), (64, 48), 1.0)


def test_a_slide_on_a_web_server_has_the_pixels_and_the_hash_of_the_file(served_slide: Path, files: Files) -> None:
    with open_slide(f"{files.url}/slide.svs") as remote, open_slide(served_slide, "tiffslide") as local:
        assert np.array_equal(remote.read_region(*REGION), local.read_region(*REGION))
        assert (remote.mpp, remote.dimensions) == (local.mpp, local.dimensions)
    assert slide_hash(f"{files.url}/slide.svs") == slide_hash(served_slide)


def test_a_slide_on_s3_has_the_pixels_and_the_hash_of_the_file(slide: Path, bucket: Callable[[str, bytes], str]) -> None:
    url = bucket("deep/it's ü #1.svs".replace("#", ""), slide.read_bytes())
    with open_slide(url) as remote, open_slide(slide, "tiffslide") as local:
        assert np.array_equal(remote.read_region(*REGION), local.read_region(*REGION))
    assert slide_hash(url) == slide_hash(slide)


def test_reading_in_place_leaves_most_of_a_large_slide_where_it_is(large_slide: Path, files: Files) -> None:
    with open_slide(f"{files.url}/large.svs") as remote:
        remote.read_region((2400, 800), (224, 224), 0.5)
    assert files.sent["large.svs"] < large_slide.stat().st_size / 2


def test_a_file_is_read_anywhere_as_its_bytes_are_and_no_byte_twice(files: Files) -> None:
    content = np.random.default_rng(0).bytes(3 * BLOCK + 1000)
    (files.folder / "x.bin").write_bytes(content)
    with RemoteFile(f"{files.url}/x.bin") as remote:
        for start, size in ((BLOCK - 3, 7), (0, 10), (3 * BLOCK + 990, 100), (2 * BLOCK, BLOCK), (0, len(content))):
            remote.seek(start)
            assert remote.read(size) == content[start : start + size]
        assert remote.seek(-5, 2) == len(content) - 5 and remote.read() == content[-5:] and remote.read(1) == b""
        assert remote.bytes_received == len(content)


@pytest.mark.parametrize(("answer", "kind"), [(404, SlideAccessError), (403, SlideAccessError), (410, SlideAccessError)])
def test_missing_and_forbidden_files_are_faults_of_the_data_at_once(
    files: Files, served_slide: Path, answer: int, kind: type[Exception]
) -> None:
    files.answers["slide.svs"] = [answer]
    with pytest.raises(kind, match=rf"slide\.svs: .*\({answer}\).*`path` column"):
        open_slide(f"{files.url}/slide.svs")
    assert files.requests.total() == 2, "HEAD and GET, and no second attempt"


@pytest.mark.parametrize("answer", [500, 503, 429, 0])
def test_a_server_in_trouble_is_a_fault_of_the_network_after_a_second_attempt(
    files: Files, served_slide: Path, answer: int, remote: Callable
) -> None:
    files.silence_s = 600.0
    remote(timeout_s=60 if answer else 1.5)
    files.answers["slide.svs"] = [answer]
    with pytest.raises(UnreachableError, match="its server"):
        remote_object(f"{files.url}/slide.svs")
    assert files.requests["slide.svs", "GET"] == 2


def test_a_server_that_is_in_trouble_for_a_moment_is_not_noticed(files: Files, served_slide: Path) -> None:
    files.answers["slide.svs"] = [503, 503, 200, 200, 503, 200]
    with open_slide(f"{files.url}/slide.svs") as remote, open_slide(served_slide, "tiffslide") as local:
        assert np.array_equal(remote.read_region(*REGION), local.read_region(*REGION))
    assert files.answers["slide.svs"] == [200]


def test_a_missing_server_and_missing_credentials_are_faults_of_the_network(files: Files, served_slide: Path) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        remote_object(f"http://127.0.0.1:{free_port()}/a.svs")
    files.answers["slide.svs"] = [401]
    with pytest.raises(UnreachableError, match="credentials"):
        remote_object(f"{files.url}/slide.svs")


@pytest.mark.usefixtures("large_slide")
def test_pixels_that_the_network_swallows_are_never_taken_for_a_damaged_slide(files: Files) -> None:
    with open_slide(f"{files.url}/large.svs") as remote:
        for answer in (503, 404):
            files.answers["large.svs"] = [answer]
            with pytest.raises(UnreachableError, match=str(answer)) as caught:
                remote.read_region((2400, 1000), (224, 224), 0.5)
            assert not isinstance(caught.value, SlideReadError)
        files.answers.clear()
        assert remote.read_region((2400, 1000), (224, 224), 0.5).std() > 10


def test_a_slide_that_changes_while_it_is_read_is_noticed(large_slide: Path, files: Files) -> None:
    with open_slide(f"{files.url}/large.svs") as remote:
        large_slide.write_bytes(large_slide.read_bytes() + b"more")
        with pytest.raises(UnreachableError, match="changed while it was read"):
            remote.read_region((2400, 1000), (224, 224), 0.5)


def test_an_object_of_s3_that_changes_while_it_is_read_is_noticed(bucket: Callable[[str, bytes], str]) -> None:
    rng = np.random.default_rng(0)
    with RemoteFile(bucket("x.bin", rng.bytes(2 * BLOCK))) as remote:
        remote.read(10)
        bucket("x.bin", rng.bytes(2 * BLOCK))
        remote.seek(BLOCK)
        with pytest.raises(UnreachableError, match="changed while it was read"):
            remote.read(10)


def test_a_missing_s3_object_is_a_fault_of_the_data_and_no_answer_one_of_the_network(
    bucket: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bucket("a.svs", b"x")
    for missing in ("s3://slides/b.svs", "s3://nowhere/a.svs"):
        with pytest.raises(SlideAccessError, match="does not have it"):
            remote_object(missing)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreachableError, match="does not answer"):
        remote_object(url)


def test_rejected_s3_credentials_are_no_fault_of_the_slide(
    moto: str, bucket: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs
    from moto.core import set_initial_no_auth_action_count

    url = bucket("a.svs", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-word")
    s3fs.S3FileSystem.clear_instance_cache()

    @set_initial_no_auth_action_count(0)
    def asked() -> None:
        remote_object(url)

    with pytest.raises(UnreachableError, match="credentials") as caught:
        asked()
    assert "another-secret-word" not in str(caught.value)


def test_the_version_is_that_of_the_content_and_without_tags_that_of_the_time(files: Files, served_slide: Path) -> None:
    url = f"{files.url}/slide.svs"
    first = remote_object(url).version
    os.utime(served_slide, (1e9, 1e9))
    assert remote_object(url).version == first and first.startswith(f"{served_slide.stat().st_size} ")
    files.has_tags = False
    untagged = remote_object(url).version
    os.utime(served_slide, (2e9, 2e9))
    assert remote_object(url).version != untagged and "2033" in remote_object(url).version
    files.has_tags = True
    write_aperio(served_slide, tissue_image(640, 448, seed=1))
    assert remote_object(url).version != first


def test_a_slide_of_the_same_version_is_not_read_again_to_know_it(files: Files, served_slide: Path) -> None:
    url = f"{files.url}/slide.svs"
    tiled = {"slide_hash": slide_hash(url), "remote": remote_object(url).version}
    files.sent.clear()
    assert is_same_slide(url, tiled) and files.sent.total() == 0
    assert is_same_slide(url, {**tiled, "remote": "another"}), "uploaded again, with the same bytes"
    write_aperio(served_slide, tissue_image(640, 448, seed=1))
    assert not is_same_slide(url, tiled)
    served_slide.unlink()
    with pytest.raises(MissingFileError, match="404"):
        is_same_slide(url, tiled)


def test_a_password_in_an_address_is_neither_used_nor_repeated(files: Files) -> None:
    address = files.url.removeprefix("http://")
    for url in (f"http://me:geheim@{address}/slide.svs", f"{files.url}/slide.svs?token=geheim"):
        for call in (open_slide, remote_object, slide_hash):
            with pytest.raises(SlideFormatError) as caught:
                call(url)
            assert "geheim" not in str(caught.value)
    assert not files.requests


def test_a_server_that_sends_whole_files_only_is_read_by_a_copy(files: Files, served_slide: Path, remote: Callable) -> None:
    files.has_ranges = False
    with pytest.raises(SlideFormatError, match=r"set remote\.staging to scratch"):
        open_slide(f"{files.url}/slide.svs")
    remote(staging="scratch")
    with open_slide(f"{files.url}/slide.svs") as copied, open_slide(served_slide) as local:
        assert np.array_equal(copied.read_region(*REGION), local.read_region(*REGION))
