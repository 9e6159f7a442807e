# The checked configuration, params functions for its parts, and wildcard constraints. No rules. Functions of slides are in
# slides.smk, lists of files in targets.smk.
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def dumps(value):
    """JSON text for params, identical for identical settings."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


CLUSTER_JOBS = 16


def parallel_jobs():
    """Number of jobs of one core that can run at the same time; on a cluster, whose free nodes are not known, `CLUSTER_JOBS`."""
    on_cluster = workflow.resource_settings.nodes is not None
    return CLUSTER_JOBS if on_cluster else workflow.cores


def checked_plan():
    """Return the configuration with its defaults and the rows of the sheet, from `wsi-mil check`.

    The main process runs the check once and saves the plan for the processes of its jobs. The file name depends on the
    configuration, so that another run in the same folder does not change it. The plan divides the slides among jobs, by the
    number of jobs that can run at the same time. Snakemake has merged the configuration files
    and kept only the last of repeated keys, so the command gets the files, too.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    plan_file = (
        Path(".snakemake")
        / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    )
    if workflow.is_main_process:
        merged = [f"--merged={os.path.relpath(file)}" for file in workflow.configfiles]
        done = subprocess.run(
            [
                "wsi-mil",
                "check",
                f"--parallel={parallel_jobs()}",
                *dict.fromkeys(merged),
            ],
            input=json.dumps(config, default=str),
            encoding="utf-8",
            stdout=subprocess.PIPE,
        )
        if done.returncode:
            sys.exit(done.returncode)
        plan_file.parent.mkdir(exist_ok=True)
        part = plan_file.with_suffix(f".{os.getpid()}")
        part.write_text(done.stdout, encoding="utf-8")
        part.replace(plan_file)
    return json.loads(plan_file.read_text(encoding="utf-8"))


PLAN = checked_plan()
CONFIG = PLAN["config"]
SLIDES = {row["slide_id"]: row for row in PLAN["slides"]}
JOBS = PLAN["jobs"]  # slides of each job of several slides
METHODS = PLAN[
    "methods"
]  # supported explanation methods of each model, for each target
COMBINATIONS = PLAN[
    "combinations"
]  # models that are trained for each target, by entry of encoders
TARGETS = list(CONFIG["targets"])
RESULTS = CONFIG["results"]
if workflow.modifier.modify_path(f"{RESULTS}/report") != f"{RESULTS}/report":
    sys.exit(
        "error: module wsi_mil: `prefix` and `replace_prefix` are not known to the commands; set `results` in its configuration"
    )
TRAINED = CONFIG["trained"]
MODELS = f"{TRAINED or RESULTS}/models"
SPLITS = f"{TRAINED or RESULTS}/splits/{{target}}.csv"
os.environ.setdefault("WSI_MIL_DEVICE", CONFIG["device"])  # for all jobs
os.environ.setdefault("WSI_MIL_READ_TIMEOUT_S", str(CONFIG["read_timeout_s"]))
os.environ.setdefault(
    "WSI_MIL_REMOTE", dumps(CONFIG["remote"])
)  # environment, not params: changes rerun nothing
os.environ.setdefault("WSI_MIL_DASK", CONFIG["dask"]["scheduler"])
os.environ.setdefault("WSI_MIL_AGAIN", "")
os.environ.setdefault(
    "WSI_MIL_REQUIREMENT", PLAN["requirement"]
)  # what envs/*.yaml install of this package, with --sdm conda
os.environ["WSI_MIL_SHEET"] = CONFIG[
    "cohort"
]  # a sheet with another name reruns nothing
os.environ.setdefault("WSI_MIL_KEEP_GB", str(CONFIG["train"]["keep_gb"]))
os.environ.setdefault("WSI_MIL_TRAIN_LOG", CONFIG["train"]["log"])
os.environ.setdefault(
    "WSI_MIL_TRAININGS",
    str(
        min(
            workflow.cores,
            sum(
                PLAN["n_folds"][target] * len(models)
                for target in TARGETS
                for models in COMBINATIONS[target].values()
            ),
        )
    ),
)  # how many may run at once


envvars:
    "WSI_MIL_DEVICE",
    "WSI_MIL_READ_TIMEOUT_S",
    "WSI_MIL_REMOTE",
    "WSI_MIL_DASK",
    "WSI_MIL_AGAIN",
    "WSI_MIL_SHEET",
    "WSI_MIL_KEEP_GB",
    "WSI_MIL_TRAIN_LOG",
    "WSI_MIL_TRAININGS",


GPU = int(
    shutil.which("nvidia-smi") is not None and os.environ["WSI_MIL_DEVICE"] != "cpu"
)  # with a GPU, one job at a time computes on it
GPUS = (
    workflow.global_resources["gpu"].value if "gpu" in workflow.global_resources else 1
)  # jobs of `extract` that run in parallel and share the cores


pathvars:
    results=RESULTS,


wildcard_constraints:
    slide_id=r"[A-Za-z0-9_][A-Za-z0-9_.\-]*",
    job=r"[A-Za-z0-9_][A-Za-z0-9_.\-~]*",
    tiling="[a-z0-9_-]+",
    target="[a-z0-9_-]+",
    encoder="[a-z0-9_-]+",
    model="[a-z0-9_-]+",
    fold="[0-9]+",


