"""Everything that can be wrong with a configuration and its sheet, found before any job runs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort import Sheet, read_sheet, row_json
from wsi_mil.config import MHIM, TEACHERS, Config, Encoder, Heatmap, methods_of, nearest, parse_settings
from wsi_mil.encoders import advice, name_faults, network_identity, weights_hash
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.receipts import fingerprint, read_receipt, store_path
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.splits import Splits, draw_splits, missing_classes, mixed_patients, n_folds, read_splits, split_faults

ONLY_WITHIN_A_SLIDE = ("standardised_sum", "gradient_input", "sparse_inversion")
"""Methods whose scores have no cohort-wide scale: they are relative to their slide."""


MOST_NAMED = 5
"""Slides that a message names."""


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
            "slides": [{**row_json(row), **_annotation_hash(row)} for row in self.rows],
            "n_folds": self.n_folds,
            "methods": {entry: list(methods_of(self.config, entry)) for entry in self.config.models},
            "networks": {name: fingerprint(network_identity(e)) for name, e in self.config.extracted.items()},
        }


def _annotation_hash(row: SlideRow) -> dict[str, str]:
    """What tells an annotation from an edited one, so that pictures and figures follow it."""
    if row.annotation is None:
        return {}
    return {"annotation_hash": hashlib.sha256(row.annotation.read_bytes()).hexdigest()[:16]}


def check(values: Mapping[str, object], *, needs_slides: bool = True) -> Plan:
    """Validate a configuration and its sheet.

    Args:
        values: the configuration as read.
        needs_slides: whether a slide file that does not exist is a fault; unless its slide is tiled already.

    Raises:
        ConfigError: with every fault at once.
    """
    faults: list[str] = []
    try:
        config = parse_settings(Config, values)
    except ConfigError as error:
        faults = list(error.faults)
        sheet = _sheet_of_faulty(values, needs_slides=needs_slides)
        raise ConfigError(faults + list(sheet.faults)) from error
    sheet = read_sheet(
        config.cohort,
        config.classes,
        needs_path=bool(config.extracted),
        needs_file=lambda slide_id: needs_slides and not is_tiled(slide_id, config),
    )
    faults += _reference_faults(config) + list(sheet.faults)
    if not sheet.faults:
        faults += import_faults(config, sheet.rows)
        faults += mistaken_faults(config, sheet.rows)
        faults += mixed_patients(sheet.rows) if config.bag == "patient" else []
        faults += _annotation_faults(config, sheet)
        faults += _split_faults(config, sheet)
    if faults:
        raise ConfigError(faults)
    return Plan(config, sheet.rows, _n_folds(config, sheet), tuple(_warnings(config, sheet)))


def _sheet_of_faulty(values: Mapping[str, object], *, needs_slides: bool) -> Sheet:
    """The sheet of a configuration that has other faults, where it can be read at all."""
    cohort, classes = values.get("cohort"), values.get("classes")
    if isinstance(cohort, str) and isinstance(classes, list) and all(isinstance(c, str) for c in classes):
        return read_sheet(Path(cohort), tuple(classes), needs_file=lambda _: needs_slides)
    return Sheet((), ())


def _reference_faults(config: Config) -> list[str]:
    faults = []
    for entry in config.imported:
        if any(encoder.tiling == entry for encoder in config.extracted.values()):
            faults.append(f"encoders.{entry}: its imported tiles would lie where those of the tiling of this name lie")
    for entry, encoder in config.extracted.items():
        if encoder.tiling not in config.tilings:
            faults.append(f"encoders.{entry}.tiling: no tiling {encoder.tiling!r}{nearest(encoder.tiling, list(config.tilings))}")
        faults += name_faults(entry, encoder.encoder, encoder.weights)
    faults += _model_faults(config)
    if config.trained is not None and config.trained.resolve() == config.results.resolve():
        faults.append("trained: must be another folder than results, or its splits and models would be overwritten")
    if config.heatmap.colormap != Heatmap().colormap:
        faults += _colormap_faults(config.heatmap.colormap)
    if config.splits is not None and config.trained is not None:
        faults.append("splits: cannot stand beside trained, which brings its own splits")
    return faults


def _following(config: Config, sheet: Sheet) -> dict[str, list[SlideRow]]:
    """Slides whose annotation decides over their tissue or tiles, by the key that says so."""
    used = {encoder.tiling for encoder in config.extracted.values()} & set(config.tilings)
    by_tiling = {
        f"tilings.{name}.min_annotation": list(sheet.rows) for name in sorted(used) if config.tilings[name].min_annotation
    }
    method = "tissue.method"
    is_tiled_here = bool(config.extracted)
    outlined = [r for r in sheet.rows if is_tiled_here and r.overrides.get(method, config.tissue.method) == "annotation"]
    return {**by_tiling, **({f"{method}: annotation": outlined} if outlined else {})}


def _annotation_faults(config: Config, sheet: Sheet) -> list[str]:
    """Slides without the annotation that they are tiled by."""
    faults = []
    for key, rows in _following(config, sheet).items():
        without = [row.slide_id for row in rows if row.annotation is None]
        if without:
            faults.append(f"{key} needs an annotation, and the sheet's `annotation` column has none for {_named(without)}")
    return faults


def _model_faults(config: Config) -> list[str]:
    """Bases that are not there or cannot teach, and methods that no model offers."""
    faults = []
    for entry, settings in config.models.items():
        if isinstance(settings, MHIM):
            faults += _base_faults(config, f"models.{entry}.base", settings.base)
    if faults or "methods" not in config.explain.model_fields_set:
        return faults  # of the default methods each model has those that it offers
    return [
        f"explain.methods: {method} is offered by none of the models {', '.join(config.models)}"
        for method in config.explain.methods
        if not any(method in methods_of(config, entry) for entry in config.models)
    ]


def _base_faults(config: Config, key: str, base: str) -> list[str]:
    teachers = [name for name, settings in config.models.items() if settings.model in TEACHERS]
    if base not in config.models:
        return [f"{key}: no entry {base!r} in models{nearest(base, teachers)}"]
    kind = config.models[base].model
    return [] if kind in TEACHERS else [f"{key}: {base!r} is {kind}, but mhim stands on {', '.join(TEACHERS)}"]


def _colormap_faults(name: str) -> list[str]:
    from wsi_mil.heatmaps.overlay import colormap_names

    known = colormap_names()
    return [] if name in known else [f"heatmap.colormap: matplotlib has no {name!r}{nearest(name, known)[:60]}"]


def is_tiled(slide_id: str, config: Config) -> bool:
    """Whether a slide has a receipt of every tiling in use already, so that later stages can go on without its file."""
    used = {encoder.tiling for encoder in config.extracted.values()}
    return all((config.results / "tiles" / name / f"{slide_id}.json").is_file() for name in used)


def _split_faults(config: Config, sheet: Sheet) -> list[str]:
    if config.trained is not None:
        return _trained_faults(config, config.trained, sheet)
    if config.splits is not None:
        return _frozen_faults(config, sheet, config.splits)
    labelled = [row for row in sheet.rows if row.label]
    faults = split_faults(labelled, config.classes, config.split)
    if not faults:
        try:
            splits = draw_splits(labelled, config.classes, config.split)
        except ValueError as error:
            return [f"split: these slides cannot be split ({error})"]
        faults = _class_faults(splits, config)
    return faults


def _class_faults(splits: Splits, config: Config) -> list[str]:
    return [fault for fold in range(splits.n_folds) for fault in missing_classes(splits, fold, config.classes, config.protocol)]


def _frozen_faults(config: Config, sheet: Sheet, frozen: Path) -> list[str]:
    """Why a splits file does not fit the sheet."""
    try:
        splits = read_splits(frozen)
    except StoreError as error:
        return [f"splits: {error}"]
    faults = [
        f"splits: {frozen} has {name} {have[row.slide_id]!r} for slide {row.slide_id}, the sheet {getattr(row, name)!r}"
        for row in sheet.rows
        for name, have in (("label", splits.labels), ("patient_id", splits.patients))
        if row.slide_id in have and have[row.slide_id] != getattr(row, name)
    ]
    return faults + _class_faults(splits, config)


def import_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Slides of the sheet without the features that were to be imported, by encoder entry, and the command that brings them."""
    faults = []
    for entry in config.imported:
        missing: dict[str, list[str]] = {}
        for row in rows:
            reason = why_not_imported(config.results, entry, row.slide_id)
            if reason:
                missing.setdefault(reason, []).append(row.slide_id)
        command = f"wsi-mil import-features FILES --encoder {entry} --results {config.results} --slides {config.cohort}"
        faults += [f"encoders.{entry}: {reason} for {_named(slides)}; run `{command}`" for reason, slides in missing.items()]
    return faults


