rule extract:
    input:
        tiles=tile_record,
    output:
        record="<results>/jobs/extract/{encoder}/{job}.json",
    log:
        "logs/extract/{encoder}/{job}.log",
    benchmark:
        "<results>/benchmarks/extract/{encoder}/{job}.tsv"
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/gpu.yaml"
    threads: max(1, workflow.cores // GPUS)
    resources:
        **needs("extract"),
        gpu=1,
    params:
        results=folder(RESULTS),
        rows=row_options("path"),
        settings=encoder_settings,
        tiling=lambda wildcards: tiling_of(wildcards),
        rerun_if=lambda wildcards: PLAN["networks"][wildcards.encoder],
        record=record_option,
    shell:
        "wsi-mil extract {params.rows:q} --settings={params.settings:q} --tiles={params.results:q}/tiles/{params.tiling}"
        " --features={params.results:q}/features/{wildcards.encoder} {params.record:q} --threads={threads} 2> {log:q}"


use rule extract as extract_slide with:
    input:
        tiles=tile_receipt,
    output:
        receipt="<results>/features/{encoder}/{slide_id}.json",
    log:
        "logs/extract/{encoder}/{slide_id}.slide.log",
    benchmark:
        "<results>/benchmarks/extract/{encoder}/{slide_id}.slide.tsv"


rule features:
    input:
        all_feature_records,
