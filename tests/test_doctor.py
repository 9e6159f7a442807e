import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_cohort, write_geojson
from tests.targets import block_of
from tests.tile.test_supplied import write_classes
from wsi_mil.check import Plan, check
from wsi_mil.cli import main
from wsi_mil.doctor import DiskNeed, Finding, Verdict, disk_need, examine
from wsi_mil.store import FeatureStore, feature_bytes

SMALL = {"tilings": {"t": {"tile_px": 64}}, "tissue": {"min_area_um2": 500}}
ENCODERS = {"e": {"tiling": "t"}}


def plan_of(sheet: Path, **changes: object) -> Plan:
    about = {"cohort": str(sheet), "targets": block_of("n", "p"), "results": str(sheet.parent / "results")}
    values = {**about, "models": {"m": {"model": "abmil"}}, "encoders": ENCODERS, "split": {"folds": 2}, **SMALL, **changes}
    return check(values, needs_slides=False)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet with one slide for each thing that can happen."""
    folder = tmp_path_factory.mktemp("doctor")
    write_aperio(folder / "good.svs", tissue_image(640, 448))
    write_aperio(folder / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    (folder / "text.svs").write_text("this is no slide")
    (folder / "zero.svs").touch()
    (folder / "folder.svs").mkdir()
    tifffile.imwrite(folder / "no_mpp.tif", tissue_image(640, 448), tile=(128, 128), photometric="rgb")
    write_geojson(folder / "far.geojson", (5000, 5000, 6000, 5500))
    for name, other in (("good.svs", "annotated.svs"), ("no_mpp.tif", "skip.tif")):
        shutil.copy(folder / name, folder / other)
    paths = ["good.svs", "text.svs", "zero.svs", "gone.svs", "glass.svs", "no_mpp.tif", "skip.tif", "folder.svs", "annotated.svs"]
    names = ["good", "text", "zero", "gone", "glass", "fail", "skip", "folder", "annotated"]
    rows = [{"slide_id": n, "path": p, "label": "np"[i % 2]} for i, (n, p) in enumerate(zip(names, paths, strict=True))]
    rows[0] |= {"slide.on_missing_mpp": "", "annotation": "", "mpp": "0.25"}
    rows[6]["slide.on_missing_mpp"], rows[8]["annotation"] = "skip", "far.geojson"
    return write_cohort(folder, rows)


@pytest.fixture(scope="module")
def findings(sheet: Path) -> dict[str, Finding]:
    return {finding.slide_id: finding for finding in examine(plan_of(sheet), threads=2, advance=lambda _: None)}


def test_every_slide_has_its_verdict_in_the_order_of_the_sheet(findings: dict[str, Finding]) -> None:
    assert {name: str(finding.verdict) for name, finding in findings.items()} == {
        "good": "ok",
        "text": "failed",
        "zero": "failed",
        "gone": "missing",
        "glass": "empty",
        "fail": "failed",
        "skip": "skipped",
        "folder": "failed",
        "annotated": "ok",
    }
    assert list(findings) == [
        "good", "text", "zero", "gone", "glass", "fail", "skip", "folder", "annotated",
    ]  # fmt: skip


def test_the_rows_mpp_and_overrides_are_applied(findings: dict[str, Finding]) -> None:
    slide = findings["good"].slide  # at half the mpp a tile is 128 px, and the mask so coarse that all is tissue
    assert slide is not None and slide.mpp_source == "sheet" and slide.tilings["t"].n_tiles == 5 * 3
    assert "0.25 × 0.25 µm (sheet) is used" in findings["good"].warnings[0]


def test_an_unusable_annotation_is_a_warning(findings: dict[str, Finding]) -> None:
    (warning,) = findings["annotated"].warnings
    assert warning.startswith("its annotation is ignored: ") and "far.geojson: lies outside the slide" in warning


def test_disk_need_counts_usable_slides_without_existing_stores(sheet: Path, findings: dict[str, Finding]) -> None:
    config = plan_of(sheet).config
    counts = [findings[name].tiles["t"].n_tiles or 0 for name in ("good", "annotated")]
    need = disk_need(config, findings.values())
    assert need.needed == sum(feature_bytes(n, 1280, 64) for n in counts) > 1280 * 2 * sum(counts)
    assert need.is_enough and not need.unknown and not config.results.exists()
    coords = np.zeros((counts[0], 2), np.int64)
    path = config.results / "features" / "e" / "good.zarr"
    with FeatureStore(path, coords=coords, batch_size=64, attributes={"fingerprint": "f"}) as store:
        store.begin(1280)
        store.append_shard(np.ones((counts[0], 1280), np.float16), np.ones(counts[0], bool))
    assert disk_need(config, findings.values()).needed == feature_bytes(counts[1], 1280, 64)


def test_too_small_a_disk_is_not_enough() -> None:
    assert not DiskNeed(Path("results"), needed=2, free=1, unknown=()).is_enough


def test_a_killed_reader_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    """The first one takes long to read, so that it is killed before it is done."""
    noise = np.random.default_rng(0).integers(0, 255, (5000, 5000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "slow.png", compress_level=1)
    rows = [{"slide_id": f"s{i}", "path": f"good{i}.svs" if i else "slow.png", "label": "np"[i % 2]} for i in range(8)]
    for row in rows[1:]:
        write_aperio(tmp_path / row["path"], tissue_image(640, 448))
    plan = plan_of(write_cohort(tmp_path, rows))

    def kill_the_first() -> None:
        while not (running := multiprocessing.active_children()):
            time.sleep(0.001)
        os.kill(running[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    first, *others = examine(plan, threads=1, advance=lambda _: None)
    killer.join()
    assert first.verdict is Verdict.FAILED and [f.verdict for f in others] == [Verdict.OK] * 7
    assert "slow.png: its process was killed by SIGKILL" in first.reason and "slide.reader" in first.reason


def test_a_missing_but_tiled_slide_has_the_status_of_its_receipt(tmp_path: Path) -> None:
    rows = [{"slide_id": f"s{i}", "path": f"gone{i}.svs", "label": "np"[i % 2]} for i in range(8)]
    plan = plan_of(write_cohort(tmp_path, rows))
    receipts = tmp_path / "results" / "tiles" / "t"
    receipts.mkdir(parents=True)
    for i in range(7):
        (receipts / f"s{i}.json").write_text(json.dumps({"status": "failed" if i == 2 else "ok", "reason": "cut short"}))
    found = examine(plan, threads=2, advance=lambda _: None)
    verdicts = [Verdict.OK] * 2 + [Verdict.FAILED] + [Verdict.OK] * 4 + [Verdict.MISSING]
    assert [finding.verdict for finding in found] == verdicts and found[2].reason == "cut short"


def write_fine(folder: Path) -> None:
    """A sheet of eight slides with tissue, one of which says another mpp than its file, and an empty one."""
    rows = [{"slide_id": f"s{i}", "path": f"{i}.svs", "label": "np"[i % 2], "mpp": "0.3" if i == 3 else ""} for i in range(8)]
    folder.mkdir(exist_ok=True)
    for row in rows:
        shutil.copy(folder.parent / "good.svs", folder / row["path"])
    write_cohort(folder, [*rows, {"slide_id": "glass", "path": "../glass.svs", "label": "n", "mpp": ""}])


def run(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    """Exit code, standard output and error of `doctor`."""
    (folder / "c.yaml").write_text(
        f"targets: {json.dumps(block_of('n', 'p'))}\nsplit: {{folds: 2}}\nmodels: {{m: {{model: abmil}}}}\n{text}"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["wsi-mil", "doctor", "--configfile=c.yaml", "--threads=2", "--device=cpu"])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    done = capsys.readouterr()
    return code, done.out, done.err


BLOCKS = f"tilings: {json.dumps(SMALL['tilings'])}\ntissue: {json.dumps(SMALL['tissue'])}\nencoders: {json.dumps(ENCODERS)}\n"


def test_failures_are_listed_with_exit_code_1(
    sheet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, out, _ = run(sheet.parent, f"cohort: cohort.csv\n{BLOCKS}", monkeypatch, capsys)
    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 1 and lines[0].split() == ["slide_id", "status", "mpp", "reader", "tiles", "t"]
    assert max(map(len, (line for line in lines if line.startswith("  ")))) <= 80
    assert "    gone.svs: no such file; correct the sheet's `path` column, or copy it there" in lines
    assert any(line.startswith("9 slides: 4 failed, 2 ok, 1 missing, 1 empty, 1 skipped; tiles: ") for line in lines)
    assert lines[-3].startswith("encoder e: packaged (") and lines[-1] == "device: no GPU: cpu"


def test_empty_slides_and_warnings_alone_are_exit_code_0(
    sheet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_fine(sheet.parent / "fine")
    code, out, _ = run(sheet.parent, f"cohort: fine/cohort.csv\n{BLOCKS}", monkeypatch, capsys)
    assert code == 0 and "9 slides: 8 ok, 1 empty" in out


def test_all_configuration_faults_are_reported_with_exit_code_2(
    sheet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, out, err = run(sheet.parent, "cohort: cohort.csv\nbatch: 3\nheatmap: {colourmap: x}\n", monkeypatch, capsys)
    assert code == 2 and not out
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "error"]


def test_missing_weights_are_exit_code_1(sheet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(sheet.parent / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoders = "encoders: {e: {encoder: 'hf-hub:some/encoder', tiling: t}}\n"
    blocks = BLOCKS.replace(f"encoders: {json.dumps(ENCODERS)}\n", encoders)
    write_fine(sheet.parent / "fine")
    code, out, _ = run(sheet.parent, f"cohort: fine/cohort.csv\n{blocks}", monkeypatch, capsys)
    assert code == 1 and "encoder e: FAILS: Hugging Face Hub (some/encoder), not in its cache; HF_HUB_OFFLINE" in out
    assert "(unknown for e)" in out


def test_masks_excluded_classes_and_odd_colours_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    swapped = np.asarray(Image.fromarray(tissue_image(640, 448)).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "swapped.tif", swapped, tile=(128, 128), photometric="rgb")
    Image.fromarray(np.ones((640, 448), np.uint8)).save(tmp_path / "turned.png")
    write_classes(tmp_path / "a.geojson", Fold=(320, 64, 448, 192))
    row = {"annotation": "", "mask": "", "mpp": "0.5"}
    rows = [{"slide_id": f"s{i}", "path": f"good{i}.svs", "label": "np"[i % 2], **row} for i in range(8)]
    for good in rows:
        write_aperio(tmp_path / good["path"], tissue_image(640, 448))
    rows[0]["annotation"], rows[1]["mask"], rows[2]["path"] = "a.geojson", "turned.png", "swapped.tif"
    write_cohort(tmp_path, rows)
    blocks = BLOCKS.replace('"min_area_um2": 500', '"min_area_um2": 500, "exclude_classes": ["Fold"]')
    code, out, _ = run(tmp_path, f"cohort: cohort.csv\n{blocks}", monkeypatch, capsys)
    text = " ".join(out.split())
    assert code == 1 and "8 slides: 7 ok, 1 failed" in text
    assert "must have the aspect ratio of the slide (640 × 448 px), but has 448 × 640 px" in text
    assert "the background is far from grey (RGB (243, 128, 128))" in text
    assert "tissue.exclude_classes cuts 0.00 mm² out of the tissue of 1 slide" in text