def mistaken_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Imported tiles and features where the run's own are to lie. Snakemake would take them for those: it knows no job that
    made them, and they are newer than what goes into them.
    """
    tilings = {encoder.tiling for encoder in config.extracted.values()}
    own = [*(("features", entry, "layout") for entry in config.extracted), *(("tiles", t, "imported") for t in sorted(tilings))]
    faults = []
    for stage, name, mark in own:
        folder = config.results / stage / name
        found = [row.slide_id for row in rows if mark in _said(folder / f"{row.slide_id}.json")]
        if found:
            mend = f"give {name!r} another name in the configuration, or delete the folder"
            faults.append(f"{folder}: imported {stage} of {_named(found)}, which the run would take for its own; {mend}")
    return faults


def _said(receipt: Path) -> dict[str, object]:
    """What a receipt says; nothing where there is none that can be read."""
    try:
        return read_receipt(receipt) if receipt.is_file() else {}
    except StoreError:
        return {}


def why_not_imported(results: Path, entry: str, slide_id: str) -> str:
    """Why a slide cannot be taken from imported features, or ""."""
    features, tiles = (results / stage / entry / f"{slide_id}.json" for stage in ("features", "tiles"))
    if not features.is_file():
        is_interrupted = store_path(features).exists()
        return "a store without its receipt (the import was interrupted)" if is_interrupted else "no imported features"
    if not tiles.is_file() or "imported" not in read_receipt(tiles):
        return "features that were not imported, or no tiles beside them"
    return ""


def _named(slides: Sequence[str]) -> str:
    more = f" and {len(slides) - MOST_NAMED} more" if len(slides) > MOST_NAMED else ""
    return ", ".join(slides[:MOST_NAMED]) + more


def _trained_faults(config: Config, trained: Path, sheet: Sheet) -> list[str]:
    try:
        folds = read_splits(trained / "splits.csv").n_folds
    except StoreError as error:
        return [f"trained: {error}"]
    return [
        fault
        for entry, encoder in config.encoders.items()
        for model in config.models
        for fold in range(folds)
        for fault in _card_faults(config, trained / "models" / entry / model / f"fold-{fold}" / "config.json", encoder, model)
    ] + [
        fault
        for entry in config.imported
        for model in config.models
        for fault in _unfit_features(config, trained / "models" / entry / model / "fold-0" / "config.json", entry, sheet)
    ]


def _unfit_features(config: Config, path: Path, entry: str, sheet: Sheet) -> list[str]:
    """What tells imported features from those that a model was trained on, with the slides where it does."""
    if not path.is_file():
        return []  # is a fault of its own
    card, unfit = read_receipt(path), dict[str, list[str]]()
    for row in sheet.rows:
        receipt = config.results / "features" / entry / f"{row.slide_id}.json"
        said = read_receipt(receipt) if receipt.is_file() else {"status": "missing"}
        for key, want in {**card["encoder"], "dim": card["feature_dim"]}.items() if said["status"] == "ok" else ():
            if said.get(key) != want:
                unfit.setdefault(f"{key} {want!r}, imported features have {said.get(key)!r}", []).append(row.slide_id)
    return [f"trained: {path} was trained with {what} ({_named(slides)})" for what, slides in unfit.items()]


def _made_by(config: Config, encoder: Encoder) -> dict[str, object]:
    """What a model's card must say of its encoder; of imported features each slide is asked when it is predicted."""
    if encoder.is_imported:
        return {}
    tiling = config.tilings.get(encoder.tiling)
    weights = weights_hash(encoder.encoder, encoder.weights)
    scale: dict[str, object] = {"mpp": tiling.mpp, "tile_px": tiling.tile_px} if tiling else {}
    return {"encoder": encoder.encoder, "weights_hash": weights, **scale}


