"""What a command loads: of the packages that take long to import, those that its work needs and no others."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.startup import SMALL, TINY_ENCODER, Cohort
from tests.targets import block_of
from wsi_mil.cli import app

HEAVY = (
    *("numpy", "scipy", "sklearn", "skimage", "matplotlib", "PIL", "zarr", "dask", "distributed", "shapely", "jinja2"),
    *("openslide", "tifffile", "imagecodecs", "torch", "torch._dynamo", "torchvision", "timm", "safetensors", "huggingface_hub"),
    *("tensorboard", "anndata", "spatialdata"),
)
"""Each takes some hundredths of a second of CPU time or more; torch more than one, and torch._dynamo as much again."""

PROGRAM = f"""
import sys
from wsi_mil.cli import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""

SLIDES = {"PIL", "openslide", "tifffile", "imagecodecs"}
"""Loaded by every command that may read a slide."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """A small cohort with the results of the stages, made in this process."""
    made = Cohort(tmp_path_factory.mktemp("cohort"), TINY_ENCODER)
    made.write(SMALL)
    targets, models = json.dumps(block_of("normal", "tumour")), json.dumps({"m": {"model": "abmil"}})
    (made.folder / "c.yaml").write_text(f"cohort: cohort.csv\ntargets: {targets}\nmodels: {models}\nsplit: {{folds: 2}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        for arguments in made.stages():
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, done.exception
    return made


def loaded(cohort: Cohort, *args: str) -> set[str]:
    """Return which of the heavy packages a command has loaded at its end, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *args], cwd=cohort.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].removeprefix("loaded:").split())


def test_help_and_the_lists_of_settings_and_encoders_load_next_to_nothing(cohort: Cohort) -> None:
    assert not loaded(cohort, "--help") and not loaded(cohort, "extract", "--help")
    assert not loaded(cohort, "schema") and loaded(cohort, "encoders") <= {"huggingface_hub"}


def test_cohort_loads_no_reader_of_slides_or_stores(cohort: Cohort) -> None:
    assert loaded(cohort, *cohort.status("out")) <= {"numpy"}


def test_check_and_split_load_what_draws_folds_and_no_more(cohort: Cohort) -> None:
    assert loaded(cohort, "check", "c.yaml") <= {"numpy", "scipy", "sklearn"}
    assert loaded(cohort, *cohort.split("out")) <= {"numpy", "scipy", "sklearn"}


def test_tile_loads_neither_torch_nor_matplotlib_nor_dask(cohort: Cohort) -> None:
    assert loaded(cohort, *cohort.tile("s1", "out")) <= {"numpy", "scipy", "skimage", "shapely", "zarr", *SLIDES}


def test_extract_with_nothing_left_loads_numpy_and_zarr_only(cohort: Cohort) -> None:
    before = (cohort.folder / "features/e/s0.json").read_bytes()
    assert loaded(cohort, *cohort.extract(cohort.slides, "features/e")) <= {"numpy", "zarr"}
    assert (cohort.folder / "features/e/s0.json").read_bytes() == before


@pytest.mark.skipif(torch.version.hip is not None, reason="only torch knows AMD's GPUs")
def test_extract_with_nothing_left_need_not_ask_torch_what_auto_is(cohort: Cohort) -> None:
    settings = f"--settings={json.dumps({**TINY_ENCODER, 'dtype': 'auto'})}"
    command = [arg for arg in cohort.extract(["s1"], "out/auto") if not arg.startswith(("--settings", "--device"))]
    assert {"torch", "timm"} <= loaded(cohort, *command, settings, "--device=auto")
    assert loaded(cohort, *command, settings, "--device=auto") <= {"numpy", "zarr"}


def test_explain_with_nothing_left_loads_no_torch(cohort: Cohort) -> None:
    before = (cohort.folder / "scores/s0.json").stat().st_mtime_ns
    assert loaded(cohort, *cohort.explain("s0", "scores")) <= {"numpy", "sklearn", "scipy", "zarr"}
    assert (cohort.folder / "scores/s0.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("command", ["explain", "predict"])
def test_explain_and_predict_load_little_beside_torch(cohort: Cohort, command: str) -> None:
    assert loaded(cohort, *cohort.measured("out")[command]) <= {"numpy", "zarr", "torch", "safetensors"}


def test_train_loads_tensorboard_only_if_its_files_are_wanted(cohort: Cohort) -> None:
    command = cohort.measured("out")["train"]
    assert not loaded(cohort, *command) & {"tensorboard", "matplotlib", "PIL"}
    assert "tensorboard" in loaded(cohort, *command, "--log=tensorboard")


def test_heatmap_loads_no_scikit_image(cohort: Cohort) -> None:
    assert loaded(cohort, *cohort.heatmap("s0", "out")) <= {"numpy", "scipy", "matplotlib", "shapely", "zarr", *SLIDES}


def test_statistics_load_scipy_and_dask(cohort: Cohort) -> None:
    about = ["--status=cohort_status.csv", "--features=features/e", "--settings={}", "--receipt=out/statistics.json"]
    found = loaded(cohort, "statistics", *about)
    assert found <= {"numpy", "scipy", "zarr", "dask", "jinja2"}


def test_verify_loads_numpy_and_zarr_only(cohort: Cohort) -> None:
    assert loaded(cohort, "verify", ".") <= {"numpy", "zarr"}
