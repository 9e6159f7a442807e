rule heatmap_scale:
    input:
        scores=labelled_scores,
        status=ancient("<results>/cohort_status.csv"),
    output:
        scale="<results>/heatmaps/{target}/{encoder}/{model}/cohort_scale.json",
    log:
        "logs/heatmap_scale/{target}/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/heatmap_scale/{target}/{encoder}/{model}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("heatmap_scale"),
    params:
        results=folder(RESULTS),
        target=target_settings("reading"),
        rerun_if=shown_rows("slide_id", "label", of=labelled_slides),
    shell:
        "wsi-mil heatmap-scale --target={params.target:q} --status={input.status:q}"
        " --scores={params.results:q}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model} --scale={output.scale:q} --threads={threads} 2> {log:q}"


rule heatmap:
    input:
        scores="<results>/jobs/explain/{target}/{encoder}/{model}/{job}.json",
        cohort_scale=cohort_scale,
        trust=trust_of,
        status=ancient("<results>/cohort_status.csv"),
    output:
        record="<results>/jobs/heatmap/{target}/{encoder}/{model}/{job}.json",
    log:
        "logs/heatmap/{target}/{encoder}/{model}/{job}.log",
    benchmark:
        "<results>/benchmarks/heatmap/{target}/{encoder}/{model}/{job}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("heatmap"),
    params:
        results=folder(RESULTS),
        rows=row_options("path", "label", "annotation", of=ok_members),
        methods=method_options,
        tiling=lambda wildcards: tiling_of(wildcards),
        settings=heatmap_settings,
        truth=stage_settings("truth"),
        scores=scores_folder,
        cohort_scale=cohort_scale_option,
        trust=trust_option,
        rerun_if=heatmap_version,
        record=record_option,
    shell:
        "wsi-mil heatmap {params.rows:q} {params.methods:q} --settings={params.settings:q} --truth={params.truth:q}"
        " --scores={params.scores:q} --tiles={params.results:q}/tiles/{params.tiling}"
        " --heatmaps={params.results:q}/heatmaps/{wildcards.target}/{wildcards.encoder}/{wildcards.model} {params.cohort_scale:q} {params.trust:q} {params.record:q}"
        " --threads={threads} 2> {log:q}"


use rule heatmap as heatmap_slide with:
    input:
        scores=scores_of_slide,
        cohort_scale=cohort_scale,
        status=ancient("<results>/cohort_status.csv"),
    output:
        image="<results>/heatmaps/{target}/{encoder}/{model}/{slide_id}/{method}.png",
    log:
        "logs/heatmap/{target}/{encoder}/{model}/{slide_id}.{method}.log",
    benchmark:
        "<results>/benchmarks/heatmap/{target}/{encoder}/{model}/{slide_id}.{method}.tsv"


rule heatmaps:
    input:
        all_heatmaps,
