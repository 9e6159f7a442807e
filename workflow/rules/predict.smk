rule predict:
    input:
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
        features=usable_features,
    output:
        predictions="<results>/predictions/{target}/{encoder}/{model}.csv",
        metrics="<results>/metrics/{target}/{encoder}/{model}.json",
    log:
        "logs/predict/{target}/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/predict/{target}/{encoder}/{model}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("predict"),
        gpu=GPU,
    params:
        results=folder(RESULTS),
        models=folder(MODELS),
        target=target_settings("predicting"),
        settings=stage_settings("predict"),
        bag=CONFIG["bag"],
        include_train=(
            "--include-train"
            if CONFIG["explain"]["include_train"]
            else "--no-include-train"
        ),
        group=group_option,
        recalibrate=recalibrate_option,
        rerun_if=features_version("patient_id", "label", "group", "part"),
    shell:
        "wsi-mil predict --target={params.target:q} --status={input.status:q}"
        " --splits={input.splits:q} --features={params.results:q}/features/{wildcards.encoder}"
        " --models={params.models:q}/{wildcards.target}/{wildcards.encoder}/{wildcards.model}"
        " --settings={params.settings:q} --predictions={output.predictions:q} --metrics={output.metrics:q}"
        " {params.group:q} {params.recalibrate:q}"
        " {params.include_train} --bag={params.bag} --threads={threads} 2> {log:q}"


rule predictions:
    input:
        all_predictions,
        all_metrics,
