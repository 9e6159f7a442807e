"""What lies in a results folder, finished or not: the only place where a name that a browser sends becomes a path.

Every name is looked up among those that were found; none is joined into a path before.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.config import Heatmap, Truth
from wsi_mil.errors import StoreError, UnknownNameError, WsiMilError
from wsi_mil.files import read_table
from wsi_mil.receipts import TILE_IDENTITY, read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.results import Results

NOT_RUN = "not run"
"""Status of a slide that no stage has said anything final of."""

UNREADABLE = (WsiMilError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What a store or a receipt that is half-written, or of another version, may raise on reading."""


@dataclass(frozen=True)
class Entry:
    """One encoder × model."""

    encoder: str
    model: str

    @property
    def name(self) -> str:
        """How it is called on the pages."""
        return f"{self.encoder} · {self.model}"


@dataclass(frozen=True)
class Line:
    """What the cohort page says of a slide.

    Attributes:
        status: ok, empty, failed, skipped, or `NOT_RUN`.
        reason: why it is not ok, and warnings.
        has_page: whether its name may stand in a path.
        has_picture: whether a thumbnail of it was kept.
        n_tiles: as many as the first encoder entry has, "" where that is not known.
        prediction: its row of the predictions, {} where there is none.
    """

    slide_id: str
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
    def predicted(self) -> str:
        """Name of the predicted class, or ""."""
        return self.prediction.get("predicted", "")

    @property
    def is_wrong(self) -> bool:
        """Whether it is predicted as something else than its label."""
        return bool(self.label and self.predicted and self.label != self.predicted)


