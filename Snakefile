from snakemake.utils import min_version

min_version("9.20")

# Snakemake merges configuration files: the demo's must not be merged into the user's.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/slides.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/tile.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/trust.smk"
include: "workflow/rules/heatmap.smk"
include: "workflow/rules/fine.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/report.smk"


onstart:
    save_division()
    name_forced_stages()


onsuccess:
    remove_copies()


onerror:
    remove_copies()


rule all:
    default_target: True
    input:
        "<results>/report/index.html",
        all_tile_records,
        all_feature_records,
        all_splits,
        all_models,
        all_predictions,
        all_metrics,
        all_statistics,
        all_scores,
        all_explanations,
        all_trust,
        all_heatmaps,
        all_fine_heatmaps,
