"""The pages of the stages: keys and defaults as in the settings, commands that run, targets that Snakemake knows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_cohort, write_geojson
from tests.docs.pages import ROOT, blocks
from tests.docs.tables import RECORDS, with_lists, with_tables
from tests.forks import forking_command
from tests.targets import block_of
from wsi_mil import config
from wsi_mil.receipts import read_receipt
from wsi_mil.results import Results

DOCS = ROOT / "docs"
STAGES = ("tile", "extract", "split", "train", "predict", "explain", "trust", "heatmap", "report")
EACH_SLIDE = ("wsi-mil tile", "wsi-mil extract", "wsi-mil explain ", "wsi-mil heatmap")
SLIDES = [f"s{number}" for number in range(1, 9)]
SETTINGS = {
    "cohort": "cohort.csv",
    "targets": block_of("normal", "tumour"),
    "split": {"folds": 2},
    "models": {"abmil": {"model": "abmil"}},
    "explain": {"methods": ["attention"]},
}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_tables_are_those_of_the_settings_and_records(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "write them anew: make schema"


def test_the_template_lists_what_the_records_have() -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    assert with_lists(text) == text, "write it anew: make schema"
    for name in (*config.MODELS, *config.EXPLANATIONS, *config.READERS):
        assert re.search(rf"\b{name}\b", text), name


def test_every_kind_of_record_has_its_table() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert set(re.findall(r"<!-- records: (\w+) -->", pages)) == set(RECORDS)


def test_every_block_of_the_configuration_has_its_table() -> None:
    shown = {name for page in DOCS.glob("*.md") for name in re.findall(r"<!-- settings: (\w+) -->", page.read_text("utf-8"))}
    of_stages = {name for name in vars(config) if name[0].isupper() and hasattr(getattr(config, name), "model_fields")}
    models = {settings.__name__ for settings in config.MODELS.values()}
    assert shown == of_stages - models - {"Settings", "ModelSettings", "Config", "TileSettings"}, "models are in config.yaml"


def rules() -> tuple[set[str], list[re.Pattern[str]]]:
    """Names of the rules, and what their outputs look like."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    outputs = re.findall(r'=(?:report\(\s*)?"<results>/([^"]+)"', text)
    patterns = [re.compile("results/" + re.sub(r"\\{\w+\\}", "[^/]+", re.escape(output))) for output in outputs]
    return set(re.findall(r"(?:rule|checkpoint) (\w+):", text)), patterns


@pytest.mark.parametrize("stage", STAGES)
def test_snakemake_knows_the_targets_that_the_page_names(stage: str) -> None:
    names, outputs = rules()
    lines = [line for _, text in blocks(DOCS / f"{stage}.md", "bash") for line in text.splitlines()]
    assert lines
    for line in lines:
        words = line.removeprefix("snakemake ").replace("--configfile my.yaml", "").split()
        assert line.startswith("snakemake ") and "--configfile my.yaml" in line
        for word in words:
            known = word in names or any(output.fullmatch(word) for output in outputs)
            assert known or word in ("-R", "--", "--report", "report.zip"), f"{line}: {word}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of the pages was run, page by page; those of one slide for each of eight."""
    folder, rows = tmp_path_factory.mktemp("by hand"), []
    for number, slide_id in enumerate(SLIDES):
        label = ("normal", "tumour")[number % 2]
        lesion = (700, 150, 1000, 600) if number % 2 else None
        write_aperio(folder / "slides" / f"{slide_id}.svs", tissue_image(1240, 904, seed=number, lesion=lesion))
        truth = write_geojson(folder / "truth" / f"{slide_id}.geojson", lesion) if lesion else None
        annotation = truth.relative_to(folder).as_posix() if truth else ""
        rows.append({"slide_id": slide_id, "path": f"slides/{slide_id}.svs", "label": label, "annotation": annotation})
    write_cohort(folder, rows)
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    with forking_command() as command:
        for stage in STAGES:
            for _, text in blocks(DOCS / f"{stage}.md", "sh"):
                for slide_id in SLIDES if text.startswith(EACH_SLIDE) else SLIDES[:1]:
                    shell(re.sub(r"\bs1\b", slide_id, text), folder, command.parent)
    return folder


def shell(script: str, folder: Path, where: Path) -> None:
    """Run lines of a shell with the `wsi-mil` that lies in a folder."""
    env = {**os.environ, "PATH": f"{where}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=folder, env=env, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, script + done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="a process that has imported so much must not fork on every system")
def test_the_commands_of_the_pages_lead_from_slides_to_the_report(ran: Path) -> None:
    results = ran / "results"
    page = (results / "report" / "tumour.html").read_text(encoding="utf-8")
    assert all(slide_id in page for slide_id in SLIDES)
    tumour = Results(results).target("tumour")
    assert read_receipt(tumour.metrics("efficientnet", "abmil"))["n_slides"] == 8
    methods = read_receipt(tumour.scores_receipt("efficientnet", "abmil", "s3"))["methods"]
    assert set(methods) == {"attention", "evidence"}
    assert read_receipt(tumour.explanations("efficientnet", "abmil"))["n_with_truth"] == 8
    with Image.open(tumour.heatmap("efficientnet", "abmil", "s8", "attention")) as picture:
        assert picture.width > 1000
