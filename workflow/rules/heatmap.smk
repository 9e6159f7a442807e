rule heatmap_scale:
    input:
        scores=labelled_scores,
        status=ancient("<results>/cohort_status.csv"),
    output:
        scale="<results>/heatmaps/{encoder}/{model}/cohort_scale.json",
    log:
        "logs/heatmap_scale/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/heatmap_scale/{encoder}/{model}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("heatmap_scale"),
    params:
        sheet=CONFIG["cohort"],
        classes=classes_json,
        scores=lambda wildcards: f"{RESULTS}/scores/{wildcards.encoder}/{wildcards.model}",
    shell:
        "wsi-mil heatmap-scale --sheet={params.sheet:q} --classes={params.classes:q} --status={input.status:q}"
        " --scores={params.scores:q} --scale={output.scale:q} --threads={threads} 2> {log:q}"


rule heatmap:
    input:
        scores="<results>/scores/{encoder}/{model}/{slide_id}.json",
        cohort_scale=cohort_scale,
    output:
        image="<results>/heatmaps/{encoder}/{model}/{slide_id}/{method}.png",
    log:
        "logs/heatmap/{encoder}/{model}/{slide_id}/{method}.log",
    benchmark:
        "<results>/benchmarks/heatmap/{encoder}/{model}/{slide_id}/{method}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("heatmap"),
    params:
        row=slide_row("label", "annotation"),
        slide=slide_path,
        tiles=tile_receipt,
        settings=stage_settings("heatmap"),
        truth=stage_settings("truth"),
        cohort_scale=cohort_scale_option,
        rerun_if=slide_row("annotation_hash"),
    shell:
        "wsi-mil heatmap --scores={input.scores:q} --tiles={params.tiles:q} --row={params.row:q}"
        " --slide={params.slide:q} --method={wildcards.method} --settings={params.settings:q}"
        " --truth={params.truth:q} --image={output.image:q} {params.cohort_scale:q}"
        " --threads={threads} 2> {log:q}"


rule heatmaps:
    input:
        all_heatmaps,
