"""Catalogue of a results folder, finished or not. The only place where a name sent by a browser becomes a path.

Every name is looked up in the catalogue before it is joined to a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.config import Heatmap, Truth
from wsi_mil.errors import StoreError, UnknownNameError, WsiMilError
from wsi_mil.files import read_table
from wsi_mil.receipts import TILE_IDENTITY, USUAL, file_hash, read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.tasks import Task
from wsi_mil.tasks.shown import PredictionText, is_wrong, label_text, prediction_text, task_of_columns
from wsi_mil.trust import UNTESTED, Trust, read_trust

NOT_RUN = "not run"
"""Status of a slide for which no stage has recorded a final status."""

LEFT = "no longer in the cohort: its results are from an earlier run"
"""Reason given for a slide that only files of an earlier run know."""

UNREADABLE = (WsiMilError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""Exceptions raised when a store or receipt is half-written or of another version."""


@dataclass(frozen=True)
class Entry:
    """A target with an encoder entry and a model entry."""

    target: str
    encoder: str
    model: str

    @property
    def name(self) -> str:
        """Name of encoder and model, as the pages show it."""
        return f"{self.encoder} · {self.model}"


@dataclass(frozen=True)
class CohortRow:
    """A row of the table on the cohort page, for one target.

    Attributes:
        task: what models learn for the target; None if it is unknown.
        status: ok, empty, failed, skipped, or `NOT_RUN`.
        reason: why it is not ok, and warnings.
        has_page: whether its name may be part of a path.
        has_picture: whether it has a thumbnail.
        n_tiles: number of tiles of the first encoder entry; "" if unknown.
        prediction: its row of the predictions; {} if there is none.
    """

    slide_id: str
    task: Task | None
    status: str
    reason: str
    label: str
    patient_id: str
    fold: str
    has_page: bool
    has_picture: bool
    n_tiles: str
    prediction: dict[str, str] = field(default_factory=dict)

    @property
    def label_text(self) -> str:
        """The label in words, or ""."""
        return label_text(self.task, self.label) if self.label else ""

    @cached_property
    def shown(self) -> PredictionText:
        """The prediction in words."""
        return prediction_text(self.prediction)

    @property
    def is_wrong(self) -> bool:
        """Whether the prediction contradicts the label."""
        return is_wrong(self.task, self.prediction, self.label)


