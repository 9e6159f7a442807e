# Input files of jobs, and all outputs of each stage. Functions only, no rules.
from pathlib import Path


def tiles_of(encoder, slide_id):
    return f"{RESULTS}/tiles/{CONFIG['encoders'][encoder]['tiling']}/{slide_id}.json"


def features_of(encoder, slide_id):
    return f"{RESULTS}/features/{encoder}/{slide_id}.json"


def records(stage, *entries, jobs=None):
    """Records of the jobs of a stage, for entries such as encoder and model; by default of all jobs."""
    folder = Path(RESULTS).joinpath("jobs", stage, *entries)
    return [f"{folder}/{job}.json" for job in (JOBS if jobs is None else jobs)]


def tile_receipt(wildcards):
    return tiles_of(wildcards.encoder, wildcards.slide_id)


def tile_record(wildcards):
    return records("tile", tiling_of(wildcards), jobs=[wildcards.job])


def all_tile_records(wildcards):
    """Records of all tilings; receipts of imported tiles, which no rule makes."""
    made = [record for tiling in TILINGS for record in records("tile", tiling)]
    imported = [
        tiles_of(encoder, slide_id)
        for encoder in OF_TILES
        if encoder not in EXTRACTED
        for slide_id in SLIDES
    ]
    return made + imported


def all_feature_records(wildcards):
    """Records of all encoders; receipts of imported features, which no rule makes."""
    made = [record for encoder in EXTRACTED for record in records("extract", encoder)]
    imported = [
        features_of(encoder, slide_id)
        for encoder in CONFIG["encoders"]
        if encoder not in EXTRACTED
        for slide_id in SLIDES
    ]
    return made + imported


# The functions below use the checkpoint `cohort`, see slides.smk.


def usable_features(wildcards):
    """Input function: hashes of the features of the usable slides, which change with these features only."""
    checkpoints.cohort.get()
    return f"{RESULTS}/cohort_features/{wildcards.encoder}/usable.json"


def labelled_features(wildcards):
    """Input function: as `usable_features`, of the slides that have a label for the target."""
    checkpoints.cohort.get()
    folder = f"{RESULTS}/cohort_features/{wildcards.encoder}/labelled"
    return f"{folder}/{wildcards.target}.json"


def given_splits(wildcards):
    """Input function: the file of splits that the configuration has for a target, if any."""
    return (CONFIG["splits"] or {}).get(wildcards.target, [])


def folds_of(target):
    """Numbers of the folds of a target."""
    return range(PLAN["n_folds"][target])


def job_of(slide_id):
    """Name of the job that works on a slide."""
    return next(job for job, ids in JOBS.items() if slide_id in ids)


def bag_features(wildcards):
    """Input function: what has the features of the bags of a job's slides; receipts if they were imported."""
    bags = [bag_slides(row, wildcards) for row in ok_members(wildcards)]
    slide_ids = sorted({slide_id for bag in bags for slide_id in bag})
    if wildcards.encoder not in EXTRACTED:
        return [features_of(wildcards.encoder, slide_id) for slide_id in slide_ids]
    return records(
        "extract",
        wildcards.encoder,
        jobs=sorted({job_of(slide_id) for slide_id in slide_ids}),
    )


def scores_of_slide(wildcards):
    """Input function of a single heatmap: what has the scores of its slide."""
    if is_extra(wildcards):
        return f"{scores_folder(wildcards)}/{wildcards.slide_id}.json"
    job = job_of(wildcards.slide_id)
    entries = (wildcards.target, wildcards.encoder, wildcards.model)
    return records("explain", *entries, jobs=[job])


def shown_jobs():
    """Jobs that have a usable slide."""
    ok = ok_in(*status_file())
    return [job for job, ids in JOBS.items() if any(slide_id in ok for slide_id in ids)]


def labelled_jobs(wildcards):
    """Jobs that have a usable labelled slide. New slides have jobs of their own, so a new unlabelled one is not among them."""
    labelled = {row["slide_id"] for row in labelled_slides(wildcards)}
    return [job for job in shown_jobs() if labelled.intersection(JOBS[job])]


def base_folder(wildcards):
    """Folder of the trained base model of an entry, or ""."""
    base = CONFIG["models"][wildcards.model].get("base")
    folder = f"{MODELS}/{wildcards.target}/{wildcards.encoder}/{base}"
    return f"{folder}/fold-{wildcards.fold}" if base else ""


def base_model(wildcards):
    folder = base_folder(wildcards)
    names = ("model.safetensors", "config.json") if folder else ()
    return [f"{folder}/{name}" for name in names]


def base_option(wildcards):
    folder = base_folder(wildcards)
    return f"--base={folder}" if folder else ""


def fold_models(wildcards):
    folder = f"{MODELS}/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
    return [
        f"{folder}/fold-{fold}/{name}"
        for fold in folds_of(wildcards.target)
        for name in ("model.safetensors", "config.json")
    ]


def models_of(target, encoder):
    """Entries of `models` that learn a target from an entry of `encoders`."""
    return COMBINATIONS[target][encoder]


def explained(target, encoder):
    """Entries of `models` that learn a target, and of which an explanation method is drawn."""
    models = models_of(target, encoder) if encoder in OF_TILES else []
    return [model for model in models if METHODS[target][model]]


def for_entries(pattern):
    """Input function: a pattern, filled in for every target × encoder × model that learns it."""
    return lambda wildcards: [
        pattern.format(results=RESULTS, target=target, encoder=encoder, model=model)
        for target in TARGETS
        for encoder in CONFIG["encoders"]
        for model in models_of(target, encoder)
    ]


def labelled_scores(wildcards):
    """Records of the jobs that explain the labelled slides."""
    entries = (wildcards.target, wildcards.encoder, wildcards.model)
    return records("explain", *entries, jobs=labelled_jobs(wildcards))


