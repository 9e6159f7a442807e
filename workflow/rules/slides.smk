# Params functions of slides, and the selection of slides for each stage. Functions only, no rules.
import csv
import hashlib
from functools import lru_cache


def slide_path(wildcards):
    """Path or URL of the slide; "" if it has none because its features were imported."""
    return SLIDES[wildcards.slide_id].get("path", "")


def local_slide(wildcards):
    """Input function: the slide file; none for a slide on a server, whose URL is in params."""
    path = slide_path(wildcards)
    return [] if "://" in path else path


def slide_row(*columns):
    """Params function: the cells of the slide's row that a stage reads, without empty ones."""

    def cells(wildcards):
        row = SLIDES[wildcards.slide_id]
        return dumps(
            {name: row[name] for name in ("slide_id", *columns) if name in row}
        )

    return cells


def tissue_setting(row, key):
    """Setting of a slide: from its row, else from the configuration."""
    return row.get(f"tissue.{key}", CONFIG["tissue"][key])


def files_for_tiling(row, tiling):
    """Columns of the files that determine a slide's tiles: `annotation`, `mask`."""
    uses_annotation = (
        tissue_setting(row, "method") == "annotation"
        or tissue_setting(row, "exclude_classes")
        or CONFIG["tilings"][tiling]["min_annotation"] is not None
    )
    columns = [*(["annotation"] if uses_annotation else []), "mask"]
    return [name for name in columns if name in row]


def tile_row(wildcards):
    """Params function: the cells of the slide's row that `tile` reads."""
    row = SLIDES[wildcards.slide_id]
    settings = sorted(name for name in row if "." in name)
    files = files_for_tiling(row, wildcards.tiling)
    return slide_row("mpp", *settings, *files)(wildcards)


def tile_version(wildcards):
    """Params function: versions of a slide on a server and of the files that determine its tiles; a trigger only."""
    row = SLIDES[wildcards.slide_id]
    files = [row[f"{name}_hash"] for name in files_for_tiling(row, wildcards.tiling)]
    return " ".join([*files, *filter(None, [row.get("remote_version")])])


def tile_settings(wildcards):
    settings = {
        "slide": CONFIG["slide"],
        "tiling": CONFIG["tilings"][wildcards.tiling],
        "tissue": CONFIG["tissue"],
    }
    if files_for_tiling(SLIDES[wildcards.slide_id], wildcards.tiling):
        settings["origin"] = CONFIG["truth"]["origin"]
    return dumps(settings)


def extract_jobs():
    """Batches of `slides_per_job` slides, in the order of the sheet, for each encoder entry."""
    ids, size = list(SLIDES), CONFIG["slides_per_job"]
    return [
        (encoder, number, ids[first : first + size])
        for encoder in EXTRACTED
        for number, first in enumerate(range(0, len(ids), size))
    ]


def extract_options(encoder, slide_ids):
    """Options of `wsi-mil extract` for each slide."""
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


# The functions below use the checkpoint: only after `cohort` has run is it known which slides are usable, and only then
# does Snakemake treat a receipt that was rewritten with the same content as unchanged.


@lru_cache(maxsize=2)
def ok_in(status, modified):
    """Rows of the plan that are ok in a status file; `modified` is its time, so that a new file is read again."""
    with open(status, encoding="utf-8") as file:
        ok = {row["slide_id"] for row in csv.DictReader(file) if row["status"] == "ok"}
    return [row for row in PLAN["slides"] if row["slide_id"] in ok]


def ok_slides():
    status = checkpoints.cohort.get().output.status
    return ok_in(str(status), os.stat(status).st_mtime_ns)


def labelled_slides():
    return [row for row in ok_slides() if "label" in row]


def labelled_rows(wildcards):
    """Params function: the cells that determine the splits; a trigger only."""
    columns = ("slide_id", "patient_id", "label", "split", "fold")
    rows = [
        {name: row[name] for name in columns if name in row}
        for row in labelled_slides()
    ]
    return dumps(sorted(rows, key=lambda row: row["slide_id"]))


def shown_rows(*columns, of=ok_slides):
    """Params function: hash of the cells of all rows `of` a kind that a cohort-wide stage reads; a trigger only."""

    def digest(wildcards):
        rows = [{name: row[name] for name in columns if name in row} for row in of()]
        return hashlib.sha256(dumps(rows).encode()).hexdigest()

    return digest


def bag_slides(wildcards):
    """Slides of a slide's bag: itself, or its patient's slides that are labelled (or unlabelled) like it."""
    slide = SLIDES[wildcards.slide_id]
    if CONFIG["bag"] == "slide":
        return [wildcards.slide_id]
    patient = [
        row
        for row in ok_slides()
        if row.get("patient_id") == slide.get("patient_id")
        and ("label" in row) == ("label" in slide)
    ]
    return sorted(row["slide_id"] for row in patient)
