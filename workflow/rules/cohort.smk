checkpoint cohort:
    input:
        receipts=all_feature_records,
    output:
        status=report(
            "<results>/cohort_status.csv",
            caption="../report/status.rst",
            category="Cohort report",
        ),
        versions=[
            f"<results>/cohort_features/{encoder}/{name}.json"
            for encoder in CONFIG["encoders"]
            for name in ("usable", *(f"labelled/{target}" for target in TARGETS))
        ],
    log:
        "logs/cohort.log",
    benchmark:
        "<results>/benchmarks/cohort/cohort.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("cohort"),
    params:
        results=folder(RESULTS),
        targets=lambda wildcards: dumps(PLAN["reading"]),
        encoders=lambda wildcards: dumps(list(CONFIG["encoders"])),
        rerun_if=lambda wildcards: hashlib.sha256(
            dumps(list(SLIDES)).encode()
        ).hexdigest(),
    shell:
        "wsi-mil cohort --targets={params.targets:q} --features={params.results:q}/features"
        " --encoders={params.encoders:q} --status={output.status:q} --versions={params.results:q}/cohort_features"
        " --threads={threads} 2> {log:q}"
