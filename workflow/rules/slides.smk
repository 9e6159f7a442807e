# Params functions of slides, and the selection of slides for each stage. Functions only, no rules.
#
# A wildcard `job` stands for the slides that one process works on (JOBS); `slide_id` for a single slide.
import csv
import hashlib
from functools import lru_cache

OF_SEVERAL_FILES = (".mrxs", ".vms", ".vmu", ".dcm")


def for_target(row, wildcards):
    """The row of a slide with its `label` for the target of a job, if it has one."""
    labels = row.get("labels", {})
    target = wildcards.get("target")
    return {**row, "label": labels[target]} if target in labels else row


def members(wildcards):
    """Rows of the slides of a job, in order."""
    ids = JOBS[wildcards.job] if "job" in wildcards.keys() else [wildcards.slide_id]
    return [for_target(SLIDES[slide_id], wildcards) for slide_id in ids]


def tiling_of(wildcards):
    """Name of the tiling of a job's encoder entry."""
    return CONFIG["encoders"][wildcards.encoder]["tiling"]


def local_slides(wildcards):
    """Input function: the slide files; none for slides on servers, whose URLs are in params.

    A job of several slides leaves out files that are gone: their tiles may be there, and must not stop the other slides.
    """
    paths = [row["path"] for row in members(wildcards) if "://" not in row["path"]]
    return (
        paths if len(paths) == 1 else [path for path in paths if os.path.exists(path)]
    )


def cells(row, *columns):
    """The cells of a slide's row that a stage reads, as JSON, without empty ones."""
    return dumps({name: row[name] for name in ("slide_id", *columns) if name in row})


def row_options(*columns, of=members):
    """Params function: option --row for each slide of a job, with the cells that the stage reads."""
    return lambda wildcards: [f"--row={cells(row, *columns)}" for row in of(wildcards)]


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


def tile_rows(wildcards):
    """Params function: option --row for each slide, with the cells that `tile` reads."""

    def option(row):
        settings = sorted(name for name in row if "." in name)
        files = files_for_tiling(row, wildcards.tiling)
        return f"--row={cells(row, 'path', 'mpp', *settings, *files)}"

    return [option(row) for row in members(wildcards)]


def slide_size(row, tiling):
    """Size of a slide of one local file in bytes, or where it is gone of the file that was tiled; "" for other slides.

    A file put in place of another may be older than the tiles, and Snakemake would not see it by its time.
    """
    path = row["path"]
    if "://" in path or path.lower().endswith(OF_SEVERAL_FILES):
        return ""
    if os.path.isfile(path):
        return str(os.path.getsize(path))
    receipt = f"{RESULTS}/tiles/{tiling}/{row['slide_id']}.json"
    try:
        with open(receipt, encoding="utf-8") as file:
            return str(json.load(file)["slide_hash"]).partition("-")[0]
    except (
        OSError,
        ValueError,
        LookupError,
    ):  # nothing was tiled, or its receipt is damaged
        return ""


def tile_version(wildcards):
    """Params function: versions of the slides and of the files that determine the tiles; a trigger only."""

    def version(row):
        files = [
            row[f"{name}_hash"] for name in files_for_tiling(row, wildcards.tiling)
        ]
        size = slide_size(row, wildcards.tiling)
        return " ".join([*files, *filter(None, [row.get("remote_version"), size])])

    return [version(row) for row in members(wildcards)]


def tile_settings(wildcards):
    settings = {
        "slide": CONFIG["slide"],
        "tiling": CONFIG["tilings"][wildcards.tiling],
        "tissue": CONFIG["tissue"],
    }
    if any(files_for_tiling(row, wildcards.tiling) for row in members(wildcards)):
        settings["origin"] = CONFIG["truth"]["origin"]
    return dumps(settings)


# The functions below use the checkpoint: only after `cohort` has run is it known which slides are usable, and only then
# does Snakemake treat a file that was rewritten with the same content as unchanged.


@lru_cache(maxsize=2)
def ok_in(status, modified):
    """Rows of the plan that are ok in a status file, by slide_id; `modified` is its time, so that a new file is read again."""
    with open(status, encoding="utf-8") as file:
        ok = {row["slide_id"] for row in csv.DictReader(file) if row["status"] == "ok"}
    return {row["slide_id"]: row for row in PLAN["slides"] if row["slide_id"] in ok}


def status_file():
    """Path and time of the table of statuses."""
    status = str(checkpoints.cohort.get().output.status)
    return status, os.stat(status).st_mtime_ns


def ok_slides(wildcards):
    """Rows of the usable slides, with their labels for the target of a job."""
    return [for_target(row, wildcards) for row in ok_in(*status_file()).values()]


def labelled_slides(wildcards):
    return [row for row in ok_slides(wildcards) if "label" in row]


def ok_members(wildcards):
    """Rows of the usable slides of a job; a single slide that is asked for by name is taken as it is."""
    if "job" not in wildcards.keys():
        return members(wildcards)
    ok = ok_in(*status_file())
    return [row for row in members(wildcards) if row["slide_id"] in ok]


def labelled_rows(wildcards):
    """Params function: the cells that determine the splits; a trigger only."""
    columns = ("slide_id", "patient_id", "label", "split", "fold", "group")
    rows = [
        {name: row[name] for name in columns if name in row}
        for row in labelled_slides(wildcards)
    ]
    return dumps(sorted(rows, key=lambda row: row["slide_id"]))


def digest(content):
    return hashlib.sha256(dumps(content).encode()).hexdigest()


def shown_rows(*columns, of=ok_slides):
    """Params function: hash of the cells of all rows `of` a kind that a cohort-wide stage reads; a trigger only."""
    return lambda wildcards: digest(
        [{name: row[name] for name in columns if name in row} for row in of(wildcards)]
    )


@lru_cache(maxsize=64)
def receipt_digests(encoder, status, modified):
    """Hash of the receipt of `extract` of each usable slide."""
    return {
        slide_id: hashlib.sha256(
            Path(features_of(encoder, slide_id)).read_bytes()
        ).hexdigest()
        for slide_id in ok_in(status, modified)
    }


def features_version(*columns, of=ok_slides):
    """Params function: hash of the features, and of some cells, of all rows `of` a kind; a trigger only. The model's covariates
    are among the cells.

    Stages also wait for a file of such hashes (`cohort_features`); this one holds if the sheet changed but no slide did.
    """

    def version(wildcards):
        digests = receipt_digests(wildcards.encoder, *status_file())
        rows = sorted(of(wildcards), key=lambda row: row["slide_id"])
        names = ("slide_id", *columns)
        return digest(
            [
                [
                    digests[row["slide_id"]],
                    *map(row.get, names),
                    *covariate_cells(row, wildcards),
                ]
                for row in rows
            ]
        )

    return version


def method_options(wildcards):
    """Params function: option --method for each method of a job's heatmaps."""
    own = METHODS[wildcards.target][wildcards.model]
    names = [wildcards.method] if "method" in wildcards.keys() else own
    return [f"--method={name}" for name in names]


def heatmap_version(wildcards):
    """Params function: hashes of the annotations that are drawn; a trigger only."""
    return [row.get("annotation_hash", "") for row in ok_members(wildcards)]


def bags_version(wildcards):
    """Params function: hash of the features and the covariates of the bags of a job's slides; a trigger only."""
    digests = receipt_digests(wildcards.encoder, *status_file())
    bags = [bag_slides(row, wildcards) for row in ok_members(wildcards)]
    return digest(
        [
            [digests.get(slide_id) for slide_id in bag]
            + covariate_cells(SLIDES[bag[0]], wildcards)
            for bag in bags
        ]
    )


def bag_slides(slide, wildcards):
    """Slides of a slide's bag: itself, or its patient's slides that are labelled (or unlabelled) like it."""
    if CONFIG["bag"] == "slide":
        return [slide["slide_id"]]
    patient = [
        row
        for row in ok_slides(wildcards)
        if row.get("patient_id") == slide.get("patient_id")
        and ("label" in row) == ("label" in slide)
    ]
    return sorted(row["slide_id"] for row in patient)


def bags_option(wildcards):
    """Params function: the slides of each bag, for bags of several."""
    if CONFIG["bag"] == "slide":
        return "{}"
    return dumps(
        {row["slide_id"]: bag_slides(row, wildcards) for row in ok_members(wildcards)}
    )
