"""What each command does with a slide on a server."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.servers import Files, free_port
from tests.targets import block_of
from wsi_mil.check import check
from wsi_mil.cli import app
from wsi_mil.config import TileSettings, Truth
from wsi_mil.doctor import SlideJob, examine, examine_slide
from wsi_mil.errors import UnreachableError
from wsi_mil.heatmaps.gallery import unreadable_reason
from wsi_mil.inspection import inspect_slide
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow, Status
from wsi_mil.store import read_grid
from wsi_mil.tile import tile_slide

pytestmark = pytest.mark.usefixtures("remote")
SETTINGS = TileSettings.model_validate({"tiling": {"tile_px": 64}, "tissue": {"mpp": 4.0, "min_area_um2": 1000}})


def test_tile_comes_to_the_same_tiles_wherever_the_slide_is(
    served_slide: Path, files: Files, bucket: Callable[[str, bytes], str], remote: Callable, tmp_path: Path
) -> None:
    url, s3 = f"{files.url}/slide.svs", bucket("slide.svs", served_slide.read_bytes())
    where = {"local": served_slide, "http": url, "s3": s3, "copy": url}
    receipts, grids = {}, {}
    for name, path in where.items():
        remote(staging="scratch" if name == "copy" else "none")
        assert tile_slide(SlideRow("s", path), SETTINGS, tmp_path / name / "s.json") is Status.OK
        receipts[name] = read_receipt(tmp_path / name / "s.json")
        grids[name] = read_grid(tmp_path / name / "s.zarr").coords
    assert all(np.array_equal(grids["local"], other) for other in grids.values()) and len(grids["local"]) > 20
    same = {(about["slide_hash"], about["coords_digest"], tuple(about["mpp"])) for about in receipts.values()}
    assert len(same) == 1
    assert [receipts[name]["reader"] for name in where] == ["jpeg_tiff", "tiffslide", "tiffslide", "jpeg_tiff"]
    remotes = [receipts[name].pop("remote", "") for name in where]
    assert not remotes[0] and remotes[1] == remotes[3] != "" and remotes[2]
    assert receipts["copy"] == receipts["local"], "nothing says where the copy lay"


@pytest.mark.parametrize("answer", [404, 403])
def test_a_slide_that_is_not_there_gets_a_status_with_its_reason(files: Files, tmp_path: Path, answer: int) -> None:
    files.answers["gone.svs"] = [answer]
    assert tile_slide(SlideRow("s", f"{files.url}/gone.svs"), SETTINGS, tmp_path / "s.json") is Status.FAILED
    assert f"({answer})" in read_receipt(tmp_path / "s.json")["reason"]


def test_a_server_that_does_not_answer_gives_no_status_and_a_code_that_is_tried_again(
    files: Files, served_slide: Path, tmp_path: Path
) -> None:
    files.answers["slide.svs"] = [503]
    arguments = [
        "tile",
        f'--row={{"slide_id": "s", "path": "{files.url}/slide.svs"}}',
        "--settings={}",
        f"--tiles={tmp_path}",
    ]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UnreachableError) and not (tmp_path / "s.json").exists()
    files.answers["slide.svs"] = [200] * 4 + [503]  # in the middle of it
    with pytest.raises(UnreachableError):
        tile_slide(SlideRow("s", f"{files.url}/slide.svs"), SETTINGS, tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()


def test_inspect_and_doctor_read_in_place_and_say_what_is_wrong(
    served_slide: Path, files: Files, remote: Callable, tmp_path: Path
) -> None:
    remote(staging="scratch")
    url = f"{files.url}/slide.svs"
    found = inspect_slide(url, {"t": SETTINGS})
    assert (found.path, found.reader) == (url, "tiffslide") and not list((tmp_path / "scratch").rglob("*slide.svs"))
    finding = examine_slide(SlideJob(SlideRow("s", url), {"t": SETTINGS}, Truth()))
    assert finding.verdict == "ok" and finding.tiles["t"].n_tiles == found.tilings["t"].n_tiles
    for name, word in ((f"{files.url}/gone.svs", "404"), (f"http://127.0.0.1:{free_port()}/a.svs", "does not answer")):
        finding = examine_slide(SlideJob(SlideRow("s", name), {"t": SETTINGS}, Truth()))
        assert finding.verdict == "missing" and word in finding.reason


def test_a_gallery_says_what_is_wrong_with_the_slide_but_waits_for_a_silent_server(files: Files, served_slide: Path) -> None:
    url, row = f"{files.url}/slide.svs", SlideRow("s", f"{files.url}/slide.svs")
    tiled = {"reader": "tiffslide", "remote": "another", "slide_hash": "another"}
    assert unreadable_reason(row, tiled) == f"{url} is not the file that was tiled"
    served_slide.unlink()
    assert unreadable_reason(row, tiled) == f"the slide file is gone ({url})"
    files.answers["slide.svs"] = [500]
    with pytest.raises(UnreachableError):
        unreadable_reason(row, tiled)


def config(files: Files, tmp_path: Path, names: list[str]) -> dict[str, object]:
    """Of a cohort of slides on the web server."""
    rows = [
        {"slide_id": f"s{n}", "path": name if "://" in name else f"{files.url}/{name}", "label": ("a", "b")[n % 2]}
        for n, name in enumerate(names)
    ]
    sheet = write_cohort(tmp_path / "sheet", rows)
    models = {"abmil": {"model": "abmil"}}
    encoders = {"tiny": {"encoder": "test_efficientnet.r160_in1k", "weights": "random"}}
    values = {"cohort": str(sheet), "targets": block_of("a", "b"), "results": str(tmp_path / "results")}
    return {**values, "models": models, "encoders": encoders, "split": {"folds": 2}}


def test_check_asks_for_the_version_of_each_slide_and_warns_of_those_that_are_not_there(files: Files, tmp_path: Path) -> None:
    for n in range(6):
        (files.folder / f"{n}.svs").write_bytes(bytes(100 + n))
    silent = f"http://127.0.0.1:{free_port()}"
    names = [*(f"{n}.svs" for n in range(6)), "gone.svs", *(f"{silent}/{n}.svs" for n in range(40))]
    plan = check(config(files, tmp_path, names))
    slides = {row["slide_id"]: row for row in plan.as_json()["slides"]}
    assert [slides[f"s{n}"]["remote_version"].split()[0] for n in range(6)] == [str(100 + n) for n in range(6)]
    assert all("remote_version" not in slides[f"s{n}"] for n in range(6, 47))
    warnings = "\n".join(plan.warnings)
    assert "slide s6: " in warnings and "(404)" in warnings and "does not answer" in warnings
    assert "more slides on servers that do not answer were not checked" in warnings
    assert files.requests["0.svs", "HEAD"] == 1 and files.sent.total() == 0


def test_a_slide_out_of_reach_keeps_the_version_that_was_tiled(files: Files, tmp_path: Path) -> None:
    for n in range(40):
        write_aperio(files.folder / f"{n}.svs", tissue_image(320, 224, seed=min(n, 3)), levels=(1,))
    values = config(files, tmp_path, [f"{n}.svs" for n in range(40)])
    before = check(values)
    for row in before.rows[:2]:
        tile_slide(row, SETTINGS, tmp_path / "results" / "tiles" / "default" / f"{row.slide_id}.json")
    files.answers |= {"0.svs": [404], "1.svs": [503], "2.svs": [404]}
    after = check(values)
    kept = {name: version for name, version in before.versions.items() if name != "s2"}
    assert len(kept) == 39 and after.versions == kept, "of s2 nothing was made; one that is out of reach is not the whole server"
    assert "its existing results are used" in next(w for w in after.warnings if "slide s0" in w)


def test_no_secret_reaches_plan_receipts_logs_or_what_is_printed(
    slide: Path, bucket: Callable[[str, bytes], str], tmp_path: Path, caplog: pytest.LogCaptureFixture, remote: Callable
) -> None:
    caplog.set_level(logging.INFO)
    url = bucket("slide.svs", slide.read_bytes())
    for n, staging in enumerate(("none", "scratch")):
        remote(staging=staging)
        tile_slide(SlideRow("s", url), SETTINGS, tmp_path / f"r{n}" / "s.json")
        tile_slide(SlideRow("s", "s3://slides/gone.svs"), SETTINGS, tmp_path / f"r{n}" / "gone.json")
    said = caplog.text + CliRunner().invoke(app, ["inspect", url, "--json"]).output
    said += "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "slide.svs" in said and "very-secret-word" not in said
    done = CliRunner().invoke(app, ["inspect", "https://me:geheim@host/a.svs?sig=geheim"])
    assert "geheim" not in done.output + str(done.exception) and "me" in str(done.exception)


def test_examine_says_of_a_cohort_what_its_server_has(files: Files, tmp_path: Path) -> None:
    for n in range(8):
        write_aperio(files.folder / f"{n}.svs", tissue_image(320, 224, seed=n), levels=(1,))
    plan = check(config(files, tmp_path, [*(f"{n}.svs" for n in range(8)), "gone.svs"]), needs_slides=False)
    found = examine(plan, threads=2, advance=lambda n: None)
    assert [str(finding.verdict) for finding in found] == ["ok"] * 8 + ["missing"]


def test_settings_of_the_environment_go_before_those_of_the_configuration(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsi_mil.cli.options import use_remote
    from wsi_mil.slides.remote import remote_settings

    use_remote({"remote": {"attempts": 7}})
    assert remote_settings().attempts == 2
    monkeypatch.delenv("WSI_MIL_REMOTE")
    use_remote({"remote": {"attempts": "many"}})
    assert remote_settings().attempts == 4, "a fault is said by check"
    use_remote({"remote": {"attempts": 7}})
    assert remote_settings().attempts == 7
