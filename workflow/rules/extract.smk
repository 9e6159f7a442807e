rule extract:
    input:
        tiles=tile_receipt,
    output:
        receipt="<results>/features/{encoder}/{slide_id}.json",
    log:
        "logs/extract/{encoder}/{slide_id}.log",
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/gpu.yaml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        row=slide_row("path"),
        settings=entry_settings("encoders", "encoder"),
        rerun_if=lambda wildcards: PLAN["weights"][wildcards.encoder],
    shell:
        "wsi-mil extract --tiles={input.tiles:q} --row={params.row:q} --settings={params.settings:q}"
        " --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule features:
    input:
        all_feature_receipts,