@dataclass(frozen=True)
class Catalogue:
    """The current content of a results folder; renewed for every page.

    Attributes:
        results: the folder.
        tasks: what models learn for each target of the configuration, in its order; {} if it is unknown.
        rows: rows of the cohort sheet by slide_id; {} if the sheet is unknown.
        truth: settings for reading annotations.
        heatmap: initial settings of the overlays.
        notes: messages shown on every page.
    """

    results: Path
    tasks: Mapping[str, Task] = field(default_factory=dict)
    rows: dict[str, SlideRow] = field(default_factory=dict)
    truth: Truth = field(default_factory=Truth)
    heatmap: Heatmap = field(default_factory=Heatmap)
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> Results:
        """Where the files of the folder are."""
        return Results(self.results)

    @cached_property
    def targets(self) -> list[str]:
        """Targets of the configuration in its order, then others that there are results of."""
        return list(dict.fromkeys([*self.tasks, *self.layout.targets]))

    def target(self, name: str) -> str:
        """Look up a target; "" is the first one. Raises UnknownNameError if there is no such target."""
        if name and name not in self.targets:
            raise UnknownNameError(f"no target {name}")
        return name or next(iter(self.targets), "")

    def task(self, target: str) -> Task | None:
        """Return what models learn for a target, from the configuration or else from predictions; None if it is unknown."""
        if target in self.tasks:
            return self.tasks[target]
        rows = (row for entry in self.entries_of(target) for row in self.predictions(entry).values())
        return task_of_columns(next(rows, {}))

    @cached_property
    def _tables(self) -> dict[Path, dict[str, dict[str, str]]]:
        """Tables that have been read, by slide_id."""
        return {}

    def _by_slide(self, path: Path) -> dict[str, dict[str, str]]:
        """Rows of a table by slide_id; {} if the file does not exist yet."""
        if path not in self._tables:
            self._tables[path] = {row["slide_id"]: row for row in _table(path)}
        return self._tables[path]

    @cached_property
    def statuses(self) -> dict[str, dict[str, str]]:
        """Rows of `cohort_status.csv` by slide_id; {} if the file does not exist yet."""
        return self._by_slide(self.layout.cohort_status)

    def splits(self, target: str) -> dict[str, dict[str, str]]:
        """Return the rows of a target's splits by slide_id; {} if the file does not exist yet."""
        return self._by_slide(self.layout.target(target).splits) if target else {}

    @cached_property
    def tilings(self) -> list[str]:
        """Names of the tilings that have receipts of `tile`."""
        return self.layout.tilings

    @cached_property
    def entries(self) -> list[Entry]:
        """Every target × encoder × model that has predictions or scores."""
        return [Entry(target, *names) for target in self.targets for names in self.layout.target(target).entries]

    def entries_of(self, target: str) -> list[Entry]:
        """Return every encoder × model of a target."""
        return [entry for entry in self.entries if entry.target == target]

    @cached_property
    def slide_ids(self) -> list[str]:
        """Every slide named by the sheet, the statuses or receipts, in that order."""
        names = [*self.rows, *self.statuses]
        folders = [self.layout.tiles(tiling) for tiling in self.tilings]
        for folder in (*folders, *(self.layout.features(encoder) for encoder in self.layout.encoders)):
            names += sorted(file.stem for file in folder.glob("[!.]*.json"))
        return list(dict.fromkeys(names))

    @cached_property
    def path_safe_ids(self) -> frozenset[str]:
        """Slide_ids that may be part of a path."""
        return frozenset(name for name in self.slide_ids if SLIDE_ID.fullmatch(name))

    def entry(self, target: str, encoder: str, model: str) -> Entry:
        """Look up an encoder × model of a target. Raises UnknownNameError if there is no such entry."""
        if Entry(target, encoder, model) not in self.entries:
            raise UnknownNameError(f"no encoder × model {encoder} × {model} of target {target}")
        return Entry(target, encoder, model)

    def entry_or_first(self, target: str, encoder: str, model: str) -> Entry | None:
        """Return an encoder × model of a target; the first one if it is not named or another target's, None if there is none.

        Raises:
            UnknownNameError: no target has such an entry.
        """
        own = self.entries_of(target)
        if encoder and not any((entry.encoder, entry.model) == (encoder, model) for entry in self.entries):
            raise UnknownNameError(f"no encoder × model {encoder} × {model}")
        return next((entry for entry in own if (entry.encoder, entry.model) == (encoder, model)), next(iter(own), None))

    def row(self, slide_id: str) -> SlideRow:
        """Return the slide's row of the sheet; without a sheet, a row without a file.

        Raises:
            UnknownNameError: there is no such slide.
        """
        if slide_id not in self.path_safe_ids:
            raise UnknownNameError(f"no slide {slide_id}")
        return self.rows.get(slide_id) or SlideRow(slide_id, Path())

    def tiles_receipts(self, slide_id: str) -> dict[str, Path]:
        """Return the existing receipts of `tile` of a slide, by tiling."""
        name = self.row(slide_id).slide_id
        paths = {tiling: self.layout.tiles_receipt(tiling, name) for tiling in self.tilings}
        return {tiling: path for tiling, path in paths.items() if path.is_file()}

    def scores_receipt(self, slide_id: str, entry: Entry) -> Path:
        """Return the path of the receipt of `explain`, which may not exist."""
        known = self.entry(entry.target, entry.encoder, entry.model)
        return self.layout.target(known.target).scores_receipt(known.encoder, known.model, self.row(slide_id).slide_id)

    def scores(self, slide_id: str, entry: Entry) -> dict[str, Any]:
        """Read the receipt of `explain`; {} if it is missing or unreadable."""
        receipt = receipt_or_empty(self.scores_receipt(slide_id, entry))
        methods = receipt.get("methods")
        is_complete = isinstance(methods, dict) and all(isinstance(m, dict) for m in methods.values())
        return receipt if is_complete and isinstance(receipt.get("tiles"), dict) else {}

    def fine_receipts(self, slide_id: str, entry: Entry) -> tuple[Path, Path]:
        """Return the paths of the receipt of finer scores and of the description of their grid, which may not exist."""
        known = self.entry(entry.target, entry.encoder, entry.model)
        fine = self.layout.fine.target(known.target)
        names = (known.encoder, known.model, self.row(slide_id).slide_id)
        return fine.scores_receipt(*names), fine.cells_receipt(*names)

    def fine_methods(self, slide_id: str, entry: Entry) -> dict[str, dict[str, Any]]:
        """Return the methods of a slide's finer scores; {} if there are none, or if they were made with other usual scores."""
        receipt = receipt_or_empty(self.fine_receipts(slide_id, entry)[0])
        methods = receipt.get("methods")
        if receipt.get(USUAL) != file_hash(self.scores_receipt(slide_id, entry)) or not isinstance(methods, dict):
            return {}
        return methods if all(isinstance(m, dict) for m in methods.values()) else {}

    def tiling_of(self, slide_id: str, scores: dict[str, Any]) -> str | None:
        """Return the tiling that scores belong to, by the receipt of `explain`; None if it is gone."""
        wanted = [scores.get("tiles", {}).get(key) for key in TILE_IDENTITY]
        for tiling, path in self.tiles_receipts(slide_id).items():
            receipt = receipt_or_empty(path)
            if [receipt.get(key) for key in TILE_IDENTITY] == wanted:
                return tiling
        return None

    def trust(self, entry: Entry) -> Trust:
        """Read what is known of a model and its methods; `UNTESTED` without a file that can be read."""
        try:
            return read_trust(self.layout.target(entry.target).trust(entry.encoder, entry.model))
        except UNREADABLE:
            return UNTESTED

    def cohort_scale(self, entry: Entry) -> Path:
        """Return the path of the output of `heatmap-scale`, which may not exist."""
        return self.layout.target(entry.target).cohort_scale(entry.encoder, entry.model)

    def has_left(self, slide_id: str) -> bool:
        """Return whether only files of an earlier run know a slide."""
        return bool(self.statuses) and slide_id not in self.statuses and slide_id not in self.rows

    def current_scores(self, entry: Entry) -> tuple[list[Path], str]:
        """Return the receipts of `explain` that are of usable slides and of the latest models, and these models' fingerprint.

        Scores of slides that have left the cohort, or failed since, stay on disk, and so do those of earlier models until
        `explain` has scored the slide again.
        """
        usable = [name for name in self.slide_ids if name in self.path_safe_ids and self._is_usable(name)]
        paths = [self.scores_receipt(name, entry) for name in usable if self.scores(name, entry)]
        if not paths:
            return [], ""
        models_of = {path: str(receipt_or_empty(path).get("models", "")) for path in paths}
        latest = models_of[max(paths, key=lambda path: (models_of[path] != "", path.stat().st_mtime_ns))]
        return [path for path in paths if models_of[path] in (latest, "")], latest

    def _is_usable(self, slide_id: str) -> bool:
        return not self.statuses or self.statuses.get(slide_id, {}).get("status") == "ok"

    def labelled_scores(self, entry: Entry) -> list[Path]:
        """Return the existing receipts of `explain` of all slides that are labelled for the target."""
        labelled = [name for name in self.slide_ids if name in self.path_safe_ids and self.label(entry.target, name)]
        paths = [self.scores_receipt(name, entry) for name in labelled]
        return [path for path in paths if path.is_file()]

    def label(self, target: str, slide_id: str) -> str:
        """Return the label for a target from the sheet or the splits; "" if there is none."""
        if slide_id in self.rows:
            return self.rows[slide_id].labels.get(target, "")
        return self.splits(target).get(slide_id, {}).get("label", "")

    def predictions(self, entry: Entry) -> dict[str, dict[str, str]]:
        """Return the rows of an entry's predictions by slide_id; {} if there are none yet."""
        return self._by_slide(self.layout.target(entry.target).predictions(entry.encoder, entry.model))

    def cohort_rows(self, target: str, entry: Entry | None) -> list[CohortRow]:
        """Return a row for every slide, with its label for a target and the prediction of one of the target's entries."""
        predictions, task = self.predictions(entry) if entry else {}, self.task(target)
        return [self._cohort_row(name, target, task, predictions.get(name, {})) for name in self.slide_ids]

    def cohort_row(self, slide_id: str, target: str) -> CohortRow:
        """Return the row of a slide without a prediction."""
        return self._cohort_row(slide_id, target, self.task(target), {})

    def _cohort_row(self, slide_id: str, target: str, task: Task | None, prediction: dict[str, str]) -> CohortRow:
        status, reason, n_tiles = self.status(slide_id)
        split = self.splits(target).get(slide_id, {})
        row = self.rows.get(slide_id)
        return CohortRow(
            slide_id=slide_id,
            task=task,
            status=status,
            reason=reason,
            label=self.label(target, slide_id) or prediction.get("label", ""),
            patient_id=row.patient_id if row else split.get("patient_id", "") or prediction.get("patient_id", ""),
            fold=prediction.get("fold", "") or split.get("fold", ""),
            has_page=slide_id in self.path_safe_ids,
            has_picture=slide_id in self.path_safe_ids and self.thumbnail_store(slide_id) is not None,
            n_tiles=n_tiles,
            prediction=prediction,
        )

    def thumbnail_store(self, slide_id: str) -> Path | None:
        """Return a store of `tile`, which has a thumbnail; None if there is none."""
        stores = [path.with_suffix(".zarr") for path in self.tiles_receipts(slide_id).values()]
        return next((store for store in stores if store.is_dir()), None)

    def is_of_slides(self, encoder: str) -> bool:
        """Return whether an entry of `encoders` has one vector for each slide, and no tiles, by one of its receipts."""
        if encoder not in self._of_slides:
            receipt = next(iter(sorted(self.layout.features(encoder).glob("[!.]*.json"))), None)
            self._of_slides[encoder] = receipt is not None and receipt_or_empty(receipt).get("of") == "slide"
        return self._of_slides[encoder]

    @cached_property
    def _of_slides(self) -> dict[str, bool]:
        """Entries that have been looked at."""
        return {}

    def status(self, slide_id: str) -> tuple[str, str, str]:
        """Return status, reason with warnings, and number of tiles."""
        cells = self.statuses.get(slide_id)
        if cells:
            counts = {name.removeprefix("n_tiles_"): value for name, value in cells.items() if name.startswith("n_tiles_")}
            n_tiles = next((value for name, value in counts.items() if not self.is_of_slides(name)), "")
            messages = [text for text in (cells.get("reason"), cells.get("warnings")) if text]
            return cells.get("status") or NOT_RUN, "; ".join(messages), n_tiles
        if slide_id not in self.path_safe_ids:
            return NOT_RUN, "its slide_id is not a valid file name", ""
        tile_receipts = [receipt_or_empty(path) for path in self.tiles_receipts(slide_id).values()]
        feature_receipts = [receipt_or_empty(path) for path in self._features_receipts(slide_id)]
        n_tiles = next((str(receipt["n_tiles"]) for receipt in tile_receipts if "n_tiles" in receipt), "")
        if self.has_left(slide_id):
            return NOT_RUN, LEFT, n_tiles
        for receipt in (*tile_receipts, *feature_receipts):
            if receipt.get("status") not in (None, "ok"):
                return str(receipt["status"]), str(receipt.get("reason", "")), n_tiles
        if feature_receipts:
            return NOT_RUN, "features extracted; later stages have not finished", n_tiles
        if tile_receipts:
            return NOT_RUN, "tiled; later stages have not finished", n_tiles
        return NOT_RUN, "no stage has finished", ""

    def _features_receipts(self, slide_id: str) -> list[Path]:
        """Existing receipts of `extract` of a slide, whose slide_id must be path-safe."""
        paths = [self.layout.features_receipt(encoder, slide_id) for encoder in self.layout.encoders]
        return [path for path in paths if path.is_file()]


