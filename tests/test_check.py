from pathlib import Path

import pytest

from tests.conftest import tissue_image, write_aperio, write_cohort, write_geojson
from tests.targets import NAME, block_of, targets_of
from wsi_mil.check import check
from wsi_mil.errors import ConfigError
from wsi_mil.receipts import write_receipt
from wsi_mil.results import Results
from wsi_mil.shifts import shifts
from wsi_mil.tasks import Classes

CLASSES = ["normal", "tumour"]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Ten slides, five patients of each class."""
    rows = [{"slide_id": f"s{i}", "path": f"sl ide's ü{i}.svs", "label": CLASSES[i % 2]} for i in range(10)]
    write_slides(tmp_path, rows)
    return write_cohort(tmp_path, rows)


def write_slides(folder: Path, rows: list[dict[str, str]]) -> None:
    """A small slide at the path of every row."""
    for row in rows:
        write_aperio(folder / row["path"], tissue_image(320, 240))


def config(sheet: Path, **changes: object) -> dict[str, object]:
    models = {"m": {"model": "abmil"}}
    about = {"cohort": str(sheet), "targets": block_of(*CLASSES), "results": str(sheet.parent / "results"), "models": models}
    return {**about, **changes}


def faults(values: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(values)
    return caught.value.faults


def test_a_plan_has_defaults_rows_and_folds(sheet: Path) -> None:
    plan = check(config(sheet)).as_json()
    assert plan["n_folds"] == {"tumour": 5} and len(plan["slides"]) == 10
    assert plan["config"]["tilings"]["default"]["tile_px"] == 224
    assert plan["slides"][0]["path"] == str(sheet.parent / "sl ide's ü0.svs")


def test_faults_of_configuration_and_sheet_are_reported_together(sheet: Path) -> None:
    sheet.write_text(sheet.read_text().replace("s3,", "s 3,").replace("s5,sl ide's ü5.svs", "s5,gone.svs"))
    found = faults(config(sheet, heatmap={"colourmap": "x"}, encoders={"e": {"tiling": "defualt", "encoder": "resnet5000"}}))
    assert len(found) == 3
    assert "heatmap.colourmap: unknown key; did you mean 'colormap'?" in found[0]
    assert "row 5: slide_id 's 3'" in found[1] and "row 7: path" in found[2] and "does not exist" in found[2]


def test_references_to_unknown_entries_suggest_the_nearest(sheet: Path) -> None:
    found = faults(config(sheet, encoders={"e": {"tiling": "defualt", "encoder": "resnet5O"}}))
    assert "encoders.e.tiling: no tiling 'defualt'; did you mean 'default'?" in found
    assert any("timm has no model 'resnet5O'; did you mean 'resnet5" in fault for fault in found)


def test_fewer_patients_than_folds_are_a_fault(sheet: Path) -> None:
    (found,) = faults(config(sheet, split={"folds": 6}))[:1]
    assert "class 'normal' has 5 patients, fewer than the 6 that 6 folds need" in found


def test_a_missing_slide_is_only_a_warning_if_it_was_tiled(sheet: Path) -> None:
    for i in range(10):
        (sheet.parent / f"sl ide's ü{i}.svs").unlink()
    assert len(faults(config(sheet))) == 10
    receipts = sheet.parent / "results" / "tiles" / "default"
    receipts.mkdir(parents=True)
    for i in range(10):
        (receipts / f"s{i}.json").write_text("{}")
    assert len(check(config(sheet)).warnings) == 10


def test_a_missing_sheet_is_one_fault(sheet: Path) -> None:
    (found,) = faults(config(sheet.with_name("no.csv")))
    assert found.startswith("cohort: cannot read")


def test_trained_models_must_exist(sheet: Path) -> None:
    (found,) = faults(config(sheet, trained=str(sheet.parent / "old")))
    assert found.startswith("targets.tumour: trained: ") and "splits/tumour.csv" in found


def test_trained_must_differ_from_results(sheet: Path) -> None:
    assert any("must be another folder than results" in f for f in faults(config(sheet, trained=str(sheet.parent / "results"))))


def test_braces_are_a_fault_of_each_path(sheet: Path) -> None:
    named = sheet.rename(sheet.with_name("co{h}ort.csv"))
    found = faults(config(named, results="re{x}sults", splits=str(sheet.parent / "{s}.csv")))
    assert [fault.partition(":")[0] for fault in found if "reads as a wildcard" in fault] == [
        "cohort",
        "results",
        "splits.tumour",
    ]


def test_an_unknown_colour_map_suggests_the_nearest(sheet: Path) -> None:
    (found,) = faults(config(sheet, heatmap={"colormap": "virids"}))
    assert found == "heatmap.colormap: matplotlib has no colour map 'virids'; did you mean 'viridis'?"


def test_frozen_splits_must_say_what_the_sheet_says(sheet: Path) -> None:
    from wsi_mil.cohort import read_sheet
    from wsi_mil.cohort.splits import draw_splits, write_splits
    from wsi_mil.config import Split

    frozen = sheet.parent / "splits.csv"
    rows = [row.for_target(NAME) for row in read_sheet(sheet, targets_of(*CLASSES)).rows]
    write_splits(frozen, draw_splits(rows, Classes(tuple(CLASSES)), Split()))
    assert check(config(sheet, splits=str(frozen))).n_folds == {NAME: 5}
    sheet.write_text(sheet.read_text().replace("s3,sl ide's ü3.svs,tumour", "s3,sl ide's ü3.svs,normal"))
    (found,) = faults(config(sheet, splits=str(frozen)))
    assert found.endswith("has label 'tumour' for slide s3, but the sheet has 'normal'")


def test_a_fixed_split_needs_training_and_test_slides(tmp_path: Path) -> None:
    rows = [{"slide_id": f"s{i}", "path": f"{i}.svs", "label": CLASSES[i % 2], "split": "train"} for i in range(10)]
    write_slides(tmp_path, rows)
    assert faults(config(write_cohort(tmp_path, rows))) == ["targets.tumour: column split has no labelled test slide"]
    rows[0]["split"], rows[1]["split"] = "test", ""
    found = faults(config(write_cohort(tmp_path, rows)))
    assert found == ["targets.tumour: column split is empty for labelled slides s1: fill it for all or none"]


MHIM = {"model": "mhim", "base": "m"}


def test_the_base_of_mhim_must_be_a_suitable_entry(sheet: Path) -> None:
    models = {"a": {**MHIM, "base": "mm"}, "b": {**MHIM, "base": "pool"}, "c": {**MHIM, "base": "b"}}
    models |= {"m": {"model": "abmil"}, "pool": {"model": "instance_pool"}}
    assert faults(config(sheet, models=models)) == [
        "models.a.base: no entry 'mm' in models; did you mean 'm'?",
        "models.b.base: 'pool' is instance_pool, but the base of mhim must be one of abmil, transmil, dsmil",
        "models.c.base: 'b' is mhim, but the base of mhim must be one of abmil, transmil, dsmil",
    ]


def test_an_unsupported_method_is_skipped_and_is_a_fault_if_no_model_supports_it(sheet: Path) -> None:
    models = {"h": MHIM, "m": {"model": "transmil"}, "pool": {"model": "embedding_pool"}}
    explain = {"methods": ["attention", "sparse_inversion"]}
    plan = check(config(sheet, models=models, explain=explain))
    assert plan.as_json()["methods"] == {
        NAME: {"h": ["attention", "sparse_inversion"], "m": ["attention", "sparse_inversion"], "pool": ["sparse_inversion"]}
    }
    assert list(plan.warnings) == ["models.pool: does not support attention, which is skipped for it"]
    (found,) = faults(config(sheet, models={"pool": {"model": "embedding_pool"}}, explain=explain))
    assert found == "explain.methods: attention is not supported by any of the models pool"
    plan = check(config(sheet, models={"pool": {"model": "embedding_pool"}}))
    assert plan.as_json()["methods"] == {NAME: {"pool": ["sparse_inversion", "evidence"]}}


def test_direction_is_stored_where_no_drawn_method_can_be_compared_between_slides(sheet: Path) -> None:
    models = {"m": {"model": "transmil"}, "pool": {"model": "embedding_pool"}}
    assert check(config(sheet, models=models)).as_json()["compared"] == {NAME: {"m": ["direction"], "pool": []}}
    assert check(config(sheet, models=models, explain={"methods": []})).as_json()["compared"] == {NAME: {"m": [], "pool": []}}


def test_outputs_that_no_target_has_are_faults_with_the_nearest_name(sheet: Path) -> None:
    targets = {**config(sheet)["targets"], "tmb": {"kind": "regression", "column": "tmb"}}
    found = faults(config(sheet, targets=targets, explain={"outputs": ["tumor", "tumour", "tmb"]}))
    assert [fault for fault in found if fault.startswith("explain")] == [
        "explain.outputs: no target has a class or label 'tumor'; did you mean 'tumour'?",
        "explain.outputs: no target has a class or label 'tmb'; known: normal, tumour",
    ]
    assert faults(config(sheet, explain={"outputs": "tumour"})) == [
        "explain.outputs: expected predicted, all, or a list of classes or labels, as in [luad], got 'tumour'"
    ]
    assert check(config(sheet, explain={"outputs": ["normal"]})).as_json()["outputs"] == {"tumour": ("normal",)}


def test_names_in_truth_are_those_of_targets(sheet: Path) -> None:
    assert faults(config(sheet, truth={"healthy": ["norma"], "classes": {"tumor": ["a"]}})) == [
        "truth.classes: no target has a class or label 'tumor'; did you mean 'tumour'?",
        "truth.healthy: no target has a class 'norma'; did you mean 'normal'?",
    ]
    (found,) = faults(config(sheet, truth={"healthy": ["tumour"]}))
    assert found == (
        "truth.healthy: the positive one of classes ['normal', 'tumour'] cannot be healthy, or no slide has a lesion"
    )
    assert faults(config(sheet, truth={"classes": {"tumour": ["_2"]}})) == [
        "truth: _2 cannot be in both classes.tumour and exclude"
    ]
    check(config(sheet, truth={"healthy": ["normal"], "classes": {"tumour": ["Tumor"]}}))


def test_methods_without_a_cohort_wide_scale_are_warned_of(sheet: Path) -> None:
    explain = {"methods": ["attention", "evidence", "sparse_inversion"]}
    (warning,) = check(config(sheet, heatmap={"scale": "cohort"}, explain=explain)).warnings
    assert warning.startswith("heatmap.scale: sparse_inversion cannot be compared across slides")


def test_bags_of_patients_need_one_label_each(sheet: Path) -> None:
    rows = [{"slide_id": f"s{i}", "path": f"{i}.svs", "label": CLASSES[i % 2], "patient_id": f"p{i // 2}"} for i in range(20)]
    write_slides(sheet.parent, rows)
    found = faults(config(write_cohort(sheet.parent, rows), bag="patient"))
    assert found[0] == (
        "targets.tumour: bag: patient needs one label per patient, but patient p0 has 'normal' (slide s0), 'tumour' (slide s1);"
        " correct the labels or set bag: slide"
    )


def test_metrics_tuned_on_the_test_fold_are_warned_of(sheet: Path) -> None:
    (warning,) = check(config(sheet, protocol="as_published")).warnings
    assert "chosen on the test fold" in warning


def test_frozen_splits_need_every_class_in_every_part(sheet: Path) -> None:
    frozen = sheet.parent / "splits.csv"
    roles = ["train"] * 6 + ["val", "test", "test", "test"]
    lines = [f"s{i},s{i},{CLASSES[i % 2]},,{role}" for i, role in enumerate(roles)]
    frozen.write_text("\n".join(["slide_id,patient_id,label,fold,role_0", *lines]) + "\n")
    (found,) = faults(config(sheet, splits=str(frozen)))
    assert found == "targets.tumour: splits: fold 0 has no val slide of class 'tumour'; every class is needed there"


def test_slides_without_the_annotation_they_are_tiled_by_are_a_fault(sheet: Path) -> None:
    (found,) = faults(config(sheet, tilings={"default": {"min_annotation": 0.5}}))
    assert (
        "tilings.default.min_annotation" in found and "`annotation` column" in found and "s0, s1, s2, s3, s4 and 5 more" in found
    )
    (found,) = faults(config(sheet, tissue={"method": "annotation"}))
    assert found.startswith("tissue.method: annotation needs an annotation")


def test_tiling_by_annotations_is_warned_of(sheet: Path) -> None:
    write_geojson(sheet.parent / "a.geojson", (10, 20, 90, 60))
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0] + ",annotation", *(line + ",a.geojson" for line in lines[1:])]))
    plan = check(config(sheet, tissue={"method": "annotation"}))
    assert any("10 slides are tiled by their annotations" in warning for warning in plan.warnings)


def fine(sheet: Path, *slides: str, **changes: object) -> dict[str, object]:
    return config(sheet, heatmap={"fine": {"slides": list(slides)}}, **changes)


def test_slides_for_finer_heatmaps_must_be_in_the_sheet(sheet: Path) -> None:
    found = faults(fine(sheet, "s3", "s11", "other"))
    assert "heatmap.fine.slides: the sheet has no slide 's11'; did you mean 's1'?" in found
    assert "heatmap.fine.slides: the sheet has no slide 'other'; it has s0, s1, s2, s3, s4 and 5 more" in found
    assert len(found) == 2 and check(fine(sheet, "s3")).config.heatmap.fine.slides == ("s3",)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"steps": 1}, "heatmap.fine.steps"),
        ({"steps": 9}, "heatmap.fine.steps"),
        ({"steps": 2.5}, "heatmap.fine.steps"),
        ({"slides": ["s1", "s2", "s1"]}, "heatmap.fine: slides names s1 more than once"),
        ({"slide": ["s1"]}, "heatmap.fine.slide: unknown key; did you mean 'slides'?"),
        ({"slides": "s1"}, "heatmap.fine.slides"),
    ],
)
def test_a_faulty_block_of_finer_heatmaps_is_named(sheet: Path, block: dict[str, object], said: str) -> None:
    (found,) = faults(config(sheet, heatmap={"fine": block}))
    assert said in found


def test_finer_heatmaps_need_an_encoder_that_extracts_and_a_method(sheet: Path) -> None:
    found = faults(fine(sheet, "s1", encoders={"e": {"features": "imported"}}))
    assert any(text.startswith("heatmap.fine.slides: shifted tiles must be encoded") for text in found)
    (found,) = faults(fine(sheet, "s1", explain={"methods": []}))
    assert found.startswith("heatmap.fine.slides: explain.methods is empty")


def test_sampled_tilings_are_warned_of_only_with_finer_heatmaps(sheet: Path) -> None:
    sampled = {"tilings": {"default": {"max_tiles": 50}}}
    warnings = [text for text in check(fine(sheet, "s1", **sampled)).warnings if "max_tiles" in text]
    assert len(warnings) == 1 and warnings[0].startswith("heatmap.fine: tilings.default samples")
    assert not [text for text in check(config(sheet, **sampled)).warnings if "max_tiles" in text]


def test_the_file_of_a_chosen_slide_must_be_there_until_its_shifted_tiles_are_encoded(sheet: Path) -> None:
    """The slide is tiled, so that without finer heatmaps its file may be gone."""
    results = Results(sheet.parent / "results")
    write_receipt(results.tiles_receipt("default", "s3"), {"slide_id": "s3", "status": "ok"})
    (sheet.parent / "sl ide's ü3.svs").unlink()
    assert any("is gone" in text for text in check(config(sheet)).warnings)
    (found,) = faults(fine(sheet, "s3", encoders={"e": {}}))
    assert "ü3.svs" in found and "does not exist" in found
    for shift in shifts(2):
        write_receipt(results.shifted(shift.name).features_receipt("e", "s3"), {"status": "ok"})
    assert check(fine(sheet, "s3", encoders={"e": {}}))
