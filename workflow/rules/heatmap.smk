rule heatmap:
    input:
        scores="<results>/scores/{encoder}/{model}/{slide_id}.json",
    output:
        image="<results>/heatmaps/{encoder}/{model}/{slide_id}/{method}.png",
    log:
        "logs/heatmap/{encoder}/{model}/{slide_id}/{method}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        row=slide_row("label", "annotation"),
        tiles=tile_receipt,
        settings=stage_settings("heatmap"),
        rerun_if=slide_row("annotation_hash"),
    shell:
        "wsi-mil heatmap --scores={input.scores:q} --tiles={params.tiles:q} --row={params.row:q}"
        " --method={wildcards.method} --settings={params.settings:q} --image={output.image:q}"
        " --threads={threads} 2> {log:q}"


rule heatmaps:
    input:
        all_heatmaps,