def receipt_or_empty(path: Path) -> dict[str, Any]:
    """Read a receipt; {} if it cannot be read."""
    try:
        return read_receipt(path)
    except StoreError:
        return {}


def tile_receipt_or_empty(path: Path) -> dict[str, Any]:
    """Read a receipt of `tile`; if its dimensions, mpp or bounds are invalid, return only its status and reason."""
    receipt = receipt_or_empty(path)
    sizes = [receipt.get("dimensions"), receipt.get("mpp")]
    if all(_are_numbers(pair, 2, 1e-9) for pair in sizes) and _are_numbers(receipt.get("bounds"), 4, 0.0):
        return {name: value for name, value in receipt.items() if value is not None or name == "bounds"}
    return {name: str(receipt[name]) for name in ("status", "reason") if name in receipt}


def _are_numbers(value: object, n: int, least: float) -> bool:
    """Whether a value is None or a list of `n` numbers, none below `least`."""
    if value is None:
        return True
    return isinstance(value, list) and len(value) == n and all(isinstance(part, int | float) and part >= least for part in value)


def _table(path: Path) -> list[dict[str, str]]:
    """Rows of a table with a slide_id; none if the file is missing or no such table."""
    try:
        rows = read_table(path)
    except (OSError, UnicodeDecodeError):
        return []
    plain = [{key: value or "" for key, value in row.items() if key is not None} for row in rows]
    return [row for row in plain if row.get("slide_id")]
