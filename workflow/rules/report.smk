rule report:
    input:
        status="<results>/cohort_status.csv",
        tiles=all_tile_records,
        predictions=all_predictions,
        metrics=all_metrics,
        heatmaps=all_heatmaps,
        fine=all_fine_heatmaps,
        explanations=all_explanations,
        trust=all_trust,
        statistics=all_statistics,
        splits=[] if TRAINED else all_splits,
    output:
        page=report(
            "<results>/report/index.html",
            caption="../report/cohort.rst",
            category="Cohort report",
            labels={"page": "overview"},
        ),
        pages=[
            report(
                f"<results>/report/{target}.html",
                caption="../report/target.rst",
                category="Cohort report",
                labels={"page": target},
            )
            for target in TARGETS
        ],
        tiles=[
            report(
                f"<results>/report/{target}.tiles.html",
                caption="../report/tiles.rst",
                category="Cohort report",
                labels={"page": f"{target}: highest tiles"},
            )
            for target in TARGETS
        ],
    log:
        "logs/report.log",
    benchmark:
        "<results>/benchmarks/report/report.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **needs("report"),
    params:
        config=report_config,
        folder=subpath(output.page, parent=True),
        rerun_if=shown_rows("slide_id", "patient_id", "labels", "scanner", "group"),
    shell:
        "wsi-mil report --config={params.config:q} --folder={params.folder:q}"
        " --threads={threads} 2> {log:q}"
