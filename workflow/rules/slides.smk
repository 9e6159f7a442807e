# Slides: what jobs are told of one, and which of them a stage is asked for. Functions only, no rules.
import csv
import hashlib
from functools import lru_cache


def slide_path(wildcards):
    """Of the slide file; "" where there is none, since its features were imported."""
    return SLIDES[wildcards.slide_id].get("path", "")


def local_slide(wildcards):
    """Input function: the slide file; of a slide on a server none, since its address travels in params."""
    path = slide_path(wildcards)
    return [] if "://" in path else path


def slide_row(*columns):
    """Params function: those cells of the slide's row that a stage reads, empty ones left out."""

    def cells(wildcards):
        row = SLIDES[wildcards.slide_id]
        return dumps(
            {name: row[name] for name in ("slide_id", *columns) if name in row}
        )

    return cells


def tissue_setting(row, key):
    """Of a slide: what its row says, else the configuration."""
    return row.get(f"tissue.{key}", CONFIG["tissue"][key])


def deciding_files(row, tiling):
    """Columns of the files that decide which tiles a slide gets: `annotation`, `mask`."""
    follows = (
        tissue_setting(row, "method") == "annotation"
        or tissue_setting(row, "exclude_classes")
        or CONFIG["tilings"][tiling]["min_annotation"] is not None
    )
    asked = [*(["annotation"] if follows else []), "mask"]
    return [name for name in asked if name in row]


def tile_row(wildcards):
    """Params function: what `tile` reads of the slide's row."""
    row = SLIDES[wildcards.slide_id]
    settings = sorted(name for name in row if "." in name)
    files = deciding_files(row, wildcards.tiling)
    return slide_row("mpp", *settings, *files)(wildcards)


def tile_version(wildcards):
    """Params function: what tells a slide on a server, and the files that tiles follow, from changed ones."""
    row = SLIDES[wildcards.slide_id]
    files = [row[f"{name}_hash"] for name in deciding_files(row, wildcards.tiling)]
    return " ".join([*files, *filter(None, [row.get("remote_version")])])


def tile_settings(wildcards):
    settings = {
        "slide": CONFIG["slide"],
        "tiling": CONFIG["tilings"][wildcards.tiling],
        "tissue": CONFIG["tissue"],
    }
    if deciding_files(SLIDES[wildcards.slide_id], wildcards.tiling):
        settings["origin"] = CONFIG["truth"]["origin"]
    return dumps(settings)


def extract_jobs():
    """Slides in parts of `slides_per_job`, in the order of the sheet, for each encoder entry."""
    ids, size = list(SLIDES), CONFIG["slides_per_job"]
    return [
        (encoder, number, ids[first : first + size])
        for encoder in EXTRACTED
        for number, first in enumerate(range(0, len(ids), size))
    ]


def extract_options(encoder, slide_ids):
    """What `wsi-mil extract` is told of each slide."""
    rows = [SLIDES[slide_id] for slide_id in slide_ids]
    return [
        f"--{option}={value}"
        for row in rows
        for option, value in (
            ("tiles", tiles_of(encoder, row["slide_id"])),
            ("row", dumps({"slide_id": row["slide_id"], "path": row["path"]})),
            ("receipt", features_of(encoder, row["slide_id"])),
        )
    ]


# What follows reaches receipts through the checkpoint: only after `cohort` ran are slides known to be usable, and
# only then does a receipt that was rewritten with the same bytes count as unchanged.


@lru_cache(maxsize=2)
def ok_in(status, changed):
    """Rows of the plan that a status file says are ok; `changed` tells a file from an earlier one of its name."""
    with open(status, encoding="utf-8") as file:
        ok = {row["slide_id"] for row in csv.DictReader(file) if row["status"] == "ok"}
    return [row for row in PLAN["slides"] if row["slide_id"] in ok]


def ok_slides():
    status = checkpoints.cohort.get().output.status
    return ok_in(str(status), os.stat(status).st_mtime_ns)


def labelled_slides():
    return [row for row in ok_slides() if "label" in row]


def labelled_rows(wildcards):
    """Params function: what decides the splits."""
    columns = ("slide_id", "patient_id", "label", "split", "fold")
    rows = [
        {name: row[name] for name in columns if name in row}
        for row in labelled_slides()
    ]
    return dumps(sorted(rows, key=lambda row: row["slide_id"]))


def shown_rows(*columns, of=ok_slides):
    """Params function: those cells of all rows `of` a kind that a cohort-wide stage reads; a trigger only."""

    def digest(wildcards):
        rows = [{name: row[name] for name in columns if name in row} for row in of()]
        return hashlib.sha256(dumps(rows).encode()).hexdigest()

    return digest


def bag_slides(wildcards):
    """Slides of a slide's bag: itself, or all of its patient that are labelled as it is, or unlabelled as it is."""
    own = SLIDES[wildcards.slide_id]
    if CONFIG["bag"] == "slide":
        return [wildcards.slide_id]
    patient = [
        row
        for row in ok_slides()
        if row.get("patient_id") == own.get("patient_id")
        and ("label" in row) == ("label" in own)
    ]
    return sorted(row["slide_id"] for row in patient)
