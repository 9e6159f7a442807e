"""The two kinds of pages: the cohort and a slide."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jinja2

from wsi_mil.config import Scale, method_of, usual_name
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.colour_maps import colormap_names
from wsi_mil.tasks.shown import (
    can_be_wrong,
    explained_label,
    is_wrong,
    label_group,
    label_order,
    label_text,
    prediction_text,
    truth_name,
)
from wsi_mil.trust import OLD_LINE, Trust, model_line, trust_line
from wsi_mil.view.catalogue import LEFT, NOT_RUN, UNREADABLE, Catalogue, CohortRow, Entry
from wsi_mil.view.deepzoom import TILE_PX, Pyramid
from wsi_mil.view.slide_images import SlideImage
from wsi_mil.wording import method_title

SCALES: tuple[Scale, ...] = get_args(Scale)
COLORMAPS = ("viridis", "magma", "inferno", "cividis", "turbo", "coolwarm", "Reds")
"""Colour maps offered on the page, besides the configured one; a URL may name any other."""

SQUARE_TOLERANCE = 0.01
"""Relative difference of the sides of a pixel that a scale bar of 100 px cannot show."""

FIRST_METHODS = ("attention", "sparse_inversion")
"""Methods shown first (left and right) if the model supports them."""

OTHER = "of."
"""Before the name of another target, in the key that the cohort page sorts by."""

PROTOCOL_NOTE = "epoch and threshold were chosen on the test fold (protocol: as_published): metrics are optimistic"
ROLE_NOTES = {
    "train": "training slide: the model was trained on it",
    "val": "validation slide: the model's epoch and threshold were chosen on it",
}


@dataclass(frozen=True)
class OtherTarget:
    """Labels and predictions of a target that is not the one chosen, as a column of the cohort page.

    Attributes:
        target: name of the target.
        rows: its rows by slide_id.
    """

    target: str
    rows: Mapping[str, CohortRow]

    def order(self, slide_id: str) -> str:
        """Return what slides are sorted by: the predicted number, else the label; "" if there is neither."""
        row = self.rows[slide_id]
        return label_order(row.task, row.label) if row.shown.value is None else str(row.shown.value)


def other_columns(catalogue: Catalogue, target: str, entry: Entry | None) -> list[OtherTarget]:
    """Return a column for each other target, with the predictions of the same encoder × model, or of its first one."""
    names = (entry.encoder, entry.model) if entry else ("", "")
    columns = []
    for name in catalogue.targets:
        if name != target:
            rows = catalogue.cohort_rows(name, catalogue.entry_or_first(name, *names))
            columns.append(OtherTarget(name, {row.slide_id: row for row in rows}))
    return columns


def cohort_page(catalogue: Catalogue, target: str, entry: Entry | None) -> str:
    """Return the HTML of the cohort page for a target, with the predictions of one of its entries."""
    rows, others = catalogue.cohort_rows(target, entry), other_columns(catalogue, target, entry)
    counts = Counter(row.status for row in rows)
    return render(
        "cohort.html",
        results=str(_short_path(catalogue.results)),
        notes=[*catalogue.notes, *_progress_notes(catalogue), *_held_out_warnings(rows)],
        targets=catalogue.targets,
        target=target,
        entries=catalogue.entries_of(target),
        entry=entry,
        others=others,
        rows=[{"row": row, "data": cohort_row_json(row, others), "role": _role(row)} for row in rows],
        statuses=_names(row.status for row in rows),
        truth=truth_name(catalogue.task(target)),
        can_be_wrong=can_be_wrong(catalogue.task(target)),
        groups=_names(label_group(row.task, row.label) for row in rows if row.label),
        folds=_names(row.fold for row in rows),
        number=_number_name(rows),
        has_text=any(row.shown.predicted for row in rows) or not any(row.shown.name for row in rows),
        counts={status: counts[status] for status in sorted(counts)},
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


VECTORS_NOTE = "this model learned from one vector for each slide, so there is no heatmap"


def _no_scores_note(status: str) -> str:
    if status in ("ok", NOT_RUN):
        return "no scores of this slide for this model: `explain` has not finished, or another version of wsi_mil wrote them"
    return f"no scores of this slide for this model: the slide was excluded ({status})"


def cohort_row_json(row: CohortRow, others: Sequence[OtherTarget]) -> dict[str, str]:
    """Return the texts by which the cohort page filters and sorts; booleans are "1" and ""."""
    return {
        "slide": row.slide_id,
        "patient": row.patient_id,
        "status": row.status,
        "reason": row.reason,
        "label": label_group(row.task, row.label) if row.label else "",
        "truth": label_order(row.task, row.label),
        "predicted": row.shown.predicted,
        "prob": "" if row.shown.value is None else str(row.shown.value),
        "fold": row.fold,
        "tiles": row.n_tiles,
        "wrong": "1" if row.is_wrong else "",
        "page": "1" if row.has_page else "",
        **{f"{OTHER}{other.target}": other.order(row.slide_id) for other in others},
    }


def _short_path(folder: Path) -> Path:
    """A folder relative to the current one, if it is inside."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def slide_page(catalogue: Catalogue, slide_id: str, image: SlideImage) -> str:
    """Return the HTML of the page of a slide. Raises UnknownNameError if there is no such slide."""
    catalogue.row(slide_id)
    return render("slide.html", slide=slide_json(catalogue, slide_id, image), slide_id=slide_id)