@dataclass(frozen=True)
class Catalogue:
    """A results folder, as it is at the moment; made anew for every page.

    Attributes:
        results: the folder.
        rows: of the cohort sheet, by slide_id; {} where none is known.
        truth: how annotations are read.
        heatmap: what the overlays start with.
        notes: what is to be said of all this.
    """

    results: Path
    rows: dict[str, SlideRow] = field(default_factory=dict)
    truth: Truth = field(default_factory=Truth)
    heatmap: Heatmap = field(default_factory=Heatmap)
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> Results:
        """Where the files of the folder are."""
        return Results(self.results)

    @cached_property
    def statuses(self) -> dict[str, dict[str, str]]:
        """Rows of `cohort_status.csv` by slide_id; {} where it is not there yet."""
        return {row["slide_id"]: row for row in _table(self.layout.cohort_status)}

    @cached_property
    def splits(self) -> dict[str, dict[str, str]]:
        """Rows of `splits.csv` by slide_id; {} where it is not there yet."""
        return {row["slide_id"]: row for row in _table(self.layout.splits)}

    @cached_property
    def tilings(self) -> list[str]:
        """Folders with receipts of `tile`."""
        return self.layout.tilings

    @cached_property
    def entries(self) -> list[Entry]:
        """Every encoder × model that has predicted or explained anything."""
        return [Entry(encoder, model) for encoder, model in self.layout.entries]

    @cached_property
    def slide_ids(self) -> list[str]:
        """Every slide that sheet, statuses or receipts name, in that order."""
        names = [*self.rows, *self.statuses]
        folders = [self.layout.tiles(tiling) for tiling in self.tilings]
        for folder in (*folders, *(self.layout.features(encoder) for encoder in self.layout.encoders)):
            names += sorted(file.stem for file in folder.glob("[!.]*.json"))
        return list(dict.fromkeys(names))

    @cached_property
    def known(self) -> frozenset[str]:
        """Names of slides that may stand in a path."""
        return frozenset(name for name in self.slide_ids if SLIDE_ID.fullmatch(name))

    def entry(self, encoder: str, model: str) -> Entry:
        """Raises UnknownNameError where there is no such encoder × model."""
        if Entry(encoder, model) not in self.entries:
            raise UnknownNameError(f"no encoder × model {encoder} × {model}")
        return Entry(encoder, model)

    def row(self, slide_id: str) -> SlideRow:
        """The slide's row of the sheet, or one without a file.

        Raises:
            UnknownNameError: no such slide.
        """
        if slide_id not in self.known:
            raise UnknownNameError(f"no slide {slide_id}")
        return self.rows.get(slide_id) or SlideRow(slide_id, Path())

    def tiles_receipts(self, slide_id: str) -> dict[str, Path]:
        """Receipts of `tile` of a slide, by tiling."""
        name = self.row(slide_id).slide_id
        found = {tiling: self.layout.tiles_receipt(tiling, name) for tiling in self.tilings}
        return {tiling: path for tiling, path in found.items() if path.is_file()}

    def scores_receipt(self, slide_id: str, entry: Entry) -> Path:
        """Receipt of `explain`, which may not be there."""
        found = self.entry(entry.encoder, entry.model)
        return self.layout.scores_receipt(found.encoder, found.model, self.row(slide_id).slide_id)

    def scores(self, slide_id: str, entry: Entry) -> dict[str, Any]:
        """What the receipt of `explain` says; {} where there is none, or none that could be read."""
        about = receipt_or_nothing(self.scores_receipt(slide_id, entry))
        methods = about.get("methods")
        is_whole = isinstance(methods, dict) and all(isinstance(m, dict) for m in methods.values())
        return about if is_whole and isinstance(about.get("tiles"), dict) else {}

    def tiling_of(self, slide_id: str, scores: dict[str, Any]) -> str | None:
        """The tiling that scores were made on, by what their receipt says; None where it is not there."""
        wanted = [scores.get("tiles", {}).get(key) for key in TILE_IDENTITY]
        for tiling, path in self.tiles_receipts(slide_id).items():
            about = receipt_or_nothing(path)
            if [about.get(key) for key in TILE_IDENTITY] == wanted:
                return tiling
        return None

    def cohort_scale(self, entry: Entry) -> Path:
        """What `heatmap-scale` wrote, which may not be there."""
        return self.layout.cohort_scale(entry.encoder, entry.model)

    def labelled_scores(self, entry: Entry) -> list[Path]:
        """Receipts of `explain` of all labelled slides that have one."""
        paths = [self.scores_receipt(name, entry) for name in self.slide_ids if name in self.known and self.label(name)]
        return [path for path in paths if path.is_file()]

    def label(self, slide_id: str) -> str:
        """By the sheet, or by the splits; "" where there is none."""
        return self.rows[slide_id].label if slide_id in self.rows else self.splits.get(slide_id, {}).get("label", "")

    def predictions(self, entry: Entry) -> dict[str, dict[str, str]]:
        """Rows of an entry's predictions by slide_id; {} where they are not there yet."""
        return {row["slide_id"]: row for row in _table(self.layout.predictions(entry.encoder, entry.model))}

    def lines(self, entry: Entry | None) -> list[Line]:
        """Every slide, with what an entry predicts of it."""
        predictions = self.predictions(entry) if entry else {}
        return [self.line(name, predictions.get(name, {})) for name in self.slide_ids]

    def line(self, slide_id: str, prediction: dict[str, str]) -> Line:
        """What is known of a slide."""
        status, reason, n_tiles = self._status(slide_id)
        split, row = self.splits.get(slide_id, {}), self.rows.get(slide_id)
        return Line(
            slide_id=slide_id,
            status=status,
            reason=reason,
            label=self.label(slide_id) or prediction.get("label", ""),
            patient_id=row.patient_id if row else split.get("patient_id", "") or prediction.get("patient_id", ""),
            fold=prediction.get("fold", "") or split.get("fold", ""),
            has_page=slide_id in self.known,
            has_picture=slide_id in self.known and self.thumbnail_store(slide_id) is not None,
            n_tiles=n_tiles,
            prediction=prediction,
        )

    def thumbnail_store(self, slide_id: str) -> Path | None:
        """A store of `tile`, with a thumbnail; None where there is none."""
        stores = [path.with_suffix(".zarr") for path in self.tiles_receipts(slide_id).values()]
        return next((store for store in stores if store.is_dir()), None)

    def _status(self, slide_id: str) -> tuple[str, str, str]:
        """Status, reason with warnings, and number of tiles."""
        cells = self.statuses.get(slide_id)
        if cells:
            n_tiles = next((value for name, value in cells.items() if name.startswith("n_tiles_")), "")
            said = [text for text in (cells.get("reason"), cells.get("warnings")) if text]
            return cells.get("status") or NOT_RUN, "; ".join(said), n_tiles
        if slide_id not in self.known:
            return NOT_RUN, "its name cannot be that of a file", ""
        tiled = [receipt_or_nothing(path) for path in self.tiles_receipts(slide_id).values()]
        featured = [receipt_or_nothing(path) for path in self._features_receipts(slide_id)]
        n_tiles = next((str(about["n_tiles"]) for about in tiled if "n_tiles" in about), "")
        for about in (*tiled, *featured):
            if about.get("status") not in (None, "ok"):
                return str(about["status"]), str(about.get("reason", "")), n_tiles
        if featured:
            return NOT_RUN, "features are there; what comes after is not finished", n_tiles
        if tiled:
            return NOT_RUN, "tiled; what comes after is not finished", n_tiles
        return NOT_RUN, "no stage has finished on it", ""

    def _features_receipts(self, slide_id: str) -> list[Path]:
        """Receipts of `extract` of a slide, of every encoder entry that has one; its name is known."""
        found = [self.layout.features_receipt(encoder, slide_id) for encoder in self.layout.encoders]
        return [path for path in found if path.is_file()]


def receipt_or_nothing(path: Path) -> dict[str, Any]:
    """What a receipt says; {} where it cannot be read."""
    try:
        return read_receipt(path)
    except StoreError:
        return {}


def tiled_or_nothing(path: Path) -> dict[str, Any]:
    """What a receipt of `tile` says; of one whose numbers are none, only why."""
    about = receipt_or_nothing(path)
    sizes = [about.get("dimensions"), about.get("mpp")]
    if all(_is_numbers(pair, 2, 1e-9) for pair in sizes) and _is_numbers(about.get("bounds"), 4, 0.0):
        return {name: value for name, value in about.items() if value is not None or name == "bounds"}
    return {name: str(about[name]) for name in ("status", "reason") if name in about}


def _is_numbers(value: object, n: int, least: float) -> bool:
    """Whether it is so many numbers, none below `least`, or nothing."""
    if value is None:
        return True
    return isinstance(value, list) and len(value) == n and all(isinstance(part, int | float) and part >= least for part in value)


def _table(path: Path) -> list[dict[str, str]]:
    """Rows of a table that has slides; none where it is not there, or is no such table."""
    try:
        rows = read_table(path)
    except (OSError, UnicodeDecodeError):
        return []
    plain = [{key: value or "" for key, value in row.items() if key is not None} for row in rows]
    return [row for row in plain if row.get("slide_id")]
