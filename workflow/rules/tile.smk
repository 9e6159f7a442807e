rule tile:
    input:
        slides=local_slides,
    output:
        record="<results>/jobs/tile/{tiling}/{job}.json",
    log:
        "logs/tile/{tiling}/{job}.log",
    benchmark:
        "<results>/benchmarks/tile/{tiling}/{job}.tsv"
    wildcard_constraints:
        tiling=one_of(TILINGS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("tile"),
    params:
        results=folder(RESULTS),
        rows=tile_rows,
        rerun_if=tile_version,
        settings=tile_settings,
        record=record_option,
    shell:
        "wsi-mil tile {params.rows:q} --settings={params.settings:q} --tiles={params.results:q}/tiles/{wildcards.tiling}"
        " {params.record:q} --threads={threads} 2> {log:q}"


use rule tile as tile_slide with:
    output:
        receipt="<results>/tiles/{tiling}/{slide_id}.json",
    log:
        "logs/tile/{tiling}/{slide_id}.slide.log",
    benchmark:
        "<results>/benchmarks/tile/{tiling}/{slide_id}.slide.tsv"


rule tiles:
    input:
        all_tile_records,
