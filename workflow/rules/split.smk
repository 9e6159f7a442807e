# Models of an earlier run come with their splits: nothing is split or trained.
if not TRAINED:

    rule split:
        input:
            # ancient: a new unlabelled slide changes the statuses, but must not change the splits; labelled rows are in params
            status=ancient("<results>/cohort_status.csv"),
            frozen=given_splits,
        output:
            splits="<results>/splits/{target}.csv",
        log:
            "logs/split/{target}.log",
        benchmark:
            "<results>/benchmarks/split/{target}.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            **needs("split"),
        params:
            target=target_settings("reading"),
            settings=stage_settings("split"),
            frozen=lambda wildcards, input: (
                f"--frozen={input.frozen}" if input.frozen else ""
            ),
            protocol=CONFIG["protocol"],
            rerun_if=labelled_rows,
        shell:
            "wsi-mil split --target={params.target:q} --status={input.status:q}"
            " --settings={params.settings:q} --splits={output.splits:q} {params.frozen:q}"
            " --protocol={params.protocol}"
            " --threads={threads} 2> {log:q}"
