rule explain:
    input:
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
        features=bag_features,
    output:
        record="<results>/jobs/explain/{target}/{encoder}/{model}/{job}.json",
    log:
        "logs/explain/{target}/{encoder}/{model}/{job}.log",
    benchmark:
        "<results>/benchmarks/explain/{target}/{encoder}/{model}/{job}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
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
        target=target_settings("learning"),
        bag=CONFIG["bag"],
        bag_slides=bags_option,
        settings=explain_settings,
        scores=scores_folder,
        rerun_if=bags_version,
        record=record_option,
    shell:
        "wsi-mil explain {params.rows:q} --target={params.target:q} --splits={input.splits:q}"
        " --models={params.models:q}/{wildcards.target}/{wildcards.encoder}/{wildcards.model} --settings={params.settings:q}"
        " --features={params.results:q}/features/{wildcards.encoder} --scores={params.scores:q}"
        " --bag={params.bag} --bag-slides={params.bag_slides:q} {params.record:q} --threads={threads} 2> {log:q}"


use rule explain as explain_slide with:
    output:
        receipt="<results>/scores/{target}/{encoder}/{model}/{slide_id}.json",
    log:
        "logs/explain/{target}/{encoder}/{model}/{slide_id}.slide.log",
    benchmark:
        "<results>/benchmarks/explain/{target}/{encoder}/{model}/{slide_id}.slide.tsv"


use rule explain_slide as explain_slide_method with:
    output:
        receipt="<results>/scores/{target}/{encoder}/{model}/{method}/{slide_id}.json",
    log:
        "logs/explain/{target}/{encoder}/{model}/{slide_id}.{method}.log",
    benchmark:
        "<results>/benchmarks/explain/{target}/{encoder}/{model}/{slide_id}.{method}.tsv"


rule explain_validation:
    input:
        models=fold_models,
        splits=SPLITS,
        status=ancient("<results>/cohort_status.csv"),
        features=labelled_features,
    output:
        record="<results>/jobs/explain_validation/{target}/{encoder}/{model}.json",
    log:
        "logs/explain_validation/{target}/{encoder}/{model}.log",
    benchmark:
        "<results>/benchmarks/explain_validation/{target}/{encoder}/{model}.tsv"
    wildcard_constraints:
        encoder=one_of(OF_TILES),
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **needs("explain_validation"),
        gpu=GPU,
    params:
        results=folder(RESULTS),
        models=folder(MODELS),
        target=target_settings("learning"),
        bag=CONFIG["bag"],
        settings=validation_settings,
        rerun_if=features_version(of=labelled_slides),
    shell:
        "wsi-mil explain-validation --features={params.results:q}/features/{wildcards.encoder} --target={params.target:q}"
        " --splits={input.splits:q} --models={params.models:q}/{wildcards.target}/{wildcards.encoder}/{wildcards.model} --settings={params.settings:q}"
        " --validation={params.results:q}/scores/{wildcards.target}/{wildcards.encoder}/{wildcards.model}/validation --bag={params.bag}"
        " --record={output.record:q} --threads={threads} 2> {log:q}"


rule scores:
    input:
        all_scores,
