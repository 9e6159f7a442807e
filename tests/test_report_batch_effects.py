import csv
from pathlib import Path

import numpy as np
import pytest

from tests.statistics.conftest import write_features
from tests.targets import block_of
from tests.test_report import CLASSES, PROBS, REPORT, lines, page, write_model, write_tiled
from wsi_mil.cohort.splits import Splits, read_splits, write_splits
from wsi_mil.config import Config, Statistics, parse_settings
from wsi_mil.records import Role, SlideRow
from wsi_mil.report.batch_effects import BatchEffects, batch_effects, read_features, write_effects
from wsi_mil.report.scatter import BOTTOM, LEFT, RIGHT, TOP, Plane
from wsi_mil.statistics import write_statistics

SCANNERS = ("AT2", "C13210", "C13210", "AT2")
ON_FIRST = tuple(i for i in range(24) if SCANNERS[i % 4] == "AT2")
"""Labels change with every second slide, folds with every slide, scanners with neither."""


def slides(n: int, *, shifted: tuple[int, ...] = (), axis: int = 0, by: float = 8.0) -> dict[str, np.ndarray]:
    """Slides of 20 tiles and 6 features, each of which varies less than the one before; the `shifted` moved along one."""
    rng = np.random.default_rng(0)
    spread = np.array([4.0, 3.0, 1.0, 0.5, 0.25, 0.1])
    found = {f"s{i}": (rng.normal(size=6) + rng.normal(size=(20, 6))) * spread for i in range(n)}
    for i in shifted:
        found[f"s{i}"][:, axis] += by
    return {slide_id: rows.astype(np.float16) for slide_id, rows in found.items()}


def row(number: int, *, label: str, scanner: str = "", patient: str = "") -> SlideRow:
    return SlideRow(f"s{number}", Path("gone.svs"), label, patient or f"p{number}", scanner=scanner)


def effects(
    folder: Path, rows: list[SlideRow], features: dict[str, np.ndarray], *, roles: int = 2, trained: Path | None = None
) -> BatchEffects:
    """Of an encoder entry; slides' files say `aperio`, and folds alternate (one: a fixed split)."""
    for one in rows:
        write_tiled(folder, one.slide_id, vendor="aperio")
    write_features(folder / "features/enc", features)
    write_statistics(features, folder / "features/enc", Statistics(components=6), folder / "statistics/enc.json", threads=1)
    labelled = [one.slide_id for one in rows if one.label]
    of = tuple({s: Role.TEST if n % 2 == k else Role.TRAIN for n, s in enumerate(labelled)} for k in range(roles))
    write_splits(folder / "splits/tumour.csv", Splits({s: s for s in labelled}, dict.fromkeys(labelled, CLASSES[0]), of))
    content = {"cohort": "c.csv", "targets": block_of(*CLASSES), "results": folder, "encoders": {"enc": {}}, "trained": trained}
    config = parse_settings(Config, {**content, "models": {"a": {"model": "abmil"}}})
    splits = None if trained else read_splits(folder / "splits/tumour.csv")
    (found,) = batch_effects(rows, REPORT, read_features(rows, config), splits)
    return found