def slide_json(catalogue: Catalogue, slide_id: str, image: SlideImage) -> dict[str, Any]:
    """Return the data of a slide for the script of its page."""
    status, reason, _ = catalogue.status(slide_id)
    ids = [name for name in catalogue.slide_ids if name in catalogue.path_safe_ids]
    position = ids.index(slide_id)
    colormaps = list(dict.fromkeys([catalogue.heatmap.colormap, *COLORMAPS]))
    return {
        "slide_id": slide_id,
        "status": status,
        "reason": reason,
        "image": _image_json(image),
        "targets": [_target_json(catalogue, slide_id, target) for target in catalogue.targets],
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


def _target_json(catalogue: Catalogue, slide_id: str, target: str) -> dict[str, str]:
    """What is known of a slide for a target."""
    task, label = catalogue.task(target), catalogue.label(target, slide_id)
    return {"name": target, "truth": truth_name(task), "label": label_text(task, label) if label else ""}


def _entry_json(catalogue: Catalogue, slide_id: str, entry: Entry) -> dict[str, Any]:
    """Prediction and explanation methods of one encoder × model for a slide; methods without scores have a reason."""
    receipt = catalogue.scores(slide_id, entry)
    fine = catalogue.fine_methods(slide_id, entry) if receipt else {}
    scored = {**receipt, "methods": {**receipt.get("methods", {}), **fine}}
    prediction = catalogue.predictions(entry).get(slide_id, {})
    stamps = {name: str(receipt.get(name) or prediction.get(name, "")) for name in ("role", "protocol")}
    notes = [ROLE_NOTES[stamps["role"]]] if stamps["role"] in ROLE_NOTES else []
    notes += [PROTOCOL_NOTE] if stamps["protocol"] == "as_published" else []
    trust = catalogue.trust(entry)
    notes += [model_line(trust.of(receipt)).text] if receipt and model_line(trust.of(receipt)).is_warning else []
    why = VECTORS_NOTE if catalogue.is_of_slides(entry.encoder) else _no_scores_note(catalogue.status(slide_id)[0])
    notes += ([LEFT] if catalogue.has_left(slide_id) else []) if receipt else [why]
    return {
        **asdict(entry),
        "name": entry.name,
        "tiling": catalogue.tiling_of(slide_id, receipt),
        "methods": [{**method, **_trust_json(trust, scored, method["name"])} for method in _methods_json(scored)],
        "prediction": _prediction_json(catalogue, slide_id, entry, prediction),
        "notes": notes,
    }


def _methods_json(receipt: Mapping[str, Any]) -> list[dict[str, str]]:
    """Methods of a receipt of scores with their titles, those of `FIRST_METHODS` first; further outputs follow their method."""
    methods = receipt.get("methods", {})
    bases = {name: method_of(usual_name(name)) for name in methods}
    order = list(dict.fromkeys([*FIRST_METHODS, *bases.values()]))
    names = sorted(methods, key=lambda name: order.index(bases[name]))
    return [
        {
            "name": name,
            "method": method_of(name),
            "output": _label_of(receipt, name),
            "title": method_title(name, _label_of(receipt, name)),
            "kind": methods[name].get("kind", ""),
            "reason": methods[name].get("reason", ""),
        }
        for name in names
    ]


def _trust_json(trust: Trust, receipt: Mapping[str, Any], method: str) -> dict[str, Any]:
    """How far the scores of a slide by a method can be trusted."""
    try:
        line = trust_line(trust, receipt, method)
    except UNREADABLE:
        line = OLD_LINE
    return {"trust": line.text, "is_warning": line.is_warning}


def _label_of(receipt: Mapping[str, Any], method: str) -> str:
    """The output that scores explain; "" if that goes without saying, or the receipt is of an earlier version."""
    try:
        return explained_label(receipt, method)
    except UNREADABLE:
        return ""


def _prediction_json(catalogue: Catalogue, slide_id: str, entry: Entry, prediction: dict[str, str]) -> dict[str, Any]:
    """The prediction of a slide in words and a number with its threshold, and whether it is wrong."""
    shown = prediction_text(prediction)
    label = catalogue.label(entry.target, slide_id)
    limit = f" ({shown.limit})" if shown.limit else ""
    return {
        "predicted": shown.predicted,
        "is_wrong": is_wrong(catalogue.task(entry.target), prediction, label),
        "name": shown.name,
        "number": f"{shown.number}{limit}" if shown.number else "",
        "fold": prediction.get("fold", ""),
    }


def _number_name(rows: Sequence[CohortRow]) -> str:
    """What the predicted numbers of the table are; "" if that differs from slide to slide."""
    names = {row.shown.name for row in rows if row.prediction}
    return names.pop() if len(names) == 1 else ""


def _names(values: Any) -> list[str]:
    return sorted({value for value in values if value})


def _progress_notes(catalogue: Catalogue) -> list[str]:
    """Notes about the missing results of an unfinished run."""
    if not catalogue.statuses:
        return ["The run is not finished (there is no cohort_status.csv yet). The results so far are shown."]
    notes = [] if catalogue.entries else ["The run is not finished: there are no predictions and no scores yet."]
    members = [slide_id for slide_id in catalogue.slide_ids if not catalogue.has_left(slide_id)]
    n_unfinished = sum(catalogue.status(slide_id)[0] == NOT_RUN for slide_id in members)
    if n_unfinished:
        notes.append(f"{n_unfinished} {'slide is' if n_unfinished == 1 else 'slides are'} not fully processed yet.")
    return notes


def render(name: str, **values: Any) -> str:
    """Return a page as HTML."""
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("wsi_mil.view", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment
