# Targets, wildcard constraints and params: functions only, no rules.
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path


def dumps(value):
    """JSON for params: the same for the same settings."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def checked_plan():
    """The configuration with its defaults and the rows of the sheet, from `wsi-mil check`.

    The main process asks once and keeps the answer for the processes of its jobs, under a name made from the
    configuration, so that another run in the same folder does not change it.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    kept = (
        Path(".snakemake")
        / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    )
    if workflow.is_main_process:
        done = subprocess.run(
            ["wsi-mil", "check"], input=text, text=True, stdout=subprocess.PIPE
        )
        if done.returncode:
            sys.exit(done.returncode)
        kept.parent.mkdir(exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(done.stdout, encoding="utf-8")
        part.replace(kept)
    return json.loads(kept.read_text(encoding="utf-8"))


PLAN = checked_plan()
CONFIG = PLAN["config"]
SLIDES = {row["slide_id"]: row for row in PLAN["slides"]}
METHODS = PLAN["methods"]  # of each model, those that it offers
RESULTS = CONFIG["results"]
TRAINED = CONFIG["trained"]
MODELS = f"{TRAINED or RESULTS}/models"
SPLITS = f"{TRAINED or RESULTS}/splits.csv"
FOLDS = range(PLAN["n_folds"])
os.environ.setdefault("WSI_MIL_DEVICE", CONFIG["device"])  # of all jobs
os.environ.setdefault("WSI_MIL_READ_TIMEOUT_S", str(CONFIG["read_timeout_s"]))
os.environ.setdefault(
    "WSI_MIL_REMOTE", dumps(CONFIG["remote"])
)  # nor does it rerun any
os.environ.setdefault("WSI_MIL_DASK", CONFIG["dask"]["scheduler"])  # nor this


envvars:
    "WSI_MIL_DEVICE",
    "WSI_MIL_READ_TIMEOUT_S",
    "WSI_MIL_REMOTE",
    "WSI_MIL_DASK",


GPU = int(
    shutil.which("nvidia-smi") is not None and os.environ["WSI_MIL_DEVICE"] != "cpu"
)  # where there is a GPU, one job at a time computes on it
GPUS = (
    workflow.global_resources["gpu"].value if "gpu" in workflow.global_resources else 1
)  # jobs of `extract` at once, which share the cores


pathvars:
    results=RESULTS,


wildcard_constraints:
    slide_id=r"[A-Za-z0-9_][A-Za-z0-9_.\-]*",
    tiling="[a-z0-9_-]+",
    encoder="[a-z0-9_-]+",
    model="[a-z0-9_-]+",
    method="[a-z_]+",
    fold="[0-9]+",


def one_of(names):
    """A regular expression for one of some names; for none where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


EXTRACTED = [
    name
    for name, entry in CONFIG["encoders"].items()
    if entry["features"] == "extracted"
]  # of the other entries tiles and features were imported: their receipts are nobody's output
TILINGS = sorted({CONFIG["encoders"][name]["tiling"] for name in EXTRACTED})


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


def needs_annotation(row, tiling):
    """Whether a slide's annotation decides which tiles it gets."""
    method = row.get("tissue.method", CONFIG["tissue"]["method"])
    return (
        method == "annotation"
        or CONFIG["tilings"][tiling]["min_annotation"] is not None
    )


def tile_row(wildcards):
    """Params function: what `tile` reads of the slide's row."""
    row = SLIDES[wildcards.slide_id]
    settings = sorted(name for name in row if "." in name)
    annotation = ["annotation"] if needs_annotation(row, wildcards.tiling) else []
    return slide_row("mpp", *settings, *annotation)(wildcards)


def tile_version(wildcards):
    """Params function: what tells a slide on a server, and an annotation that tiles follow, from a changed one."""
    row = SLIDES[wildcards.slide_id]
    needed = needs_annotation(row, wildcards.tiling)
    annotation = row.get("annotation_hash", "") if needed else ""
    return " ".join(filter(None, (annotation, row.get("remote_version", ""))))


def tile_settings(wildcards):
    settings = {
        "slide": CONFIG["slide"],
        "tiling": CONFIG["tilings"][wildcards.tiling],
        "tissue": CONFIG["tissue"],
    }
    if needs_annotation(SLIDES[wildcards.slide_id], wildcards.tiling):
        settings["origin"] = CONFIG["truth"]["origin"]
    return dumps(settings)


def stage_settings(stage):
    """Params function: a stage's block of the configuration."""
    return lambda wildcards: dumps(CONFIG[stage])


def entry_settings(block, wildcard):
    """Params function: the settings of the entry that a wildcard names."""
    return lambda wildcards: dumps(CONFIG[block][wildcards[wildcard]])


def report_config(wildcards):
    """Params function: the configuration without what changes no result."""
    return dumps(
        {name: CONFIG[name] for name in CONFIG if name not in ("remote", "dask")}
    )


def classes_json(wildcards):
    return dumps(CONFIG["classes"])


def tiles_of(encoder, slide_id):
    return f"{RESULTS}/tiles/{CONFIG['encoders'][encoder]['tiling']}/{slide_id}.json"


def features_of(encoder, slide_id):
    return f"{RESULTS}/features/{encoder}/{slide_id}.json"


def tile_receipt(wildcards):
    return tiles_of(wildcards.encoder, wildcards.slide_id)


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


def all_tile_receipts(wildcards):
    return [
        tiles_of(encoder, slide_id)
        for encoder in CONFIG["encoders"]
        for slide_id in SLIDES
    ]


def all_feature_receipts(wildcards):
    return [
        features_of(encoder, slide_id)
        for encoder in CONFIG["encoders"]
        for slide_id in SLIDES
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


def shown_tile_receipts(wildcards):
    ok_slides()
    return sorted(set(all_tile_receipts(wildcards)))


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


def labelled_features(wildcards):
    return [
        features_of(wildcards.encoder, row["slide_id"]) for row in labelled_slides()
    ]


def ok_features(wildcards):
    return [features_of(wildcards.encoder, row["slide_id"]) for row in ok_slides()]


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


def bag_features(wildcards):
    ok_slides()
    return [
        features_of(wildcards.encoder, slide_id) for slide_id in bag_slides(wildcards)
    ]


def explain_settings(wildcards):
    return dumps({**CONFIG["explain"], "methods": METHODS[wildcards.model]})


def validation_settings(wildcards):
    """Of `explain`, without what plays no part where nothing is shown."""
    settings = json.loads(explain_settings(wildcards))
    return dumps({**settings, "curve_points": 0, "include_train": False})


def base_folder(wildcards):
    """Folder of the trained model that an entry stands on, or ""."""
    base = CONFIG["models"][wildcards.model].get("base")
    return f"{MODELS}/{wildcards.encoder}/{base}/fold-{wildcards.fold}" if base else ""


def base_model(wildcards):
    folder = base_folder(wildcards)
    names = ("model.safetensors", "config.json") if folder else ()
    return [f"{folder}/{name}" for name in names]


def base_option(wildcards):
    folder = base_folder(wildcards)
    return f"--base={folder}" if folder else ""


def fold_models(wildcards):
    return [
        f"{MODELS}/{wildcards.encoder}/{wildcards.model}/fold-{fold}/{name}"
        for fold in FOLDS
        for name in ("model.safetensors", "config.json")
    ]


def for_entries(pattern):
    """Input function: a pattern for every encoder × model."""
    return lambda wildcards: [
        pattern.format(results=RESULTS, encoder=encoder, model=model)
        for encoder in CONFIG["encoders"]
        for model in CONFIG["models"]
    ]


def labelled_scores(wildcards):
    return [
        f"{RESULTS}/scores/{wildcards.encoder}/{wildcards.model}/{row['slide_id']}.json"
        for row in labelled_slides()
    ]


def validation_folder(wildcards):
    """Scores of each fold's validation slides, to choose thresholds by, or "": without an annotated slide that can have a
    lesion there are none to choose, and trained models do not bring their validation slides along.
    """
    healthy = CONFIG["classes"][:1] if len(CONFIG["classes"]) == 2 else []
    needed = not TRAINED and any(
        "annotation" in row and row["label"] not in healthy for row in labelled_slides()
    )
    return (
        f"{RESULTS}/scores/{wildcards.encoder}/{wildcards.model}/validation"
        if needed
        else ""
    )


def validation_scores(wildcards):
    folder = validation_folder(wildcards)
    return [f"{folder}/fold-{fold}.json" for fold in FOLDS] if folder else []


def validation_option(wildcards):
    folder = validation_folder(wildcards)
    return f"--validation={folder}" if folder else ""


def all_statistics(wildcards):
    return [f"{RESULTS}/statistics/{encoder}.json" for encoder in CONFIG["encoders"]]


all_predictions = for_entries("{results}/predictions/{encoder}/{model}.csv")
all_metrics = for_entries("{results}/metrics/{encoder}/{model}.json")


def all_explanations(wildcards):
    """Of those models that have anything to explain by."""
    return [
        path
        for path in for_entries("{results}/explanations/{encoder}/{model}.json")(
            wildcards
        )
        if METHODS[Path(path).stem]
    ]


def all_models(wildcards):
    return [
        f"{MODELS}/{encoder}/{model}/fold-{fold}/model.safetensors"
        for encoder in CONFIG["encoders"]
        for model in CONFIG["models"]
        for fold in FOLDS
    ]


def cohort_scale(wildcards):
    """The range of all slides' colour bars, where the heatmaps are drawn on one."""
    if CONFIG["heatmap"]["scale"] != "cohort":
        return []
    return [
        f"{RESULTS}/heatmaps/{wildcards.encoder}/{wildcards.model}/cohort_scale.json"
    ]


def cohort_scale_option(wildcards):
    found = cohort_scale(wildcards)
    return f"--cohort-scale={found[0]}" if found else ""


def all_heatmaps(wildcards):
    return [
        f"{folder}/{row['slide_id']}/{method}.png"
        for folder in for_entries("{results}/heatmaps/{encoder}/{model}")(wildcards)
        for row in ok_slides()
        for method in METHODS[Path(folder).name]
    ]


def all_scores(wildcards):
    return [
        f"{folder}/{row['slide_id']}.json"
        for folder in for_entries("{results}/scores/{encoder}/{model}")(wildcards)
        for row in ok_slides()
    ]


def remove_copies():
    """Of slides on servers, on this machine, once the run has ended."""
    if CONFIG["remote"]["staging"] == "scratch":
        subprocess.run(["wsi-mil", "unstage"], stdout=subprocess.DEVNULL)
