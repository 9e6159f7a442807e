"""The two pages: the cohort, and one slide."""

import math
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jinja2

from wsi_mil.config import Scale
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.overlay import colormap_names
from wsi_mil.tasks import read_shown_prediction
from wsi_mil.view.catalogue import NOT_RUN, Catalogue, Entry, Line
from wsi_mil.view.deepzoom import TILE_PX, Pyramid
from wsi_mil.view.slide_images import Ground

SCALES: tuple[Scale, ...] = get_args(Scale)
OFFERED_MAPS = ("viridis", "magma", "inferno", "cividis", "turbo", "coolwarm", "Reds")
"""Colour maps on the page, beside that of the configuration; the address may name any other."""

SQUARE = 0.01
"""Pixels whose sides differ by less are square, to what a scale bar of 100 px can show."""

FIRST_METHODS = ("attention", "sparse_inversion")
"""Shown first, and beside it, where a model offers them."""

PROTOCOL_NOTE = "epoch and threshold were chosen on the test fold (protocol: as_published): figures are optimistic"
SEEN = {"train": "training slide: its model has seen it", "val": "validation slide: it chose its model's epoch and threshold"}


def cohort_page(catalogue: Catalogue, entry: Entry | None) -> str:
    """HTML of the cohort, with what one entry predicts."""
    lines = catalogue.lines(entry)
    return _template("cohort.html").render(
        results=str(_from_here(catalogue.results)),
        notes=[*catalogue.notes, *_missing(catalogue), *_not_held_out(lines)],
        entries=catalogue.entries,
        entry=entry,
        lines=[{"line": line, "about": line_about(line), "seen": _mark(line), **_shown(line.prediction)} for line in lines],
        statuses=_names(line.status for line in lines),
        labels=_names(line.label for line in lines),
        folds=_names(line.fold for line in lines),
        positive=_positive(lines),
        counts={status: sum(line.status == status for line in lines) for status in _names(line.status for line in lines)},
        n_wrong=sum(line.is_wrong for line in lines),
    )


def _mark(line: Line) -> str:
    """What a slide is called whose prediction is by a model that has seen it; "" for all others."""
    return SEEN.get(line.prediction.get("role", ""), "").partition(":")[0]


def _not_held_out(lines: list[Line]) -> list[str]:
    """Of what is listed, what says nothing of new slides."""
    roles = {line.prediction.get("role") for line in lines}
    optimistic = any(line.prediction.get("protocol") == "as_published" for line in lines)
    return [f"Marked {text}." for role, text in SEEN.items() if role in roles] + [f"As published: {PROTOCOL_NOTE}."] * optimistic


def _why_no_scores(status: str) -> str:
    if status in ("ok", NOT_RUN):
        return "no scores of this slide by this model can be read: `explain` has not finished on it, or not in this version"
    return f"no scores of this slide by this model: it was left out ({status})"


def line_about(line: Line) -> dict[str, str]:
    """What the cohort page filters and sorts by, as text; "1" stands for yes, "" for no."""
    prob = _shown(line.prediction)["prob"]
    return {
        "slide": line.slide_id,
        "patient": line.patient_id,
        "status": line.status,
        "reason": line.reason,
        "label": line.label,
        "predicted": line.predicted,
        "prob": "" if prob is None else str(prob),
        "fold": line.fold,
        "tiles": line.n_tiles,
        "wrong": "1" if line.is_wrong else "",
        "page": "1" if line.has_page else "",
    }


