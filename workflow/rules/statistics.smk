rule statistics:
    input:
        status=ancient("<results>/cohort_status.csv"),
        features=usable_features,
    output:
        receipt="<results>/statistics/{encoder}.json",
    log:
        "logs/statistics/{encoder}.log",
    benchmark:
        "<results>/benchmarks/statistics/{encoder}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: workflow.cores
    resources:
        **needs("statistics"),
    params:
        results=folder(RESULTS),
        settings=stage_settings("statistics"),
        rerun_if=features_version(),
    shell:
        "wsi-mil statistics --status={input.status:q} --features={params.results:q}/features/{wildcards.encoder}"
        " --settings={params.settings:q} --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule cohort_statistics:
    input:
        all_statistics,