def one_of(names):
    """Regular expression that matches one of the names; nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    method=one_of(PLAN["explanations"]),


EXTRACTED = [
    name
    for name, entry in CONFIG["encoders"].items()
    if entry["features"] == "extracted"
]  # tiles and features of other entries are imported: no rule has their receipts as output
OF_TILES = [
    name for name, entry in CONFIG["encoders"].items() if entry["of"] == "tile"
]  # the others have one vector for each slide: no tiles, explanations or heatmaps
TILINGS = sorted({CONFIG["encoders"][name]["tiling"] for name in EXTRACTED})


def folder(path):
    """Params function: a folder that does not depend on wildcards; as text, braces in it would be taken for wildcards."""
    return lambda wildcards: path


def record_option(wildcards, output):
    """Params function: where a job writes its record; nothing for a single slide."""
    return [f"--record={output.record}"] if "record" in output.keys() else []


def stage_settings(stage):
    """Params function: the configuration block of a stage."""
    return lambda wildcards: dumps(CONFIG[stage])


def heatmap_settings(wildcards):
    """Params function: settings of `heatmap`; the cohort's scale has no range for a method outside of the configuration."""
    own = (
        {"scale": "auto"}
        if is_extra(wildcards) and CONFIG["heatmap"]["scale"] == "cohort"
        else {}
    )
    drawn = {key: CONFIG["heatmap"][key] for key in CONFIG["heatmap"] if key != "fine"}
    return dumps({**drawn, **own})


def group_option(wildcards):
    """Params function: the column of groups that get figures of their own, if any."""
    group = CONFIG["split"]["group"]
    return [f"--group={group}"] if group else []


def recalibrate_option(wildcards):
    """Params function: how probabilities are fitted again, if they are."""
    settings = CONFIG["recalibrate"]
    return [f"--recalibrate={dumps(settings)}"] if settings else []


def entry_settings(block, wildcard):
    """Params function: settings of the entry named by a wildcard."""
    return lambda wildcards: dumps(CONFIG[block][wildcards[wildcard]])


def encoder_settings(wildcards):
    """Params function: settings of an entry that extracts."""
    entry = CONFIG["encoders"][wildcards.encoder]
    return dumps({key: entry[key] for key in entry if key != "of"})


def is_extra(wildcards):
    """Whether a heatmap is asked for by a method that the configuration does not have; its scores have a folder of their own."""
    return (
        "method" in wildcards.keys()
        and wildcards.method not in METHODS[wildcards.target][wildcards.model]
    )


def explain_settings(wildcards):
    """Params function: settings of `explain`, with the methods that the model supports, and the outputs that the target has."""
    own = METHODS[wildcards.target][wildcards.model]
    compared = PLAN["compared"][wildcards.target][wildcards.model]
    methods = [wildcards.method] if is_extra(wildcards) else own + compared
    outputs = PLAN["outputs"][wildcards.target]
    return dumps({**CONFIG["explain"], "methods": methods, "outputs": outputs})


def scores_folder(wildcards):
    """Params function: folder with the scores of a job's slides."""
    folder = (
        f"{RESULTS}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
    )
    return f"{folder}/{wildcards.method}" if is_extra(wildcards) else folder


def validation_settings(wildcards):
    """Params function: settings of `explain`, without those that have no effect on validation slides."""
    settings = json.loads(explain_settings(wildcards))
    return dumps({**settings, "include_train": False})


def report_config(wildcards):
    """Params function: the configuration without settings that change no result. Entries stay in order: the page shows them so."""
    shown = {
        name: CONFIG[name] for name in CONFIG if name not in ("remote", "dask", "train")
    }
    return json.dumps(shown, ensure_ascii=False)


def target_settings(kind):
    """Params function: settings of the target: those that determine labels and folds (`reading`), models too (`learning`), or
    figures too (`predicting`); with the covariates that the model of a job uses.
    """

    def settings(wildcards):
        covariates = used_covariates(wildcards)
        own = {"covariates": covariates} if covariates else {}
        return dumps({**PLAN[kind][wildcards.target], **own})

    return settings


def used_covariates(wildcards):
    """Covariates that the model of a job uses, by kind; {} if it uses none."""
    of_target = PLAN["covariates"].get(wildcards.get("target"), {})
    return of_target.get(wildcards.get("model"), {})


def covariate_cells(row, wildcards):
    """Cells of a slide that are covariates of the model of a job; [] if it uses none, so that no other job is run again."""
    columns = [name for names in used_covariates(wildcards).values() for name in names]
    return [row.get("covariates", {}).get(name) for name in columns]


def forget_incomplete_records():
    """Remove the records of jobs, and the table of statuses, whose results were deleted, so that these are made again."""
    for record in PLAN["incomplete_records"]:
        Path(record).unlink(missing_ok=True)


def name_forced_stages(rules):
    """Tell the jobs which stages are forced (--forcerun, --forceall), since they skip slides whose results are current.

    In a module of another workflow, rules may have other names (`use rule * from wsi_mil as slides_*`).
    """
    dag = workflow.dag_settings
    forced = set(map(str, dag.forcerun))
    names = {name: getattr(rules, name).rule.name for name in NEEDS if rules.has(name)}
    again = [name for name in names if dag.forceall or names[name] in forced]
    os.environ["WSI_MIL_AGAIN"] = " ".join(sorted(again))


def save_division():
    """Keep the division of the slides among jobs for the next run."""
    file = Path(RESULTS) / "jobs" / "slides.json"
    text = json.dumps(PLAN["jobs"], indent=1)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)


if workflow.is_main_process:
    forget_incomplete_records()


def remove_copies():
    """Remove this machine's copies of slides on servers at the end of the run."""
    if CONFIG["remote"]["staging"] == "scratch":
        subprocess.run(["wsi-mil", "unstage"], stdout=subprocess.DEVNULL)
