rule statistics:
    input:
        features=ok_features,
        status=ancient("<results>/cohort_status.csv"),
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
        features=lambda wildcards: f"{RESULTS}/features/{wildcards.encoder}",
        settings=stage_settings("statistics"),
    shell:
        "wsi-mil statistics --status={input.status:q} --features={params.features:q}"
        " --settings={params.settings:q} --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule cohort_statistics:
    input:
        all_statistics,
