# Input files of jobs, and all outputs of each stage. Functions only, no rules.
from pathlib import Path


def tiles_of(encoder, slide_id):
    return f"{RESULTS}/tiles/{CONFIG['encoders'][encoder]['tiling']}/{slide_id}.json"


def features_of(encoder, slide_id):
    return f"{RESULTS}/features/{encoder}/{slide_id}.json"


def tile_receipt(wildcards):
    return tiles_of(wildcards.encoder, wildcards.slide_id)


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


# The functions below use the checkpoint `cohort`, see slides.smk.


def shown_tile_receipts(wildcards):
    ok_slides()
    return sorted(set(all_tile_receipts(wildcards)))


def labelled_features(wildcards):
    return [
        features_of(wildcards.encoder, row["slide_id"]) for row in labelled_slides()
    ]


def ok_features(wildcards):
    return [features_of(wildcards.encoder, row["slide_id"]) for row in ok_slides()]


def bag_features(wildcards):
    ok_slides()
    return [
        features_of(wildcards.encoder, slide_id) for slide_id in bag_slides(wildcards)
    ]


def base_folder(wildcards):
    """Folder of the trained base model of an entry, or ""."""
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
    """Input function: a pattern, filled in for every encoder × model."""
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
    """Folder with scores of each fold's validation slides, on which thresholds are chosen, or "". They are not needed
    without annotated slides of a positive class, and not available with models of an earlier run.
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


def cohort_scale(wildcards):
    """Input function: the common colour scale, if heatmaps use one."""
    if CONFIG["heatmap"]["scale"] != "cohort":
        return []
    return [
        f"{RESULTS}/heatmaps/{wildcards.encoder}/{wildcards.model}/cohort_scale.json"
    ]


def cohort_scale_option(wildcards):
    scale = cohort_scale(wildcards)
    return f"--cohort-scale={scale[0]}" if scale else ""


def all_models(wildcards):
    return [
        f"{MODELS}/{encoder}/{model}/fold-{fold}/model.safetensors"
        for encoder in CONFIG["encoders"]
        for model in CONFIG["models"]
        for fold in FOLDS
    ]


def all_scores(wildcards):
    return [
        f"{folder}/{row['slide_id']}.json"
        for folder in for_entries("{results}/scores/{encoder}/{model}")(wildcards)
        for row in ok_slides()
    ]


def all_heatmaps(wildcards):
    return [
        f"{folder}/{row['slide_id']}/{method}.png"
        for folder in for_entries("{results}/heatmaps/{encoder}/{model}")(wildcards)
        for row in ok_slides()
        for method in METHODS[Path(folder).name]
    ]


def all_explanations(wildcards):
    """Evaluations of all models that support one of the explanation methods."""
    return [
        path
        for path in for_entries("{results}/explanations/{encoder}/{model}.json")(
            wildcards
        )
        if METHODS[Path(path).stem]
    ]


def all_statistics(wildcards):
    return [f"{RESULTS}/statistics/{encoder}.json" for encoder in CONFIG["encoders"]]


all_predictions = for_entries("{results}/predictions/{encoder}/{model}.csv")
all_metrics = for_entries("{results}/metrics/{encoder}/{model}.json")
