from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.io import savemat

from benchmarks.papers import breast, frozen
from benchmarks.papers.cells import NOT_RUN
from benchmarks.papers.frozen import FOLDS, MODELS, MPP, TILES, FrozenRun, entry, read_rows, runs
from benchmarks.papers.frozen_table import BEST, TITLES
from benchmarks.papers.tables import HISTOLOGY, TEXT, page
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import Encoder, parse_model
from wsi_mil.receipts import store_path
from wsi_mil.records import Role, SlideRow
from wsi_mil.store import read_grid
from wsi_mil.tasks import Classes
from wsi_mil.tile import tile_slide


def write_images(data: Path, n: int) -> None:
    """Colon images of 160×128 px; every second one has an epithelial nucleus, and is dark at the left."""
    for number in range(1, n + 1):
        folder, positive = data / "colon" / f"img{number}", number % 2
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(150, 255, (128, 160, 3), np.uint8)
        pixels[:, :80] //= 1 + 4 * positive
        Picture.fromarray(pixels).save(folder / f"img{number}.bmp")
        for kind in ("epithelial", "fibroblast", "inflammatory", "others"):
            points = [[3.0, 4.0]] if kind == "others" or (kind == "epithelial" and positive) else []
            savemat(folder / f"img{number}_{kind}.mat", {"detection": np.array(points, float)})


def test_images_are_slides_whose_label_is_whether_a_nucleus_is_epithelial(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    rows = read_rows(tmp_path, "colon")
    assert [(row.slide_id, row.label) for row in rows] == [
        ("img1", "positive"),
        ("img2", "negative"),
        ("img3", "positive"),
        ("img4", "negative"),
    ]
    (tmp_path / "tiles").mkdir()
    tile_slide(rows[0], TILES, tmp_path / "tiles" / "a.json")
    grid = read_grid(store_path(tmp_path / "tiles" / "a.json"))
    assert grid.tile_px_level0 == (64, 64)  # pixels as they are
    assert grid.coords.tolist() == [[x, y] for y in (0, 32, 64) for x in (0, 32, 64, 96)]


def test_the_page_tells_how_many_tiles_an_image_has(tmp_path: Path) -> None:
    counts = {}
    for images, size in (("colon", (500, 500)), ("breast", breast.SIZE)):
        Picture.new("RGB", size, (180, 120, 160)).save(tmp_path / f"{images}.tif")
        tile_slide(SlideRow(images, tmp_path / f"{images}.tif", mpp=MPP), TILES, tmp_path / f"{images}.json")
        counts[images] = len(read_grid(store_path(tmp_path / f"{images}.json")).coords)
    assert "{colon} tiles per colon image, {breast} per breast image".format(**counts) in TEXT.read_text(encoding="utf-8")


@pytest.mark.parametrize("images", ["colon", "breast"])
def test_the_best_published_row_is_that_of_the_papers_table(images: str) -> None:
    assert BEST[images][0] in HISTOLOGY[images].values()
    assert f"| {BEST[images][0]} |" in page(f"{{{{table: frozen {images}}}}}", {})


def test_every_model_has_a_row_and_its_papers_constants_but_for_the_landmarks() -> None:
    assert set(TITLES) == set(MODELS)
    for model in MODELS:
        model_entry = entry(model, 3)
        least = {key: value for key, value in MODELS[model].items() if key not in ("landmarks", "train", "embed_dim", "heads")}
        published = parse_model(least)
        assert (getattr(model_entry, "recipe", None) == "published") == (model in ("mhim", "dsmil", "transmil"))
        assert set(least) <= {"model", "base", "pool", "branches", "recipe"} and model_entry.train.seed == 3
        if model_entry.model == "transmil":
            assert model_entry.landmarks == (64 if model == "transmil" else 256)
        assert (getattr(model_entry, "heads", None) == 4) == (model == "transmil_defaults")
        if model in ("embedding_mean", "instance_max", "gated"):
            train = model_entry.train
            assert (train.epochs, train.select, train.schedule, train.instance_dropout) == (60, "loss", "constant", 0)
        else:
            assert model_entry.train == published.train.model_copy(update={"seed": 3})


def test_draws_are_other_folds_and_sets_that_are_not_there_are_not_run(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    names = [run.name for run in runs(tmp_path, fast=False)]
    assert len(names) == 5 * len(MODELS) and all(name.startswith("frozen/colon/") for name in names)
    assert all(name.endswith("seed-0") for name in names[: len(MODELS)])
    rows = read_rows(tmp_path, "colon")
    tested = [draw_splits(rows, Classes(("negative", "positive")), FrozenRun("colon", "gated", s).split) for s in (0, 1)]
    assert tested[0].n_folds == FOLDS["colon"][0] and tested[0].slides(0, Role.TEST) != tested[1].slides(0, Role.TEST)


@pytest.mark.system
def test_a_run_goes_through_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, 8)
    monkeypatch.setitem(FOLDS, "colon", (2, 5))
    monkeypatch.setattr(frozen, "Encoder", lambda: Encoder(encoder="resnet18", weights="random"))
    one = FrozenRun("colon", "mhim", 0)
    figures = one.work(tmp_path)
    predictions = {name: image for fold in figures["folds"] for name, image in fold["images"].items()}
    assert {name: image["label"] for name, image in predictions.items()} == {f"img{n}": n % 2 for n in range(1, 9)}
    assert all(0 <= image["prob"] <= 1 for image in predictions.values())
    assert len(list(one.folder.parent.glob("colon-*/fold-*/model.safetensors"))) == 4  # it and what it stands on
    before = {path: path.stat().st_mtime_ns for path in one.folder.parent.rglob("*.json")}
    assert one.work(tmp_path) == figures
    assert {path: path.stat().st_mtime_ns for path in one.folder.parent.rglob("*.json")} == before


def draw(seed: int, *probs: float) -> dict:
    """Two folds of two images; the first of each is positive."""
    images = [{"label": 1 - n % 2, "prob": p} for n, p in enumerate(probs)]
    folds = [{"images": {f"a{n}": images[n] for n in pair}} for pair in ((0, 1), (2, 3))]
    return {"seed": seed, "figures": {"folds": folds}}


def test_draws_are_summed_up_and_those_above_the_published_counted() -> None:
    results = {"frozen/colon/dtfd/seed-0": draw(0, 0.9, 0.1, 0.8, 0.2), "frozen/colon/dtfd/seed-1": draw(1, 0.9, 0.6, 0.7, 0.2)}
    lines = page("{{table: frozen colon}}", results).splitlines()
    cells = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")[1:]] for line in lines}
    ours, accuracy, auroc, over_folds, above = cells["DTFD (AFS)"]
    # second draw: one false positive of four images; precision 2/3, recall 1, F1 0.8; AUROC 1
    assert ours == ".875/.833/1.000/.900/1.000 (2 of 5 draws)"
    assert accuracy.startswith("0.875 ± 0.177 (") and auroc.startswith("1.000 ± 0.000 (")
    assert over_folds == "1.000 ± 0.000" and above == "1 of 2 and 2 of 2"
    assert cells["TransMIL, 64 landmarks"] == [NOT_RUN] * 5
