"""The layout of the results folder is that of the rules."""

import re
from pathlib import Path

import pytest

from wsi_mil.results import Results

RULES = Path(__file__).parents[1] / "workflow" / "rules"
HERE = Results(Path("R"))
OF_TARGET = HERE.target("{target}")

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
        "cohort_features/{encoder}/{name}.json": HERE.usable_features("{encoder}").with_name("{name}.json"),
    },
    "split": {"splits/{target}.csv": OF_TARGET.splits},
    "train": {
        "models/{target}/{encoder}/{model}/fold-{fold}/model.safetensors": OF_TARGET.checkpoint("{encoder}", "{model}", 7)
        / "model.safetensors",
        "models/{target}/{encoder}/{model}/fold-{fold}/config.json": OF_TARGET.checkpoint("{encoder}", "{model}", 7)
        / "config.json",
    },
    "predict": {
        "predictions/{target}/{encoder}/{model}.csv": OF_TARGET.predictions("{encoder}", "{model}"),
        "metrics/{target}/{encoder}/{model}.json": OF_TARGET.metrics("{encoder}", "{model}"),
    },
    "explain": {
        "jobs/explain/{target}/{encoder}/{model}/{job}.json": HERE.record("explain", "{target}", "{encoder}", "{model}", "{job}"),
        "scores/{target}/{encoder}/{model}/{method}/{slide_id}.json": OF_TARGET.extra_scores_receipt(
            "{encoder}", "{model}", "{method}", "{slide_id}"
        ),
        "scores/{target}/{encoder}/{model}/{slide_id}.json": OF_TARGET.scores_receipt("{encoder}", "{model}", "{slide_id}"),
        "jobs/explain_validation/{target}/{encoder}/{model}.json": HERE.record(
            "explain_validation", "{target}", "{encoder}", "{model}"
        ),
    },
    "trust": {"trust/{target}/{encoder}/{model}.json": OF_TARGET.trust("{encoder}", "{model}")},
    "evaluate": {"explanations/{target}/{encoder}/{model}.json": OF_TARGET.explanations("{encoder}", "{model}")},
    "heatmap": {
        "jobs/heatmap/{target}/{encoder}/{model}/{job}.json": HERE.record("heatmap", "{target}", "{encoder}", "{model}", "{job}"),
        "heatmaps/{target}/{encoder}/{model}/cohort_scale.json": OF_TARGET.cohort_scale("{encoder}", "{model}"),
        "heatmaps/{target}/{encoder}/{model}/{slide_id}/{method}.png": OF_TARGET.heatmap(
            "{encoder}", "{model}", "{slide_id}", "{method}"
        ),
    },
    "fine": {
        "jobs/fine_tile/{tiling}/{slide_id}.json": HERE.record("fine_tile", "{tiling}", "{slide_id}"),
        "jobs/fine_extract/{encoder}/{slide_id}.json": HERE.record("fine_extract", "{encoder}", "{slide_id}"),
        "jobs/fine_explain/{target}/{encoder}/{model}/{slide_id}.json": HERE.record(
            "fine_explain", "{target}", "{encoder}", "{model}", "{slide_id}"
        ),
        "jobs/fine_heatmap/{target}/{encoder}/{model}/{slide_id}.json": HERE.record(
            "fine_heatmap", "{target}", "{encoder}", "{model}", "{slide_id}"
        ),
    },
    "statistics": {"statistics/{encoder}.json": HERE.statistics("{encoder}")},
    "report": {
        "report/index.html": HERE.report,
        "report/{target}.html": OF_TARGET.report,
        "report/{target}.tiles.html": OF_TARGET.tiles_page,
    },
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
    first, second = results.target("grade"), results.target("age")
    assert results.tilings == [] and results.encoders == [] and results.targets == [] and first.entries == []
    for path in (
        first.scores_receipt("b", "m", "s"),
        first.predictions("a", "n"),
        second.splits,
        second.splits.with_name(".grade.csv"),
        results.tiles_receipt("t", "s"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert results.tilings == ["t"] and results.targets == ["age", "grade"]
    assert first.entries == [("a", "n"), ("b", "m")] and second.entries == []


def test_files_of_labelled_slides_and_of_validation_are_where_the_commands_write_them() -> None:
    assert OF_TARGET.labelled_features("e") == Path("R/cohort_features/e/labelled/{target}.json")
    assert OF_TARGET.validation_scores("e", "m", 7) == Path("R/scores/{target}/e/m/validation/fold-7.json")
