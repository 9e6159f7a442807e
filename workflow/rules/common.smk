# The checked configuration, its parts as params, and wildcard constraints: no rules. Slides stand in slides.smk, files in targets.smk.
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def dumps(value):
    """JSON for params: the same for the same settings."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def checked_plan():
    """The configuration with its defaults and the rows of the sheet, from `wsi-mil check`.

    The main process asks once and keeps the answer for the processes of its jobs, under a name made from the
    configuration, so that another run in the same folder does not change it. Snakemake has merged configuration files
    by then, and of keys that stand twice in one kept the last: the command is told the files, too.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    kept = (
        Path(".snakemake")
        / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    )
    if workflow.is_main_process:
        merged = [f"--merged={os.path.relpath(file)}" for file in workflow.configfiles]
        done = subprocess.run(
            ["wsi-mil", "check", *dict.fromkeys(merged)],
            input=text,
            encoding="utf-8",
            stdout=subprocess.PIPE,
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


def stage_settings(stage):
    """Params function: a stage's block of the configuration."""
    return lambda wildcards: dumps(CONFIG[stage])


def entry_settings(block, wildcard):
    """Params function: the settings of the entry that a wildcard names."""
    return lambda wildcards: dumps(CONFIG[block][wildcards[wildcard]])


def explain_settings(wildcards):
    return dumps({**CONFIG["explain"], "methods": METHODS[wildcards.model]})


def validation_settings(wildcards):
    """Of `explain`, without what plays no part where nothing is shown."""
    settings = json.loads(explain_settings(wildcards))
    return dumps({**settings, "curve_points": 0, "include_train": False})


def report_config(wildcards):
    """Params function: the configuration without what changes no result."""
    return dumps(
        {name: CONFIG[name] for name in CONFIG if name not in ("remote", "dask")}
    )


def classes_json(wildcards):
    return dumps(CONFIG["classes"])


def remove_copies():
    """Of slides on servers, on this machine, once the run has ended."""
    if CONFIG["remote"]["staging"] == "scratch":
        subprocess.run(["wsi-mil", "unstage"], stdout=subprocess.DEVNULL)
