rule explain:
    input:
        models=fold_models,
        splits=SPLITS,
        features=bag_features,
    output:
        receipt="<results>/scores/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/explain/{encoder}/{model}/{slide_id}.log",
    benchmark:
        "<results>/benchmarks/explain/{encoder}/{model}/{slide_id}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("explain"),
        gpu=GPU,
    params:
        row=slide_row("patient_id"),
        classes=classes_json,
        models=lambda wildcards: f"{MODELS}/{wildcards.encoder}/{wildcards.model}",
        features=lambda wildcards: f"{RESULTS}/features/{wildcards.encoder}/{wildcards.slide_id}.json",
        bag=CONFIG["bag"],
        bag_slides=lambda wildcards: dumps(bag_slides(wildcards)),
        settings=explain_settings,
    shell:
        "wsi-mil explain --features={params.features:q} --row={params.row:q} --classes={params.classes:q}"
        " --splits={input.splits:q} --models={params.models:q} --settings={params.settings:q}"
        " --bag={params.bag} --bag-slides={params.bag_slides:q} --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule explain_validation:
    input:
        models=fold_models,
        splits=SPLITS,
        features=labelled_features,
    output:
        receipt="<results>/scores/{encoder}/{model}/validation/fold-{fold}.json",
    log:
        "logs/explain_validation/{encoder}/{model}/fold-{fold}.log",
    benchmark:
        "<results>/benchmarks/explain_validation/{encoder}/{model}/fold-{fold}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("explain_validation"),
        gpu=GPU,
    params:
        classes=classes_json,
        models=lambda wildcards: f"{MODELS}/{wildcards.encoder}/{wildcards.model}",
        features=lambda wildcards: f"{RESULTS}/features/{wildcards.encoder}",
        bag=CONFIG["bag"],
        settings=validation_settings,
    shell:
        "wsi-mil explain-validation --features={params.features:q} --fold={wildcards.fold} --classes={params.classes:q}"
        " --splits={input.splits:q} --models={params.models:q} --settings={params.settings:q}"
        " --bag={params.bag} --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule scores:
    input:
        all_scores,
