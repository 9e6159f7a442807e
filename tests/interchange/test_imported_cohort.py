"""The real DAG on imported features alone: no slide file anywhere."""

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_aperio, write_geojson
from tests.dag import Run
from tests.interchange.files import DIM, grid, numbers, write_trident
from wsi_mil.receipts import read_receipt

pytestmark = [pytest.mark.slow, pytest.mark.system]

LESION = (4096, 1024, 6144, 2560)
"""(left, top, right, bottom) of the tiles of positive slides that differ, level-0 pixels."""

SIZE = {"level0_width": 9000, "level0_height": 5000}
ENCODERS = {"uni": {"features": "imported"}}
MODELS = {"abmil": {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"epochs": 40, "lr": 0.003}}}


def write_slide(path: Path, number: int, *, is_positive: bool) -> None:
    coords = grid(14, 8, 512, left=1024, top=512)
    features = numbers(len(coords), seed=number)
    inside = ((coords >= LESION[:2]) & (coords + 512 <= LESION[2:])).all(axis=1)
    features[inside & is_positive, 0] += 8
    write_trident(path, coords, features, **SIZE)


class Cohort(Run):
    def call(self, *arguments: str, expected: int = 0) -> str:
        done = subprocess.run([str(self.command), *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr
        return done.stdout + done.stderr

    def bring(self, expected: int = 0) -> str:
        return self.call("import-features", "files", "--encoder", "uni", "--slides", "co hort/cohort.csv", expected=expected)


@pytest.fixture
def cohort(tmp_path: Path, command: Path) -> Cohort:
    """Eight slides, half of them with a lesion that one of them outlines; the sheet has no paths."""
    run = Cohort(tmp_path, command)
    run.sheet.parent.mkdir()
    rows = []
    for number in range(8):
        label = ("normal", "tumour")[number % 2]
        write_slide(tmp_path / f"files/s{number}.h5", number, is_positive=label == "tumour")
        rows.append({"slide_id": f"s{number}", "label": label, "annotation": ""})
    for number in (1, 3, 5, 7):
        rows[number]["annotation"] = write_geojson(run.sheet.parent / f"s{number}.geojson", LESION).name
    run.write_rows(rows)
    run.config(encoders=ENCODERS, models=MODELS)
    return run


def test_a_cohort_of_imported_features_runs_to_the_report(cohort: Cohort) -> None:
    assert cohort.snakemake(expected=2) == {}
    assert "encoders.uni: no imported features for s0, s1, s2, s3, s4 and 3 more; run `wsi-mil import-features" in cohort.output
    assert "s7: 112 tiles × 6 (trident)" in cohort.bring()
    expected = {"cohort": 1, "split": 1, "statistics": 1, "train": 2, "predict": 1, "explain": 8}
    expected |= {"explain-validation": 1, "trust": 1, "evaluate": 1}
    assert cohort.snakemake() == {**expected, "heatmap": 8, "report": 1}
    with cohort.results("cohort_status.csv").open() as file:
        assert {(row["status"], row["n_tiles_uni"]) for row in csv.DictReader(file)} == {("ok", "112")}
    figures = read_receipt(cohort.results("explanations/tumour/uni/abmil.json"))
    assert figures["n_with_truth"] == 8 and figures["methods"]["attention"]["tile_auroc"] > 0.9
    page = cohort.report()
    assert (page.count("data:image/jpeg"), page.count('<img alt="" src="data:image/webp')) == (8, 8), "tiles, heatmaps"
    gallery = cohort.results("heatmaps/tumour/uni/abmil/s1/attention.tiles.png")
    assert gallery.is_file()
    assert all(text in cohort.call("doctor", "--configfile", "c.yaml") for text in ("8 ok", "encoder uni: imported features"))

    assert "unchanged" in cohort.bring() and cohort.snakemake() == {}, "the same features again"
    write_slide(cohort.folder / "files/s1.h5", 1, is_positive=True)
    cohort.bring()
    assert cohort.snakemake() == {}, "another file with the same content"
    write_slide(cohort.folder / "files/s1.h5", 99, is_positive=True)
    assert cohort.bring().count("unchanged") == 7
    assert cohort.snakemake() == {
        "cohort": 1,
        **{k: n for k, n in expected.items() if k not in ("cohort", "split")},
        "heatmap": 8,
        "report": 1,
    }


def test_faults_are_found_before_anything_runs(cohort: Cohort) -> None:
    bad = numbers(112)
    bad[5, 3] = np.nan
    write_trident(cohort.folder / "files/s2.h5", grid(14, 8, 512), bad, **SIZE)
    (cohort.folder / "files/s3.h5").write_text("nothing")
    found = cohort.bring(expected=2)
    assert "slide s2: features of tile 5 at (0, 2560) are not finite" in found and "s3.h5: is no readable HDF5 file" in found
    assert "s4: 112 tiles" in found, "the others are taken over"
    cohort.results("features/uni/s4.json").unlink()
    assert cohort.snakemake(expected=2) == {}
    assert "no imported features for s2, s3" in cohort.output
    assert "a store without its receipt (the import was interrupted) for s4; run `wsi-mil" in cohort.output
    cohort.config(encoders={"uni": {"features": "imported", "dtype": "float32", "tiling": "x"}})
    assert "encoders.uni: an entry with features: imported takes no other key but of; remove dtype" in cohort.call(
        "check", "c.yaml", expected=2
    )


def test_features_of_another_size_are_refused_by_name(cohort: Cohort) -> None:
    write_trident(cohort.folder / "files/s6.h5", grid(14, 8, 512), numbers(112)[:, : DIM - 1], **SIZE)
    cohort.bring()
    cohort.snakemake("--retries", "0", expected=1)
    logs = [path.read_text() for path in (cohort.folder / "logs/train").rglob("*.log")]
    assert any("features of length 5, but 6 in" in text or "features of length 6, but 5 in" in text for text in logs)


def test_trained_models_say_which_size_they_take(cohort: Cohort) -> None:
    cohort.config(encoders=ENCODERS, models=MODELS, explain={"methods": []})
    cohort.bring()
    cohort.snakemake()
    other = Cohort(cohort.folder / "other", cohort.command)
    other.sheet.parent.mkdir(parents=True)
    other.write_rows([{"slide_id": "a", "label": ""}])
    other.config(encoders=ENCODERS, models=MODELS, explain={"methods": []}, trained="../results")
    write_trident(other.folder / "files/a.h5", grid(5, 3, 512), numbers(15)[:, :4], target_magnification=10)
    other.bring()
    assert other.snakemake(expected=2) == {}
    for what in ("mpp 0.5, imported features have 1.0 (a)", "dim 6, imported features have 4 (a)"):
        assert f"trained: ../results/models/tumour/uni/abmil/fold-0/config.json was trained with {what}" in other.output
    write_trident(other.folder / "files/a.h5", grid(5, 3, 512), numbers(15))
    other.bring()
    assert other.snakemake()["predict"] == 1


def test_beside_an_extracted_entry_only_that_one_is_tiled_and_extracted(cohort: Cohort) -> None:
    cohort.bring()
    tiny = {"encoder": "test_efficientnet.r160_in1k", "weights": "random"}
    cohort.config(encoders={**ENCODERS, "tiny": tiny})
    assert "cohort.csv: column path is missing" in cohort.call("check", "c.yaml", expected=2)
    for row in cohort.rows():
        write_aperio(cohort.sheet.parent / f"{row['slide_id']}.svs", np.full((300, 400, 3), 240, np.uint8))
    cohort.write_rows([{**row, "path": f"{row['slide_id']}.svs"} for row in cohort.rows()])
    jobs = cohort.planned()
    assert (jobs["tile"], jobs["extract"]) == (8, 8)
    cohort.config(encoders={**ENCODERS, "tiny": tiny}, slides_per_job=3)
    jobs = cohort.planned()
    assert (jobs["tile"], jobs["extract"]) == (3, 3)
    cohort.config(encoders={"uni": tiny, "tiny": {**tiny, "tiling": "uni"}}, tilings={"default": {}, "uni": {}})
    found = cohort.call("check", "c.yaml", expected=2)
    for stage in ("features", "tiles"):
        assert (
            f"results/{stage}/uni: imported {stage} of s0, s1, s2, s3, s4 and 3 more, which would be used as results of this run"
            in found
        )
    cohort.config(encoders={**ENCODERS, "tiny": {**tiny, "tiling": "uni"}}, tilings={"uni": {}})
    assert "encoders.uni: its imported tiles would share a folder with the tiling 'uni'" in cohort.call(
        "check", "c.yaml", expected=2
    )


def test_vectors_of_slides_run_to_the_report_beside_features_of_tiles(cohort: Cohort) -> None:
    """Each is learned by the models that take it, and only tiles have scores, heatmaps and explanations."""
    rng = np.random.default_rng(0)
    vectors = {f"s{number}": rng.normal(size=5) + 4 * (number % 2) for number in range(8)}
    (cohort.folder / "vectors.csv").write_text(
        "slide_id,0,1,2,3,4\n" + "".join(f"{name},{','.join(map(str, row))}\n" for name, row in vectors.items())
    )
    train = {"epochs": 40, "lr": 0.01}
    cohort.config(
        encoders={**ENCODERS, "titan": {"features": "imported", "of": "slide"}},
        models={**MODELS, "mean": {"model": "embedding_pool", "embed_dim": 8, "train": train}},
    )
    cohort.bring()
    cohort.call("import-features", "vectors.csv", "--encoder", "titan", "--of", "slide", "--slides", "co hort/cohort.csv")
    expected = {"cohort": 1, "split": 1, "statistics": 2, "train": 6, "predict": 3, "explain": 8}
    expected |= {"explain-validation": 1, "trust": 1, "evaluate": 1}
    assert cohort.snakemake() == {**expected, "heatmap": 8, "report": 1}, "uni with both models, titan with one"
    assert read_receipt(cohort.results("metrics/tumour/titan/mean.json"))["auroc"] == 1
    parts = ("tiles", "scores/tumour", "heatmaps/tumour", "trust/tumour", "explanations/tumour")
    assert not [part for part in parts if cohort.results(f"{part}/titan").exists()]
    assert "encoder titan: imported vectors of slides" in cohort.call("doctor", "--configfile", "c.yaml")
    cohort.snakemake("results/heatmaps/tumour/titan/mean/s1/evidence.png", expected=1)
    assert "MissingRuleException" in cohort.output, "nor can they be asked for by name"
    assert cohort.snakemake() == {}


def test_of_vectors_alone_the_report_claims_no_heatmap(cohort: Cohort) -> None:
    for number in range(8):
        np.save(cohort.folder / f"s{number}.npy", np.array([number % 2, 1.0], np.float32))
    cohort.config(
        encoders={"titan": {"features": "imported", "of": "slide"}},
        models={"mean": {"model": "embedding_pool", "embed_dim": 8, "train": {"epochs": 3}}},
    )
    files = [f"s{number}.npy" for number in range(8)]
    cohort.call("import-features", *files, "--encoder", "titan", "--of", "slide")
    expected = {"cohort": 1, "split": 1, "statistics": 1, "train": 2, "predict": 1, "report": 1}
    assert cohort.snakemake() == expected
    page = cohort.report()
    assert "one vector for each slide, computed by another tool" in page and "there is no heatmap of where its" in page
    for claim in ("interpret its heatmaps", "the scores of its tiles", "Heatmap evaluation", "small square images", "data:image"):
        assert claim not in page
    index = cohort.results("report/index.html").read_text(encoding="utf-8")
    assert "Tissue masks" not in index and "heatmaps of tumour" not in index and ">Tiles<" not in index
