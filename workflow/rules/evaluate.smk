rule evaluate:
    input:
        scores=labelled_scores,
        validation=validation_scores,
        status=ancient("<results>/cohort_status.csv"),
    output:
        figures="<results>/explanations/{target}/{encoder}/{model}.json",
    log:
        "logs/evaluate/{target}/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/evaluate/{target}/{encoder}/{model}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("evaluate"),
    params:
        results=folder(RESULTS),
        target=target_settings("learning"),
        tiling=lambda wildcards: tiling_of(wildcards),
        validation=validation_option,
        truth=stage_settings("truth"),
        settings=stage_settings("predict"),
        rerun_if=shown_rows(
            "slide_id", "patient_id", "label", "annotation_hash", of=labelled_slides
        ),
    shell:
        "wsi-mil evaluate --target={params.target:q} --status={input.status:q}"
        " --scores={params.results:q}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model} --tiles={params.results:q}/tiles/{params.tiling}"
        " {params.validation:q} --truth={params.truth:q}"
        " --settings={params.settings:q} --figures={output.figures:q} --threads={threads} 2> {log:q}"


rule explanations:
    input:
        all_explanations,