def validation_folder(wildcards):
    """Folder with scores of each fold's validation slides, on which thresholds are chosen and methods tested; "" with models of an
    earlier run, where they are not available.
    """
    folder = (
        f"{RESULTS}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
    )
    return "" if TRAINED else f"{folder}/validation"


def validation_scores(wildcards):
    """Record of the scores of each fold's validation slides, if they are available."""
    if not validation_folder(wildcards):
        return []
    entries = (wildcards.target, wildcards.encoder)
    return records("explain_validation", *entries, jobs=[wildcards.model])


def validation_option(wildcards):
    folder = validation_folder(wildcards)
    return f"--validation={folder}" if folder else ""


def earlier_trust(wildcards):
    """Input function: what the run that trained the models knows of them, if it does."""
    if not TRAINED:
        return []
    file = (
        f"{TRAINED}/trust/{wildcards.target}/{wildcards.encoder}/{wildcards.model}.json"
    )
    return [file] if Path(file).exists() else []


def earlier_option(wildcards):
    return [f"--earlier={file}" for file in earlier_trust(wildcards)]


def trust_of(wildcards):
    """What is known of a model and its methods."""
    return (
        f"{RESULTS}/trust/{wildcards.target}/{wildcards.encoder}/{wildcards.model}.json"
    )


def trust_option(wildcards, input):
    """Params function: what is known of the model. A single heatmap takes it if it is there, and does not wait for it, which would
    explain the whole cohort; of other models than those of the scores, the command takes no notice of it.
    """
    file = trust_of(wildcards)
    is_there = "trust" in input.keys() or Path(file).exists()
    return [f"--trust={file}"] if is_there else []


def cohort_scale(wildcards):
    """Input function: the common colour scale, if heatmaps use one."""
    if CONFIG["heatmap"]["scale"] != "cohort":
        return []
    folder = (
        f"{RESULTS}/heatmaps/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
    )
    return [f"{folder}/cohort_scale.json"]


def cohort_scale_option(wildcards):
    scale = cohort_scale(wildcards)
    return f"--cohort-scale={scale[0]}" if scale else ""


def all_models(wildcards):
    return [
        f"{MODELS}/{target}/{encoder}/{model}/fold-{fold}/model.safetensors"
        for target in TARGETS
        for encoder in CONFIG["encoders"]
        for model in models_of(target, encoder)
        for fold in folds_of(target)
    ]


def all_splits(wildcards):
    return [SPLITS.format(target=target) for target in TARGETS]


def usual_tile_record(wildcards):
    """Record of the job that tiles a slide as usual."""
    return records("tile", wildcards.tiling, jobs=[job_of(wildcards.slide_id)])


def usual_scores_record(wildcards):
    """Record of the job that explains a slide as usual."""
    entries = (wildcards.target, wildcards.encoder, wildcards.model)
    return records("explain", *entries, jobs=[job_of(wildcards.slide_id)])


def usual_heatmap_record(wildcards):
    """Record of the job that draws a slide as usual: it removes finer heatmaps of other scores, so it comes first."""
    entries = (wildcards.target, wildcards.encoder, wildcards.model)
    return records("heatmap", *entries, jobs=[job_of(wildcards.slide_id)])


def fine_tile_record(wildcards):
    return records("fine_tile", tiling_of(wildcards), jobs=[wildcards.slide_id])


def fine_features(wildcards):
    """Records of the jobs with the features of a slide's shifted tilings, and of the other slides of its bag."""
    own = records("fine_extract", wildcards.encoder, jobs=[wildcards.slide_id])
    return own + bag_features(wildcards)


def fine_slides():
    """Slides that are chosen for finer heatmaps and can be used; of the others the table of statuses says why not."""
    ok = ok_in(*status_file())
    return [
        slide_id for slide_id in CONFIG["heatmap"]["fine"]["slides"] if slide_id in ok
    ]


def all_fine_heatmaps(wildcards):
    """Records of the finer scores and heatmaps of the chosen slides, for models that support a method and features of this
    run. Viewer and report read the scores, so these are made again if they are lost.
    """
    return [
        record
        for target in TARGETS
        for encoder in EXTRACTED
        for model in explained(target, encoder)
        if CONFIG["heatmap"]["fine"]["slides"]
        for stage in ("fine_explain", "fine_heatmap")
        for record in records(stage, target, encoder, model, jobs=fine_slides())
    ]


def shown_records(stage):
    """Input function: records of a stage that works on the usable slides, for models that support a method."""
    return lambda wildcards: [
        record
        for target in TARGETS
        for encoder in CONFIG["encoders"]
        for model in explained(target, encoder)
        for record in records(stage, target, encoder, model, jobs=shown_jobs())
    ]


all_scores = shown_records("explain")
all_heatmaps = shown_records("heatmap")


def all_explanations(wildcards):
    """Evaluations of all models that support one of the explanation methods."""
    return [
        f"{RESULTS}/explanations/{target}/{encoder}/{model}.json"
        for target in TARGETS
        for encoder in CONFIG["encoders"]
        for model in explained(target, encoder)
    ]


def all_trust(wildcards):
    """What is known of all models that support one of the explanation methods."""
    return [
        f"{RESULTS}/trust/{target}/{encoder}/{model}.json"
        for target in TARGETS
        for encoder in CONFIG["encoders"]
        for model in explained(target, encoder)
    ]


def all_statistics(wildcards):
    return [f"{RESULTS}/statistics/{encoder}.json" for encoder in CONFIG["encoders"]]


all_predictions = for_entries("{results}/predictions/{target}/{encoder}/{model}.csv")
all_metrics = for_entries("{results}/metrics/{target}/{encoder}/{model}.json")
