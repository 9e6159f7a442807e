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
            f"<results>/cohort_features/{encoder}/{kind}.json"
            for encoder in CONFIG["encoders"]
            for kind in ("usable", "labelled")
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
        classes=classes_json,
        encoders=lambda wildcards: dumps(list(CONFIG["encoders"])),
        rerun_if=lambda wildcards: hashlib.sha256(
            dumps(list(SLIDES)).encode()
        ).hexdigest(),
    shell:
        "wsi-mil cohort --classes={params.classes:q} --features={params.results:q}/features"
        " --encoders={params.encoders:q} --status={output.status:q} --versions={params.results:q}/cohort_features"
        " --threads={threads} 2> {log:q}"
