# Finer heatmaps of chosen slides (heatmap.fine): each shift of the tiling has tiles, features and scores of its own. No rule
# of the usual heatmaps waits for these, so choosing a slide runs nothing but them.
FINE = CONFIG["heatmap"]["fine"]


rule fine_tile:
    input:
        tiles=usual_tile_record,
    output:
        record="<results>/jobs/fine_tile/{tiling}/{slide_id}.json",
    log:
        "logs/fine_tile/{tiling}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/fine_tile/{tiling}/{slide_id}.tsv"
    wildcard_constraints:
        tiling=one_of(TILINGS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("fine_tile"),
    params:
        results=folder(RESULTS),
        rows=tile_rows,
        steps=FINE["steps"],
        rerun_if=tile_version,
    shell:
        "wsi-mil fine-tile {params.rows:q} --steps={params.steps} --results={params.results:q} --tiling={wildcards.tiling}"
        " --record={output.record:q} --threads={threads} 2> {log:q}"


rule fine_extract:
    input:
        tiles=fine_tile_record,
    output:
        record="<results>/jobs/fine_extract/{encoder}/{slide_id}.json",
    log:
        "logs/fine_extract/{encoder}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/fine_extract/{encoder}/{slide_id}.tsv"
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/gpu.yaml"
    threads: max(1, workflow.cores // GPUS)
    resources:
        **needs("fine_extract"),
        gpu=1,
    params:
        results=folder(RESULTS),
        rows=row_options("path"),
        steps=FINE["steps"],
        settings=encoder_settings,
        tiling=lambda wildcards: tiling_of(wildcards),
        rerun_if=lambda wildcards: PLAN["networks"][wildcards.encoder],
    shell:
        "wsi-mil fine-extract {params.rows:q} --steps={params.steps} --settings={params.settings:q} --results={params.results:q}"
        " --tiling={params.tiling} --encoder={wildcards.encoder} --record={output.record:q} --threads={threads} 2> {log:q}"


rule fine_explain:
    input:
        scores=usual_scores_record,
        features=fine_features,
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
    output:
        record="<results>/jobs/fine_explain/{target}/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/fine_explain/{target}/{encoder}/{model}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/fine_explain/{target}/{encoder}/{model}/{slide_id}.tsv"
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("fine_explain"),
        gpu=GPU,
    params:
        results=folder(RESULTS),
        models=folder(MODELS),
        rows=row_options("patient_id"),
        steps=FINE["steps"],
        target=target_settings("learning"),
        tiling=lambda wildcards: tiling_of(wildcards),
        bag=CONFIG["bag"],
        bag_slides=bags_option,
        settings=explain_settings,
    shell:
        "wsi-mil fine-explain {params.rows:q} --steps={params.steps} --target={params.target:q} --splits={input.splits:q}"
        " --models={params.models:q}/{wildcards.target}/{wildcards.encoder}/{wildcards.model} --settings={params.settings:q}"
        " --results={params.results:q} --tiling={params.tiling} --entry={wildcards.target}/{wildcards.encoder}/{wildcards.model}"
        " --bag={params.bag} --bag-slides={params.bag_slides:q} --record={output.record:q} --threads={threads} 2> {log:q}"


rule fine_heatmap:
    input:
        scores="<results>/jobs/fine_explain/{target}/{encoder}/{model}/{slide_id}.json",
        usual=usual_heatmap_record,
        cohort_scale=cohort_scale,
        trust=trust_of,
        status=ancient("<results>/cohort_status.csv"),
    output:
        record="<results>/jobs/fine_heatmap/{target}/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/fine_heatmap/{target}/{encoder}/{model}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/fine_heatmap/{target}/{encoder}/{model}/{slide_id}.tsv"
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("fine_heatmap"),
    params:
        results=folder(RESULTS),
        rows=row_options("path", "label", "annotation"),
        methods=method_options,
        settings=heatmap_settings,
        truth=stage_settings("truth"),
        cohort_scale=cohort_scale_option,
        trust=trust_option,
        rerun_if=heatmap_version,
    shell:
        "wsi-mil fine-heatmap {params.rows:q} {params.methods:q} --settings={params.settings:q} --truth={params.truth:q}"
        " --results={params.results:q} --entry={wildcards.target}/{wildcards.encoder}/{wildcards.model}"
        " {params.cohort_scale:q} {params.trust:q} --record={output.record:q} --threads={threads} 2> {log:q}"


rule fine_heatmaps:
    input:
        all_fine_heatmaps,
