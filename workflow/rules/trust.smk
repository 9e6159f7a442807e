rule trust:
    input:
        scores=labelled_scores,
        validation=validation_scores,
        earlier=earlier_trust,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
    output:
        trust="<results>/trust/{target}/{encoder}/{model}.json",
    log:
        "logs/trust/{target}/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/trust/{target}/{encoder}/{model}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("trust"),
    params:
        results=folder(RESULTS),
        target=target_settings("learning"),
        validation=validation_option,
        earlier=earlier_option,
        settings=stage_settings("predict"),
        group=group_option,
        rerun_if=shown_rows(
            "slide_id", "patient_id", "label", "group", of=labelled_slides
        ),
    shell:
        "wsi-mil trust --target={params.target:q} --status={input.status:q} --splits={input.splits:q}"
        " --scores={params.results:q}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
        " {params.validation:q} {params.earlier:q} {params.group:q}"
        " --settings={params.settings:q} --trust={output.trust:q} --threads={threads} 2> {log:q}"


rule verdicts:
    input:
        all_trust,
