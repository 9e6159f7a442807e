"""A results folder as an unfinished or finished run leaves it, with one slide that can be measured."""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tests.conftest import write_aperio, write_cohort, write_geojson
from tests.heatmap_files import Made, write_scn
from tests.targets import NAME, targets_of
from wsi_mil.cohort import read_sheet
from wsi_mil.config import MultilabelTarget, SurvivalTarget, Target, fine_name
from wsi_mil.files import write_table
from wsi_mil.receipts import CELLS, USUAL, file_hash, read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, TileGrid
from wsi_mil.slides import slide_hash
from wsi_mil.store import write_grid, write_scores
from wsi_mil.tasks import task_of
from wsi_mil.view import Catalogue

DIMENSIONS, TILE = (1600, 1120), 64
MARKER = (1024, 384)
"""Corner (x, y) of the one tile that is blue in the slide and hot in the scores, level-0 pixels."""

CORNER, GROUND = (192, 1088), (2400, 2304)
"""Where a slide with bounds lies on its level 0, multiples of a tile; (width, height) of that."""

BLUE = (20, 40, 220)
CLASSES = ("normal", "tumour")


def marked_image() -> np.ndarray:
    """Pale rose [1120, 1600, 3] with one blue tile."""
    image = np.full((*DIMENSIONS[::-1], 3), (236, 210, 222), np.uint8)
    x, y = MARKER
    image[y : y + TILE, x : x + TILE] = BLUE
    return image


def grid_coords() -> np.ndarray:
    """All tiles of the slide, row by row."""
    return np.array([(x, y) for y in range(0, 1088, TILE) for x in range(0, 1600, TILE)], np.int64)


def hot_at(coords: np.ndarray, corner: tuple[int, int], value: float = 5.0) -> np.ndarray:
    """0.0 everywhere but in the tile with that corner."""
    return np.where((coords == corner).all(axis=1), value, 0.0).astype(np.float32)


