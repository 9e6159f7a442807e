"""The two kinds of pages: the cohort and a slide."""

import math
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jinja2

from wsi_mil.config import Scale
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.colour_maps import colormap_names
from wsi_mil.tasks import read_shown_prediction
from wsi_mil.view.catalogue import NOT_RUN, Catalogue, CohortRow, Entry
from wsi_mil.view.deepzoom import TILE_PX, Pyramid
from wsi_mil.view.slide_images import SlideImage

SCALES: tuple[Scale, ...] = get_args(Scale)
COLORMAPS = ("viridis", "magma", "inferno", "cividis", "turbo", "coolwarm", "Reds")
"""Colour maps offered on the page, besides the configured one; a URL may name any other."""

SQUARE_TOLERANCE = 0.01
"""Relative difference of the sides of a pixel that a scale bar of 100 px cannot show."""

FIRST_METHODS = ("attention", "sparse_inversion")
"""Methods shown first (left and right) if the model supports them."""

PROTOCOL_NOTE = "epoch and threshold were chosen on the test fold (protocol: as_published): metrics are optimistic"
ROLE_NOTES = {
    "train": "training slide: the model was trained on it",
    "val": "validation slide: the model's epoch and threshold were chosen on it",
}


def cohort_page(catalogue: Catalogue, entry: Entry | None) -> str:
    """Return the HTML of the cohort page, with the predictions of one entry."""
    rows = catalogue.cohort_rows(entry)
    return _template("cohort.html").render(
        results=str(_short_path(catalogue.results)),
        notes=[*catalogue.notes, *_progress_notes(catalogue), *_held_out_warnings(rows)],
        entries=catalogue.entries,
        entry=entry,
        rows=[{"row": row, "data": cohort_row_json(row), "role": _role(row), **_probability(row.prediction)} for row in rows],
        statuses=_names(row.status for row in rows),
        labels=_names(row.label for row in rows),
        folds=_names(row.fold for row in rows),
        positive=_probability_class(rows),
        counts={status: sum(row.status == status for row in rows) for status in _names(row.status for row in rows)},
        n_wrong=sum(row.is_wrong for row in rows),
    )


def _role(row: CohortRow) -> str:
    """Mark of a slide whose prediction is by a model that used it in training or validation; "" for all others."""
    return ROLE_NOTES.get(row.prediction.get("role", ""), "").partition(":")[0]


def _held_out_warnings(rows: list[CohortRow]) -> list[str]:
    """Warnings about listed predictions that are not held out."""
    roles = {row.prediction.get("role") for row in rows}
    optimistic = any(row.prediction.get("protocol") == "as_published" for row in rows)
    warnings = [f"Marked as {text}." for role, text in ROLE_NOTES.items() if role in roles]
    return [*warnings, f"As published: {PROTOCOL_NOTE}."] if optimistic else warnings


def _no_scores_note(status: str) -> str:
    if status in ("ok", NOT_RUN):
        return "no scores of this slide for this model: `explain` has not finished, or another version of wsi_mil wrote them"
    return f"no scores of this slide for this model: the slide was excluded ({status})"


def cohort_row_json(row: CohortRow) -> dict[str, str]:
    """Return the texts by which the cohort page filters and sorts; booleans are "1" and ""."""
    prob = _probability(row.prediction)["prob"]
    return {
        "slide": row.slide_id,
        "patient": row.patient_id,
        "status": row.status,
        "reason": row.reason,
        "label": row.label,
        "predicted": row.predicted,
        "prob": "" if prob is None else str(prob),
        "fold": row.fold,
        "tiles": row.n_tiles,
        "wrong": "1" if row.is_wrong else "",
        "page": "1" if row.has_page else "",
    }


