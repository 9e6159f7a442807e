rule explain:
    input:
        models=fold_models,
        splits=SPLITS,
        features=ok_feature,
    output:
        receipt="<results>/scores/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/explain/{encoder}/{model}/{slide_id}.log",
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        row=slide_row("patient_id"),
        classes=classes_json,
        models=lambda wildcards: f"{MODELS}/{wildcards.encoder}/{wildcards.model}",
        settings=stage_settings("explain"),
    shell:
        "wsi-mil explain --features={input.features:q} --row={params.row:q} --classes={params.classes:q}"
        " --splits={input.splits:q} --models={params.models:q} --settings={params.settings:q}"
        " --receipt={output.receipt:q} --threads={threads} 2> {log:q}"


rule scores:
    input:
        all_scores,