@dataclass
class Results:
    """A results folder and its sheet, slide by slide."""

    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)
    more_targets: dict[str, Target] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def catalogue(self, **more: object) -> Catalogue:
        classes = dict.fromkeys((*CLASSES, *(row["label"] for row in self.rows if row["label"])))
        targets = targets_of(*classes) | self.more_targets
        sheet = read_sheet(write_cohort(self.folder, self.rows), targets, needs_path=False)
        assert not sheet.faults
        tasks = {name: task_of(target) for name, target in targets.items()}
        return Catalogue(self.results, tasks, {row.slide_id: row for row in sheet.rows}, **more)

    def add_marked(self, slide_id: str, *, label: str = "tumour", prob: float = 0.9, scored: bool = True) -> Made:
        """A slide with the blue tile, scored hot there by `attention`; `evidence` is hot in the first tile."""
        path = write_aperio(self.folder / f"{slide_id}.svs", marked_image(), levels=(1, 4))
        write_geojson(self.folder / f"{slide_id}.geojson", (MARKER[0], MARKER[1], MARKER[0] + TILE, MARKER[1] + TILE))
        coords = grid_coords()
        made = Made(coords, hot_at(coords, MARKER), DIMENSIONS, TILE, slide_id=slide_id, method="attention", prob=prob)
        made = replace(made, slide_hash=slide_hash(path), tiles={"status": "ok", "n_tiles": len(coords), "reason": ""})
        row = {"slide_id": slide_id, "path": path.name, "label": label, "patient_id": f"p-{slide_id}"}
        self.rows.append({**row, "annotation": f"{slide_id}.geojson"})
        self.write_tiles(made)
        if scored:
            self.write_scores(made, {"evidence": hot_at(coords, (0, 0))})
        return made

    def add_bounded(self, slide_id: str) -> None:
        """The blue tile again, on a slide that lies at `CORNER` of a larger ground; its annotation counts from there."""
        path = write_scn(self.folder / f"{slide_id}.scn", marked_image(), corner=CORNER, dimensions=GROUND)
        write_geojson(self.folder / f"{slide_id}.geojson", (MARKER[0], MARKER[1], MARKER[0] + TILE, MARKER[1] + TILE))
        coords = grid_coords() + CORNER
        hot = hot_at(coords, (CORNER[0] + MARKER[0], CORNER[1] + MARKER[1]))
        made = Made(coords, hot, GROUND, TILE, slide_id=slide_id, method="attention", bounds=(*CORNER, *DIMENSIONS))
        made = replace(made, slide_hash=slide_hash(path), tiles={"status": "ok", "n_tiles": len(coords), "reason": ""})
        row = {"slide_id": slide_id, "path": path.name, "label": "tumour", "patient_id": slide_id}
        self.rows.append({**row, "annotation": f"{slide_id}.geojson"})
        self.write_tiles(made)
        self.write_scores(made, {})

    def add_failed(self, slide_id: str, reason: str, *, status: str = "failed") -> None:
        """A slide that is no slide."""
        (self.folder / f"{slide_id}.svs").write_text("no slide")
        self.rows.append({"slide_id": slide_id, "path": f"{slide_id}.svs", "label": "normal", "patient_id": slide_id})
        self.rows[-1]["annotation"] = ""
        receipt = self.results / "tiles" / "default" / f"{slide_id}.json"
        write_receipt(receipt, {"slide_id": slide_id, "status": status, "reason": reason, "warnings": []})

    def write_tiles(self, made: Made, tiling: str = "default") -> Path:
        receipt = self.results / "tiles" / tiling / f"{made.slide_id}.json"
        grid = TileGrid(made.coords, np.ones(len(made.coords), np.float32), made.tile_px, made.box)
        write_grid(store_path(receipt), grid, marked_image()[::4, ::4], {"dimensions": list(made.dimensions)})
        write_receipt(receipt, made.tile_receipt())
        return receipt

    def write_scores(
        self, made: Made, others: dict[str, np.ndarray], entry: str = "enc/abmil", *, target: str = NAME, **changes: object
    ) -> Path:
        """Scores of `made.method` and of others; `changes` go into the receipt."""
        receipt = self.results / "scores" / target / entry / f"{made.slide_id}.json"
        arrays = {made.method: made.values, **others}
        scores = [InstanceScores(name, v.astype(np.float32), "", made.unit, False) for name, v in arrays.items()]
        write_scores(store_path(receipt), made.coords, scores, {})
        about = made.scores_receipt()
        methods = {name: {**about["methods"][made.method], "kind": f"kind of {name}"} for name in arrays}
        write_receipt(receipt, {**about, "methods": methods, **changes})
        return receipt

    def write_fine(self, made: Made, value: float = 9.0, *, target: str = NAME, entry: str = "enc/abmil") -> Path:
        """Finer scores by `made.method`, on cells of half a tile: hot in the lower right quarter of the marked tile."""
        results = self.results / "fine"
        usual = self.results / "scores" / target / entry / f"{made.slide_id}.json"
        half = made.tile_px // 2
        coords = (made.coords[:, None] + half * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])).reshape(-1, 2)
        values = hot_at(coords, (MARKER[0] + half, MARKER[1] + half), value)
        identity = {"coords_digest": "cells", "slide_hash": made.slide_hash}
        cells = {"tile_px_level0": [half, half], CELLS: {"extent": [half, half], "stride": [half, half]}, **identity}
        write_receipt(results / "cells" / target / entry / usual.name, {**made.tile_receipt(), **cells})
        name, receipt = fine_name(made.method), results / "scores" / target / entry / usual.name
        write_scores(store_path(receipt), coords, [InstanceScores(name, values, "", made.unit, False)], {})
        about = read_receipt(usual)
        methods = {name: {**about["methods"][made.method], "tilings": 4}}
        more = {"tiles": identity, "fine": {"steps": 2, "tilings": 4}, USUAL: file_hash(usual)}
        write_receipt(receipt, {**about, "methods": methods, **more})
        return receipt

    def change(self, receipt: Path, methods: dict[str, dict[str, object]]) -> None:
        """Add entries about methods to a receipt of scores."""
        content = read_receipt(receipt)
        own = {name: {**about, **methods.get(name, {})} for name, about in content["methods"].items()}
        write_receipt(receipt, {**content, "methods": own})

    def write_predictions(self, probs: dict[str, float], entry: str = "enc/abmil", threshold: float = 0.5) -> None:
        columns = ["slide_id", "patient_id", "label", "fold", "prob_normal", "prob_tumour", "threshold", "predicted"]
        labels = {row["slide_id"]: row["label"] for row in self.rows}
        rows = [
            (name, f"p-{name}", labels[name], i % 3, f"{1 - p:.6f}", f"{p:.6f}", threshold, CLASSES[p >= threshold])
            for i, (name, p) in enumerate(probs.items())
        ]
        write_table(self.results / "predictions" / NAME / f"{entry}.csv", columns, rows)

    def add_targets(self) -> None:
        """Survival and two markers beside the classes of s1, s2 and s10; of the latter two scores of s1."""
        self.more_targets = {
            "survival": SurvivalTarget(kind="survival", time="months", event="died"),
            "markers": MultilabelTarget(kind="multilabel", columns=("er", "her2/neu")),
        }
        cells = {"s1": ("34.5", "1", "1", "0"), "s2": ("9", "0", "0", ""), "s10": ("120", "0", "", "")}
        for row in self.rows:
            row |= dict(zip(("months", "died", "er", "her2/neu"), cells.get(row["slide_id"], [""] * 4), strict=True))
        of_survival = [
            ("s1", "34.5 1", 0.75, 0.25, "high"),
            ("s2", "9.0 0", -1.5, 0.25, "low"),
            ("s10", "120.0 0", 12.0, 0.25, "high"),
        ]
        self.write_rows("survival", ["risk", "cutoff", "predicted"], of_survival)
        columns = [f"{name}_{label}" for label in ("er", "her2/neu") for name in ("prob", "threshold", "predicted")]
        of_markers = [("s1", "1 0", 0.9, 0.5, 1, 0.8, 0.3, 1), ("s2", "0 ?", 0.2, 0.5, 0, 0.1, 0.3, 0)]
        self.write_rows("markers", columns, of_markers)

    def write_rows(self, target: str, columns: list[str], rows: list[tuple[object, ...]], entry: str = "enc/abmil") -> None:
        """Predictions of a target: slide_id, label, then the columns of its kind."""
        lines = [(slide_id, f"p-{slide_id}", label, 0, *cells) for slide_id, label, *cells in rows]
        columns = ["slide_id", "patient_id", "label", "fold", *columns]
        write_table(self.results / "predictions" / target / f"{entry}.csv", columns, lines)

    def write_status(self, statuses: dict[str, tuple[str, str]]) -> None:
        """(status, reason) by slide_id."""
        path = self.results / "cohort_status.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["slide_id", "status", "reason", "warnings", "n_tiles_enc"])
            for slide_id, (status, reason) in statuses.items():
                writer.writerow([slide_id, status, reason, "", "425" if status == "ok" else "0"])
