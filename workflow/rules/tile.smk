rule tile:
    input:
        slide=local_slide,
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
        slide=slide_path,
        row=tile_row,
        rerun_if=tile_version,
        settings=tile_settings,
    shell:
        "wsi-mil tile --slide={params.slide:q} --row={params.row:q} --settings={params.settings:q}"
        " --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule tiles:
    input:
        all_tile_receipts,
