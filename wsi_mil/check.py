"""Everything that can be wrong with a configuration and its sheet, found before any job runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort import Sheet, read_sheet, row_json
from wsi_mil.config import Config, Encoder, nearest, parse_settings
from wsi_mil.encoders import name_faults
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.records import SlideRow
from wsi_mil.splits import draw_splits, n_folds, read_splits, split_faults
from wsi_mil.store import read_receipt


@dataclass(frozen=True)
class Plan:
    """A configuration that can be run.

    Attributes:
        config: with every default filled in.
        rows: the sheet.
        n_folds: models of each encoder × model entry.
        warnings: what a user should know before the run.
    """

    config: Config
    rows: tuple[SlideRow, ...]
    n_folds: int
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The plan as the rules read it: paths as text, empty cells left out."""
        return {
            "config": self.config.model_dump(mode="json"),
            "slides": [row_json(row) for row in self.rows],
            "n_folds": self.n_folds,
        }


def check(values: Mapping[str, object]) -> Plan:
    """Validate a configuration and its sheet.

    Raises:
        ConfigError: with every fault at once.
    """
    faults: list[str] = []
    try:
        config = parse_settings(Config, values)
    except ConfigError as error:
        faults = list(error.faults)
        sheet = _sheet_of_faulty(values)
        raise ConfigError(faults + list(sheet.faults)) from error
    sheet = read_sheet(config.cohort, config.classes, needs_file=lambda slide_id: not _is_tiled(slide_id, config))
    faults += _reference_faults(config) + list(sheet.faults)
    if not sheet.faults:
        faults += _split_faults(config, sheet)
    if faults:
        raise ConfigError(faults)
    return Plan(config, sheet.rows, _n_folds(config, sheet), tuple(_warnings(config, sheet)))


def _sheet_of_faulty(values: Mapping[str, object]) -> Sheet:
    """The sheet of a configuration that has other faults, where it can be read at all."""
    cohort, classes = values.get("cohort"), values.get("classes")
    if isinstance(cohort, str) and isinstance(classes, list) and all(isinstance(c, str) for c in classes):
        return read_sheet(Path(cohort), tuple(classes), needs_file=lambda _: True)
    return Sheet((), ())


def _reference_faults(config: Config) -> list[str]:
    faults = []
    for entry, encoder in config.encoders.items():
        if encoder.tiling not in config.tilings:
            faults.append(f"encoders.{entry}.tiling: no tiling {encoder.tiling!r}{nearest(encoder.tiling, list(config.tilings))}")
        faults += name_faults(entry, encoder.encoder, encoder.weights)
    if config.splits is not None and config.trained is not None:
        faults.append("splits: cannot stand beside trained, which brings its own splits")
    return faults


def _is_tiled(slide_id: str, config: Config) -> bool:
    """Whether a slide has a receipt of every tiling already, so that later stages can go on without its file."""
    return all((config.results / "tiles" / name / f"{slide_id}.json").is_file() for name in config.tilings)


def _split_faults(config: Config, sheet: Sheet) -> list[str]:
    if config.trained is not None:
        return _trained_faults(config, config.trained)
    if config.splits is not None:
        try:
            read_splits(config.splits)
        except StoreError as error:
            return [f"splits: {error}"]
        return []
    labelled = [row for row in sheet.rows if row.label]
    faults = split_faults(labelled, config.classes, config.split)
    if not faults:
        try:
            draw_splits(labelled, config.classes, config.split)
        except ValueError as error:
            faults.append(f"split: these slides cannot be split ({error})")
    return faults


def _trained_faults(config: Config, trained: Path) -> list[str]:
    try:
        folds = read_splits(trained / "splits.csv").n_folds
    except StoreError as error:
        return [f"trained: {error}"]
    return [
        fault
        for entry, encoder in config.encoders.items()
        for model in config.models
        for fold in range(folds)
        for fault in _card_faults(config, trained / "models" / entry / model / f"fold-{fold}" / "config.json", encoder)
    ]


def _card_faults(config: Config, path: Path, encoder: Encoder) -> list[str]:
    """Why the model of a card cannot be used here."""
    try:
        card = read_receipt(path)
    except StoreError:
        return [f"trained: no model {path}; its folder needs the encoder and model entries of this configuration"]
    tiling = config.tilings.get(encoder.tiling)
    wanted = {"encoder": encoder.encoder, **({"mpp": tiling.mpp, "tile_px": tiling.tile_px} if tiling else {})}
    faults = [
        f"trained: {path} was trained with {key} {card['encoder'][key]!r}, here it is {value!r}"
        for key, value in wanted.items()
        if card["encoder"][key] != value
    ]
    if card["classes"] != list(config.classes):
        faults.append(f"trained: {path} was trained on classes {card['classes']}, here they are {list(config.classes)}")
    return faults


def _n_folds(config: Config, sheet: Sheet) -> int:
    if config.trained is not None:
        return read_splits(config.trained / "splits.csv").n_folds
    if config.splits is not None:
        return read_splits(config.splits).n_folds
    return n_folds(sheet.rows, config.split)


def _warnings(config: Config, sheet: Sheet) -> list[str]:
    found = [
        f"slide {row.slide_id}: {row.path} is gone; what was made from it is used" for row in sheet.rows if not row.path.is_file()
    ]
    if config.splits is not None:
        known = read_splits(config.splits).patients
        missing = [row.slide_id for row in sheet.rows if row.label and row.slide_id not in known]
        if missing:
            found.append(f"splits: {len(missing)} labelled slides are not in {config.splits}: predicted, not trained on")
    return found