def _short_path(folder: Path) -> Path:
    """A folder relative to the current one, if it is inside."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def slide_page(catalogue: Catalogue, slide_id: str, image: SlideImage) -> str:
    """Return the HTML of the page of a slide. Raises UnknownNameError if there is no such slide."""
    catalogue.row(slide_id)
    return _template("slide.html").render(slide=slide_json(catalogue, slide_id, image), slide_id=slide_id)


def slide_json(catalogue: Catalogue, slide_id: str, image: SlideImage) -> dict[str, Any]:
    """Return the data of a slide for the script of its page."""
    row = catalogue.cohort_row(slide_id, {})
    ids = [name for name in catalogue.slide_ids if name in catalogue.path_safe_ids]
    position = ids.index(slide_id)
    colormaps = list(dict.fromkeys([catalogue.heatmap.colormap, *COLORMAPS]))
    return {
        "slide_id": slide_id,
        "patient_id": row.patient_id,
        "label": row.label,
        "status": row.status,
        "reason": row.reason,
        "image": _image_json(image),
        "entries": [_entry_json(catalogue, slide_id, entry) for entry in catalogue.entries],
        "tilings": list(catalogue.tiles_receipts(slide_id)),
        "has_truth": catalogue.row(slide_id).annotation is not None,
        "previous": ids[position - 1] if position else None,
        "next": ids[position + 1] if position + 1 < len(ids) else None,
        "position": [position + 1, len(ids)],
        "colormaps": [name for name in colormaps if name in colormap_names()],
        "scales": list(SCALES),
        "defaults": {"opacity": catalogue.heatmap.opacity, "map": catalogue.heatmap.colormap, "scale": catalogue.heatmap.scale},
        "notes": [note for note in (*catalogue.notes, image.note, _scale_note(image.mpp)) if note],
    }


def _scale_note(mpp: Mpp | None) -> str:
    """Note about pixels that are not square, which are drawn as if they were; "" for square ones."""
    if mpp is None or math.isclose(mpp.x, mpp.y, rel_tol=SQUARE_TOLERANCE):
        return ""
    size = f"{mpp.x:g} µm wide and {mpp.y:g} µm high"
    return f"pixels are {size}, but are drawn square: the scale bar is valid horizontally only"


def _image_json(image: SlideImage) -> dict[str, Any] | None:
    if image.dimensions is None:
        return None
    pyramid = Pyramid(image.dimensions)
    return {
        "dimensions": list(image.dimensions),
        "bounds": None if image.bounds is None else list(image.bounds),
        "version": image.version,
        "size": list(pyramid.size(image.max_level)),
        "max_level": image.max_level,
        "full_level": pyramid.max_level,
        "tile_px": TILE_PX,
        "mpp": None if image.mpp is None else [image.mpp.x, image.mpp.y],
    }


def _entry_json(catalogue: Catalogue, slide_id: str, entry: Entry) -> dict[str, Any]:
    """Prediction and explanation methods of one encoder × model for a slide; methods without scores have a reason."""
    receipt = catalogue.scores(slide_id, entry)
    prediction = catalogue.predictions(entry).get(slide_id, {})
    methods = receipt.get("methods", {})
    names = [name for name in FIRST_METHODS if name in methods] + [name for name in methods if name not in FIRST_METHODS]
    stamps = {name: str(receipt.get(name) or prediction.get(name, "")) for name in ("role", "protocol")}
    notes = [ROLE_NOTES[stamps["role"]]] if stamps["role"] in ROLE_NOTES else []
    notes += [PROTOCOL_NOTE] if stamps["protocol"] == "as_published" else []
    notes += [] if receipt else [_no_scores_note(catalogue.cohort_row(slide_id, {}).status)]
    return {
        **asdict(entry),
        "name": entry.name,
        "tiling": catalogue.tiling_of(slide_id, receipt),
        "methods": [{"name": n, "kind": methods[n].get("kind", ""), "reason": methods[n].get("reason", "")} for n in names],
        "prediction": {
            "predicted": prediction.get("predicted", ""),
            "fold": prediction.get("fold", ""),
            **_probability(prediction),
        },
        "notes": notes,
    }


def _probability(prediction: dict[str, str]) -> dict[str, Any]:
    """Probability shown for a slide, its class (the last of two, else the predicted one), and the threshold."""
    shown = read_shown_prediction(prediction)
    return {"prob": shown.value, "prob_of": shown.of, "threshold": shown.threshold}


def _probability_class(rows: list[CohortRow]) -> str:
    """Class whose probabilities the table shows; "" if it differs from slide to slide."""
    classes = {_probability(row.prediction)["prob_of"] for row in rows if row.prediction}
    return classes.pop() if len(classes) == 1 else ""


def _names(values: Any) -> list[str]:
    return sorted({value for value in values if value})


def _progress_notes(catalogue: Catalogue) -> list[str]:
    """Notes about the missing results of an unfinished run."""
    if not catalogue.statuses:
        return ["The run is not finished (there is no cohort_status.csv yet). The results so far are shown."]
    notes = [] if catalogue.entries else ["The run is not finished: there are no predictions and no scores yet."]
    n_unfinished = sum(row.status == NOT_RUN for row in catalogue.cohort_rows(None))
    if n_unfinished:
        notes.append(f"{n_unfinished} {'slide is' if n_unfinished == 1 else 'slides are'} not fully processed yet.")
    return notes


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("wsi_mil.view", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)
