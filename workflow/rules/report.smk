rule report:
    input:
        status="<results>/cohort_status.csv",
        tiles=all_tile_records,
        predictions=all_predictions,
        metrics=all_metrics,
        heatmaps=all_heatmaps,
        explanations=all_explanations,
        statistics=all_statistics,
        splits=[] if TRAINED else SPLITS,
    output:
        page=report(
            "<results>/report/index.html",
            caption="../report/cohort.rst",
            category="Cohort report",
        ),
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
        rerun_if=shown_rows("slide_id", "patient_id", "label", "scanner"),
    shell:
        "wsi-mil report --config={params.config:q} --page={output.page:q}"
        " --threads={threads} 2> {log:q}"
