"""What `check` says about entries of `encoders` with a vector of each slide."""

from pathlib import Path

import pytest

from tests.targets import block_of
from tests.test_check import CLASSES, config, faults
from wsi_mil.check import check
from wsi_mil.config import Encoder, parse_settings
from wsi_mil.errors import ConfigError
from wsi_mil.receipts import IMPORTED, write_receipt
from wsi_mil.results import Results

TITAN = {"titan": {"features": "imported", "of": "slide"}}
UNI = {"uni": {"features": "imported"}}
MEAN = {"mean": {"model": "embedding_pool"}}
ABMIL = {"abmil": {"model": "abmil"}}


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Ten slides without files, whose vectors and tiles were imported."""
    path = tmp_path / "cohort.csv"
    path.write_text("slide_id,label\n" + "".join(f"s{i},{CLASSES[i % 2]}\n" for i in range(10)))
    results = Results(tmp_path / "results")
    for i in range(10):
        write_receipt(results.features_receipt("titan", f"s{i}"), {"status": "ok", "layout": "npy", "of": "slide"})
        write_receipt(results.features_receipt("uni", f"s{i}"), {"status": "ok", "layout": "trident"})
        write_receipt(results.tiles_receipt("uni", f"s{i}"), {"status": "ok", IMPORTED: {}})
    return path


def test_vectors_of_slides_are_learned_by_the_models_that_take_them(sheet: Path) -> None:
    plan = check(config(sheet, encoders={**TITAN, **UNI}, models={**ABMIL, **MEAN}))
    assert plan.as_json()["combinations"] == {"tumour": {"titan": ["mean"], "uni": ["abmil", "mean"]}}
    (said,) = [text for text in plan.warnings if "vectors of whole slides" in text]
    assert said == (
        "encoders.titan: vectors of whole slides: models that need tiles are not trained on them (abmil), and there are no"
        " heatmaps, explanations or figures of these"
    )
    assert plan.config.combinations("tumour") == (("titan", "mean"), ("uni", "abmil"), ("uni", "mean"))


def test_of_vectors_alone_nothing_is_drawn(sheet: Path) -> None:
    plan = check(config(sheet, encoders=TITAN, models=MEAN))
    assert plan.config.of_tiles == {} and not [text for text in plan.warnings if "does not support" in text]
    assert any("there are no heatmaps" in text for text in plan.warnings)
    assert not any("jobs of explain and heatmap" in note and not note.startswith("0 jobs") for note in plan.notes())


def test_an_entry_that_no_model_takes_is_a_fault(sheet: Path) -> None:
    (found,) = faults(config(sheet, encoders={**TITAN, **UNI}, models=ABMIL))
    assert found.startswith("encoders.titan: no model of a target takes vectors of slides; add an entry of models with")
    assert "embedding_pool" in found


def test_a_target_without_such_a_model_is_a_fault_only_if_there_are_no_tiles(sheet: Path) -> None:
    targets = {
        "a": {**block_of(*CLASSES)["tumour"], "models": ["abmil"]},
        "b": {**block_of(*CLASSES)["tumour"], "models": ["mean"]},
    }
    (found,) = faults(config(sheet, encoders=TITAN, models={**ABMIL, **MEAN}, targets=targets))
    assert found.startswith("targets.a: encoders has vectors of slides only, which abmil cannot learn; add an entry")
    plan = check(config(sheet, encoders={**TITAN, **UNI}, models={**ABMIL, **MEAN}, targets=targets))
    combinations = plan.as_json()["combinations"]
    assert combinations == {"a": {"titan": [], "uni": ["abmil"]}, "b": {"titan": ["mean"], "uni": ["mean"]}}


def test_no_slide_encoder_runs_here(sheet: Path) -> None:
    (found,) = faults(config(sheet, encoders={"titan": {"of": "slide"}}, models=MEAN))
    assert found.startswith("encoders.titan: of: slide needs features: imported: no slide encoder runs here")


@pytest.mark.parametrize(
    ("encoders", "said"),
    [
        (
            {"uni": {"features": "imported", "of": "slide"}},
            "encoders.uni: imported features of a tile, but the entry says of: slide",
        ),
        ({"titan": {"features": "imported"}}, "encoders.titan: imported features of a slide, but the entry"),
    ],
)
def test_features_of_the_other_kind_are_a_fault(sheet: Path, encoders: dict, said: str) -> None:
    (found,) = faults(config(sheet, encoders=encoders, models=MEAN))
    assert found.startswith(said) and "for s0, s1, s2, s3, s4 and 5 more" in found
    assert ("--of slide" in found) == (encoders.get("uni") is not None)


def test_missing_vectors_are_named_with_the_command_that_imports_them(sheet: Path) -> None:
    Results(sheet.parent / "results").features_receipt("titan", "s3").unlink()
    (found,) = faults(config(sheet, encoders=TITAN, models=MEAN))
    assert "no imported vectors of slides for s3; run `wsi-mil import-features FILES --encoder titan --of slide" in found


def test_settings_of_an_entry_with_vectors_have_no_other_key() -> None:
    assert parse_settings(Encoder, TITAN["titan"]).is_of_slides
    with pytest.raises(ConfigError, match="takes no other key but of; remove dtype"):
        parse_settings(Encoder, {**TITAN["titan"], "dtype": "float32"})
