"""The layout of the results folder is that of the rules."""

import re
from pathlib import Path

import pytest

from wsi_mil.results import Results

RULES = Path(__file__).parents[1] / "workflow" / "rules"
HERE = Results(Path("R"))

PATHS = {
    "tile": {
        "jobs/tile/{tiling}/{job}.json": HERE.record("tile", "{tiling}", "{job}"),
        "tiles/{tiling}/{slide_id}.json": HERE.tiles_receipt("{tiling}", "{slide_id}"),
    },
    "extract": {
        "jobs/extract/{encoder}/{job}.json": HERE.record("extract", "{encoder}", "{job}"),
        "features/{encoder}/{slide_id}.json": HERE.features_receipt("{encoder}", "{slide_id}"),
    },
    "cohort": {
        "cohort_status.csv": HERE.cohort_status,
        "cohort_features/{encoder}/{kind}.json": HERE.cohort_features("{encoder}", "{kind}"),
    },
    "split": {"splits.csv": HERE.splits},
    "train": {
        "models/{encoder}/{model}/fold-{fold}/model.safetensors": HERE.checkpoint("{encoder}", "{model}", 7)
        / "model.safetensors",
        "models/{encoder}/{model}/fold-{fold}/config.json": HERE.checkpoint("{encoder}", "{model}", 7) / "config.json",
    },
    "predict": {
        "predictions/{encoder}/{model}.csv": HERE.predictions("{encoder}", "{model}"),
        "metrics/{encoder}/{model}.json": HERE.metrics("{encoder}", "{model}"),
    },
    "explain": {
        "jobs/explain/{encoder}/{model}/{job}.json": HERE.record("explain", "{encoder}", "{model}", "{job}"),
        "scores/{encoder}/{model}/{method}/{slide_id}.json": HERE.extra_scores_receipt(
            "{encoder}", "{model}", "{method}", "{slide_id}"
        ),
        "scores/{encoder}/{model}/{slide_id}.json": HERE.scores_receipt("{encoder}", "{model}", "{slide_id}"),
        "scores/{encoder}/{model}/validation/fold-{fold}.json": HERE.validation_scores("{encoder}", "{model}", 7),
    },
    "evaluate": {"explanations/{encoder}/{model}.json": HERE.explanations("{encoder}", "{model}")},
    "heatmap": {
        "jobs/heatmap/{encoder}/{model}/{job}.json": HERE.record("heatmap", "{encoder}", "{model}", "{job}"),
        "heatmaps/{encoder}/{model}/cohort_scale.json": HERE.cohort_scale("{encoder}", "{model}"),
        "heatmaps/{encoder}/{model}/{slide_id}/{method}.png": HERE.heatmap("{encoder}", "{model}", "{slide_id}", "{method}"),
    },
    "statistics": {"statistics/{encoder}.json": HERE.statistics("{encoder}")},
    "report": {"report/index.html": HERE.report},
}


def outputs(rules: str) -> set[str]:
    """Paths below the results folder that the rules of a file declare as output."""
    blocks = re.findall(r"output:\n(.*?)\n\s*(?:log|params|threads|benchmark):", rules, re.DOTALL)
    plain = [block.replace("{{", "{").replace("}}", "}") for block in blocks]
    return {path for block in plain for path in re.findall(r'"<results>/([^"]+)"', block)}


@pytest.mark.parametrize("stage", PATHS)
def test_every_output_of_the_rules_is_where_the_layout_says(stage: str) -> None:
    declared = outputs((RULES / f"{stage}.smk").read_text(encoding="utf-8"))
    assert declared == set(PATHS[stage])
    for path, ours in PATHS[stage].items():
        assert ours == Path("R") / path.replace("{fold}", "7")


def test_no_rule_declares_an_output_that_the_layout_does_not_have() -> None:
    stages = {file.stem for file in RULES.glob("*.smk") if outputs(file.read_text(encoding="utf-8"))}
    assert stages == set(PATHS)


def test_the_names_of_entries_are_those_of_the_folders(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.tilings == [] and results.encoders == [] and results.entries == []
    for path in (results.scores_receipt("b", "m", "s"), results.predictions("a", "n"), results.tiles_receipt("t", "s")):
        path.parent.mkdir(parents=True)
        path.touch()
    assert results.tilings == ["t"] and results.entries == [("a", "n"), ("b", "m")]