def _card_faults(config: Config, path: Path, encoder: Encoder, entry: str) -> list[str]:
    """Why the model of a card cannot be used here as an entry of `models`."""
    try:
        card = read_receipt(path)
    except StoreError:
        return [f"trained: no model {path}; its folder needs the encoder and model entries of this configuration"]
    faults = [
        f"trained: {path} was trained with {key} {card['encoder'][key]!r}, here it is {value!r}"
        for key, value in _made_by(config, encoder).items()
        if card["encoder"][key] != value
    ]
    kind = card.get("settings", {}).get("model")
    if kind != config.models[entry].model:
        faults.append(f"trained: {path} is a model of kind {kind}, here models.{entry} is {config.models[entry].model}")
    if card.get("unit") != config.bag:
        faults.append(f"trained: {path} was trained on bags of a {card.get('unit')}, here bag is {config.bag}")
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
        f"slide {row.slide_id}: {row.path} is gone; what was made from it is used"
        for row in sheet.rows
        if row.path != NO_PATH and not row.path.is_file() and is_tiled(row.slide_id, config)
    ]
    found += [
        f"models.{entry}: does not offer {method}, which is left out for it"
        for entry in config.models
        for method in config.explain.methods
        if method not in methods_of(config, entry)
    ]
    found += _scale_warnings(config)
    for entry, encoder in config.extracted.items():
        tiling = config.tilings[encoder.tiling]
        found += advice(entry, encoder, mpp=tiling.mpp, tile_px=tiling.tile_px)
    found += [
        f"{key}: {len(rows)} slides are tiled by their annotations: held against the same ones, explanations look better than"
        " they are, and where only one class is outlined, outlining gives the label away"
        for key, rows in _following(config, sheet).items()
    ]
    if config.protocol == "as_published" and config.trained is None:
        found.append("protocol as_published: epoch and threshold are chosen on the test fold, so figures are optimistic")
    if config.splits is not None:
        known = read_splits(config.splits).patients
        missing = [row.slide_id for row in sheet.rows if row.label and row.slide_id not in known]
        if missing:
            found.append(f"splits: {len(missing)} labelled slides are not in {config.splits}: predicted, not trained on")
    return found


def _scale_warnings(config: Config) -> list[str]:
    if config.heatmap.scale != "cohort":
        return []
    return [
        f"heatmap.scale: {method} cannot be compared across slides, so its pictures keep each slide's own scale"
        for method in config.explain.methods
        if method in ONLY_WITHIN_A_SLIDE
    ]