def _from_here(folder: Path) -> Path:
    """A folder as its user calls it, where that is shorter."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def slide_page(catalogue: Catalogue, slide_id: str, ground: Ground) -> str:
    """HTML of one slide. Raises UnknownNameError where there is no such slide."""
    catalogue.row(slide_id)
    about = slide_about(catalogue, slide_id, ground)
    return _template("slide.html").render(about=about, slide_id=slide_id)


def slide_about(catalogue: Catalogue, slide_id: str, ground: Ground) -> dict[str, Any]:
    """What the script of the slide page needs to know of a slide."""
    line, entries = catalogue.line(slide_id, {}), [_entry_about(catalogue, slide_id, entry) for entry in catalogue.entries]
    ids = [name for name in catalogue.slide_ids if name in catalogue.known]
    at = ids.index(slide_id)
    offered = list(dict.fromkeys([catalogue.heatmap.colormap, *OFFERED_MAPS]))
    return {
        "slide_id": slide_id,
        "patient_id": line.patient_id,
        "label": line.label,
        "status": line.status,
        "reason": line.reason,
        "ground": _ground_about(ground),
        "entries": entries,
        "tilings": list(catalogue.tiles_receipts(slide_id)),
        "has_truth": catalogue.row(slide_id).annotation is not None,
        "previous": ids[at - 1] if at else None,
        "next": ids[at + 1] if at + 1 < len(ids) else None,
        "place": [at + 1, len(ids)],
        "colormaps": [name for name in offered if name in colormap_names()],
        "scales": list(SCALES),
        "defaults": {"opacity": catalogue.heatmap.opacity, "map": catalogue.heatmap.colormap, "scale": catalogue.heatmap.scale},
        "notes": [note for note in (*catalogue.notes, ground.note, _scale_note(ground.mpp)) if note],
    }


def _scale_note(mpp: Mpp | None) -> str:
    """What is to be said of pixels that are not square: they are drawn as if they were."""
    if mpp is None or math.isclose(mpp.x, mpp.y, rel_tol=SQUARE):
        return ""
    return f"pixels are {mpp.x:g} µm wide and {mpp.y:g} µm high, but drawn square: the scale bar holds from left to right only"


def _ground_about(ground: Ground) -> dict[str, Any] | None:
    if ground.dimensions is None:
        return None
    pyramid = Pyramid(ground.dimensions)
    return {
        "dimensions": list(ground.dimensions),
        "bounds": None if ground.bounds is None else list(ground.bounds),
        "version": ground.version,
        "size": list(pyramid.size(ground.max_level)),
        "max_level": ground.max_level,
        "full_level": pyramid.max_level,
        "tile_px": TILE_PX,
        "mpp": None if ground.mpp is None else [ground.mpp.x, ground.mpp.y],
    }


def _entry_about(catalogue: Catalogue, slide_id: str, entry: Entry) -> dict[str, Any]:
    """What one encoder × model says of a slide: its prediction, and its methods with the reason of those that show nothing."""
    receipt = catalogue.scores(slide_id, entry)
    prediction = catalogue.predictions(entry).get(slide_id, {})
    methods = receipt.get("methods", {})
    names = [name for name in FIRST_METHODS if name in methods] + [name for name in methods if name not in FIRST_METHODS]
    stamps = {name: str(receipt.get(name) or prediction.get(name, "")) for name in ("role", "protocol")}
    notes = [SEEN[stamps["role"]]] if stamps["role"] in SEEN else []
    notes += [PROTOCOL_NOTE] if stamps["protocol"] == "as_published" else []
    notes += [] if receipt else [_why_no_scores(catalogue.line(slide_id, {}).status)]
    return {
        **asdict(entry),
        "name": entry.name,
        "tiling": catalogue.tiling_of(slide_id, receipt),
        "methods": [{"name": n, "kind": methods[n].get("kind", ""), "reason": methods[n].get("reason", "")} for n in names],
        "prediction": {"predicted": prediction.get("predicted", ""), "fold": prediction.get("fold", ""), **_shown(prediction)},
        "notes": notes,
    }


def _shown(prediction: dict[str, str]) -> dict[str, Any]:
    """The probability that is shown of a slide, of which class, and the threshold on it: of two classes that of the last."""
    shown = read_shown_prediction(prediction)
    return {"prob": shown.value, "prob_of": shown.of, "threshold": shown.threshold}


def _positive(lines: list[Line]) -> str:
    """Of which class the column of probabilities is; "" where it differs from slide to slide."""
    found = {_shown(line.prediction)["prob_of"] for line in lines if line.prediction}
    return found.pop() if len(found) == 1 else ""


def _names(values: Any) -> list[str]:
    return sorted({value for value in values if value})


def _missing(catalogue: Catalogue) -> list[str]:
    """What an unfinished run does not have yet."""
    found = [] if catalogue.statuses else ["The run is not finished: cohort_status.csv is missing. What is there is shown."]
    if catalogue.statuses and not catalogue.entries:
        found.append("The run is not finished: there are no predictions and no scores yet.")
    waiting = sum(line.status == NOT_RUN for line in catalogue.lines(None))
    if waiting and catalogue.statuses:
        found.append(f"{waiting} {'slide is' if waiting == 1 else 'slides are'} waiting for a stage to finish.")
    return found


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("wsi_mil.view", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)
