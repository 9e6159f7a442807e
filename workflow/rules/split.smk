# Models of an earlier run come with their splits: nothing is split or trained.
if not TRAINED:

    rule split:
        input:
            # ancient: a new unlabelled slide changes the statuses, but must not change the splits; labelled rows are in params
            status=ancient("<results>/cohort_status.csv"),
            frozen=CONFIG["splits"] or [],
        output:
            splits="<results>/splits.csv",
        log:
            "logs/split.log",
        benchmark:
            "<results>/benchmarks/split/split.tsv"
        conda:
            "../../envs/cpu.yaml"
        threads: 1
        resources:
            **needs("split"),
        params:
            classes=classes_json,
            settings=stage_settings("split"),
            frozen=lambda wildcards, input: (
                f"--frozen={input.frozen}" if input.frozen else ""
            ),
            protocol=CONFIG["protocol"],
            rerun_if=labelled_rows,
        shell:
            "wsi-mil split --classes={params.classes:q} --status={input.status:q}"
            " --settings={params.settings:q} --splits={output.splits:q} {params.frozen:q}"
            " --protocol={params.protocol}"
            " --threads={threads} 2> {log:q}"
