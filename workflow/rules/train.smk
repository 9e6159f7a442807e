if not TRAINED:

    rule train:
        input:
            splits=SPLITS,
            status=ancient("<results>/cohort_status.csv"),
            features=labelled_features,
            base=base_model,
        output:
            weights="<results>/models/{target}/{encoder}/{model}/fold-{fold}/model.safetensors",
            config="<results>/models/{target}/{encoder}/{model}/fold-{fold}/config.json",
        log:
            "logs/train/{target}/{encoder}/{model}/fold-{fold}.log",
        benchmark:
            "<results>/benchmarks/train/{target}/{encoder}/{model}/fold-{fold}.tsv"
        conda:
            "../../envs/gpu.yaml"
        threads: 1
        resources:
            **needs("train"),
            gpu=GPU,
        params:
            results=folder(RESULTS),
            target=target_settings("learning"),
            settings=entry_settings("models", "model"),
            base=base_option,
            bag=CONFIG["bag"],
            protocol=CONFIG["protocol"],
            rerun_if=features_version(of=labelled_slides),
            folder=subpath(output.config, parent=True),
        shell:
            "wsi-mil train --splits={input.splits:q} --fold={wildcards.fold} --features={params.results:q}/features/{wildcards.encoder}"
            " --target={params.target:q} --settings={params.settings:q} --model={params.folder:q}"
            " {params.base:q} --bag={params.bag} --protocol={params.protocol}"
            " --slide-statistics={params.results:q}/slide_statistics/{wildcards.encoder}"
            " --threads={threads} 2> {log:q}"


rule models:
    input:
        all_models,
