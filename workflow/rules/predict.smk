rule predict:
    input:
        models=fold_models,
        splits=SPLITS,
        features=ok_features,
        status=ancient("<results>/cohort_status.csv"),
    output:
        predictions="<results>/predictions/{encoder}/{model}.csv",
        metrics="<results>/metrics/{encoder}/{model}.json",
    log:
        "logs/predict/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/predict/{encoder}/{model}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("predict"),
        gpu=GPU,
    params:
        sheet=CONFIG["cohort"],
        classes=classes_json,
        features=lambda wildcards: f"{RESULTS}/features/{wildcards.encoder}",
        models=lambda wildcards: f"{MODELS}/{wildcards.encoder}/{wildcards.model}",
        settings=stage_settings("predict"),
        bag=CONFIG["bag"],
        include_train=(
            "--include-train"
            if CONFIG["explain"]["include_train"]
            else "--no-include-train"
        ),
        rerun_if=shown_rows("slide_id", "patient_id", "label"),
    shell:
        "wsi-mil predict --sheet={params.sheet:q} --classes={params.classes:q} --status={input.status:q}"
        " --splits={input.splits:q} --features={params.features:q} --models={params.models:q}"
        " --settings={params.settings:q} --predictions={output.predictions:q} --metrics={output.metrics:q}"
        " {params.include_train} --bag={params.bag} --threads={threads} 2> {log:q}"


rule predictions:
    input:
        all_predictions,
        all_metrics,
