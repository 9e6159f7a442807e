rule tile:
    input:
        slide=slide_path,
    output:
        receipt="<results>/tiles/{tiling}/{slide_id}.json",
    log:
        "logs/tile/{tiling}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/tile/{tiling}/{slide_id}.tsv"
    wildcard_constraints:
        tiling=one_of(TILINGS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("tile"),
    params:
        row=tile_row,
        rerun_if=tile_annotation,
        settings=tile_settings,
    shell:
        "wsi-mil tile --slide={input.slide:q} --row={params.row:q} --settings={params.settings:q}"
        " --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule tiles:
    input:
        all_tile_receipts,