def test_clustering_by_scanner_is_reported_and_none_by_label(tmp_path: Path) -> None:
    rows = [row(i, label=CLASSES[i // 2 % 2], scanner=SCANNERS[i % 4]) for i in range(24)]
    found = effects(tmp_path, rows, slides(24, shifted=ON_FIRST, by=40))
    assert [(e.name, e.constant, e.is_significant) for e in found.effects] == [
        ("label", "", False),
        ("fold", "", False),
        ("scanner", "", True),
        ("scanner", "label", True),
        ("label", "scanner", False),
    ]
    assert found.effects[2].result.share > 0.9 and found.sentences[2].startswith("Slides cluster by scanner (9")
    assert found.sentences[0].startswith("There is no evidence that slides cluster by label (")
    assert [plot.name for plot in found.plots] == ["label", "fold", "scanner"] and not found.left_out
    assert found.cross_table == {name: {"normal": 6, "tumour": 6} for name in ("AT2", "C13210")}
    write_effects([found], tmp_path / "b.csv")
    with (tmp_path / "b.csv").open() as file:
        table = list(csv.DictReader(file))
    assert float(table[2]["share"]) > 0.9 and table[2]["component"] == "1" and table[3]["beside"] == "label"


def test_a_weak_component_associated_with_the_scanner_has_its_own_plot(tmp_path: Path) -> None:
    rows = [row(i, label=CLASSES[i // 2 % 2], scanner=SCANNERS[i % 4]) for i in range(24)]
    found = effects(tmp_path, rows, slides(24, shifted=ON_FIRST, axis=3, by=4))
    assert [(plot.name, plot.plane.axes) for plot in found.plots][-1] == ("scanner", (0, 2))
    y = {mark.slide_id: mark.y for mark in found.plots[-1].marks}
    first, second = ([y[f"s{i}"] for i in range(24) if (i in ON_FIRST) is there] for there in (True, False))
    assert max(first) < min(second) or max(second) < min(first)


def test_label_and_scanner_that_coincide_cannot_be_separated(tmp_path: Path) -> None:
    rows = [row(i, label=CLASSES[i % 2], scanner=("AT2", "C13210")[i % 2]) for i in range(12)]
    found = effects(tmp_path, rows, slides(12))
    assert sum("cannot be separated from that of the" in sentence for sentence in found.sentences) == 2
    assert found.cross_table["AT2"] == {"normal": 6}


def test_one_scanner_has_no_plot_and_a_reason(tmp_path: Path) -> None:
    found = effects(tmp_path, [row(i, label=CLASSES[i % 2]) for i in range(6)], slides(6))
    assert [plot.name for plot in found.plots] == ["label", "fold"]
    assert found.left_out == ("by scanner: there is only one (aperio)",) and not found.cross_table


def test_one_label_and_slides_without_any_have_no_plot_and_a_reason(tmp_path: Path) -> None:
    found = effects(tmp_path, [row(i, label=CLASSES[0] if i > 0 else "", scanner=f"x{i % 2}") for i in range(6)], slides(6))
    assert found.left_out == ("by label: there is only one (normal), and 1 slide (no label)",)


def test_with_trained_models_there_are_no_folds_and_with_a_fixed_split_there_are_roles(tmp_path: Path) -> None:
    rows = [row(i, label=CLASSES[i % 2] if i else "") for i in range(6)]
    trained = effects(tmp_path / "trained", rows, slides(6), trained=tmp_path)
    assert [plot.name for plot in trained.plots] == ["label"] and "trained in another run" in trained.left_out[0]
    fixed = effects(tmp_path / "fixed", rows, slides(6), roles=1)
    groups = {group.name: group.n for group in fixed.plots[1].groups}
    assert fixed.plots[1].name == "split" and groups == {"train": 2, "test": 3, "not in the split": 1}
    assert {g.name: g.n for g in fixed.plots[0].groups} == {"normal": 2, "tumour": 3, "no label": 1}


@pytest.mark.parametrize("n", [1, 2])
def test_one_slide_or_two_are_shown_without_a_verdict(tmp_path: Path, n: int) -> None:
    found = effects(tmp_path, [row(i, label=CLASSES[i], scanner=f"x{i}") for i in range(n)], slides(n))
    assert not any(effect.is_significant for effect in found.effects)
    assert all("cannot be tested" in sentence or "cannot be separated" in sentence for sentence in found.sentences)
    assert len(found.plots) == (0 if n == 1 else 3)


def test_identical_slides_have_no_plots(tmp_path: Path) -> None:
    same = {f"s{i}": np.full((4, 6), 3, np.float16) for i in range(3)}
    found = effects(tmp_path, [row(i, label=CLASSES[i % 2], scanner=f"x{i}") for i in range(3)], same)
    assert not found.plots and not found.effects and not found.shares


def test_too_few_patients_to_test_are_reported(tmp_path: Path) -> None:
    found = effects(tmp_path, [row(i, label=CLASSES[i // 2 % 2]) for i in range(8)], slides(8, shifted=(2, 3, 6, 7), by=90))
    assert found.effects[0].result.share > 0.9 and not found.effects[0].is_significant
    assert found.sentences[0].startswith("There are too few patients to test whether slides cluster by label (9")


def test_slides_of_a_patient_count_as_one(tmp_path: Path) -> None:
    rows = [row(i, label=CLASSES[i % 2], patient=f"p{i % 4}") for i in range(12)]
    found = effects(tmp_path, rows, slides(12))
    assert (found.effects[0].result.n_units, found.effects[0].result.n_patients) == (4, 4)


def test_the_frame_holds_every_slide_with_y_upwards() -> None:
    tiles = np.random.default_rng(0).normal(size=(500, 2)) * (1, 30)
    plane = Plane((0, 1), ("low", "high"), np.array([[-9.0, 0.0], [50.0, 4.0]]), ("low",) * 500, tiles)
    (x, y), (u, v) = plane.to_view(plane.slides)
    assert LEFT < x < u < RIGHT and TOP < v < y < BOTTOM
    assert [text for _, text in plane.ticks(0)] == ["−20", "0", "20", "40", "60"]
    plot = plane.plot("label", {"low": "a"}, (), rest="none")
    (_, path), *others = plot.dots
    inside = (np.abs(tiles[:, 0] - 20.5) <= 44.25) & (np.abs(tiles[:, 1] - 2) <= 3)  # the range of slides and a quarter of it
    assert not others and path.count("M") == inside.sum() > 9


def test_where_slides_do_not_differ_the_frame_holds_most_tiles() -> None:
    tiles = np.stack([np.arange(101.0), -np.arange(101.0)], axis=1)
    plane = Plane((0, 1), ("a",), np.array([[50.0, -50.0]]), ("a",) * 101, tiles)
    assert plane.extent.tolist() == [[-22, -122], [122, 22]]
    assert Plane((0, 1), ("a",), np.array([[5.0, 7.0]]), (), tiles[:0]).extent.tolist() == [[4, 6], [6, 8]]


def test_groups_beyond_the_palette_share_a_colour() -> None:
    ids = tuple(f"s{i}" for i in range(20))
    plane = Plane((0, 1), ids, np.random.default_rng(0).normal(size=(20, 2)), (), np.empty((0, 2)))
    plot = plane.plot("scanner", {s: f"x{i % 11}" for i, s in enumerate(ids)}, (), rest="not known")
    assert [g.n for g in plot.groups] == [2] * 7 + [6] and plot.groups[-1].name == "4 others"
    assert len({g.colour for g in plot.groups}) == len({g.shape for g in plot.groups}) == 8


def test_the_page_shows_each_slide_in_each_plot_and_names_of_scanners_are_escaped(tmp_path: Path) -> None:
    for number in range(9):
        write_tiled(tmp_path, f"s{number}", scanner=("<b>AT2</b>", "C13210")[number % 2])
    write_model(tmp_path, "enc/a", lines(PROBS))
    html = page(tmp_path, ["a"])
    section = html.split('<h2 id="batch-effects">')[1].split('<h2 id="slides">')[0]
    assert section.count("<title>s8: ") == section.count("<figure>") >= 3 and "s8: no label" in section
    assert "&lt;b&gt;AT2&lt;/b&gt; (5)" in section and "<b>AT2" not in html
    assert len(section) < 150_000 and (tmp_path / "report" / "tumour.batch_effects.csv").read_text().startswith(
        "encoder,grouping,"
    )
