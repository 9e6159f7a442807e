rule explain:
    input:
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
        features=bag_features,
    output:
        record="<results>/jobs/explain/{encoder}/{model}/{job}.json",
    log:
        "logs/explain/{encoder}/{model}/{job}.log",
    benchmark:
        "<results>/benchmarks/explain/{encoder}/{model}/{job}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("explain"),
        gpu=GPU,
    params:
        results=folder(RESULTS),
        models=folder(MODELS),
        rows=row_options("patient_id", of=ok_members),
        classes=classes_json,
        bag=CONFIG["bag"],
        bag_slides=bags_option,
        settings=explain_settings,
        scores=scores_folder,
        rerun_if=bags_version,
        record=record_option,
    shell:
        "wsi-mil explain {params.rows:q} --classes={params.classes:q} --splits={input.splits:q}"
        " --models={params.models:q}/{wildcards.encoder}/{wildcards.model} --settings={params.settings:q}"
        " --features={params.results:q}/features/{wildcards.encoder} --scores={params.scores:q}"
        " --bag={params.bag} --bag-slides={params.bag_slides:q} {params.record:q} --threads={threads} 2> {log:q}"


use rule explain as explain_slide with:
    output:
        receipt="<results>/scores/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/explain/{encoder}/{model}/{slide_id}.slide.log",
    benchmark:
        "<results>/benchmarks/explain/{encoder}/{model}/{slide_id}.slide.tsv"


use rule explain_slide as explain_slide_method with:
    output:
        receipt="<results>/scores/{encoder}/{model}/{method}/{slide_id}.json",
    log:
        "logs/explain/{encoder}/{model}/{slide_id}.{method}.log",
    benchmark:
        "<results>/benchmarks/explain/{encoder}/{model}/{slide_id}.{method}.tsv"


rule explain_validation:
    input:
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
        features=cohort_features("labelled"),
    output:
        receipts=[
            f"<results>/scores/{{encoder}}/{{model}}/validation/fold-{fold}.json"
            for fold in FOLDS
        ],
    log:
        "logs/explain_validation/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/explain_validation/{encoder}/{model}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("explain_validation"),
        gpu=GPU,
    params:
        results=folder(RESULTS),
        models=folder(MODELS),
        classes=classes_json,
        bag=CONFIG["bag"],
        settings=validation_settings,
        rerun_if=features_version(of=labelled_slides),
    shell:
        "wsi-mil explain-validation --features={params.results:q}/features/{wildcards.encoder} --classes={params.classes:q}"
        " --splits={input.splits:q} --models={params.models:q}/{wildcards.encoder}/{wildcards.model} --settings={params.settings:q}"
        " --validation={params.results:q}/scores/{wildcards.encoder}/{wildcards.model}/validation --bag={params.bag}"
        " --threads={threads} 2> {log:q}"


rule scores:
    input:
        all_scores,
