if not TRAINED:

    rule train:
        input:
            splits="<results>/splits.csv",
            status=ancient("<results>/cohort_status.csv"),
            features=cohort_features("labelled"),
            base=base_model,
        output:
            weights="<results>/models/{encoder}/{model}/fold-{fold}/model.safetensors",
            config="<results>/models/{encoder}/{model}/fold-{fold}/config.json",
        log:
            "logs/train/{encoder}/{model}/fold-{fold}.log",
        benchmark:
            "<results>/benchmarks/train/{encoder}/{model}/fold-{fold}.tsv"
        conda:
            "../../envs/gpu.yaml"
        threads: 1
        resources:
            **needs("train"),
            gpu=GPU,
        params:
            results=folder(RESULTS),
            classes=classes_json,
            settings=entry_settings("models", "model"),
            base=base_option,
            bag=CONFIG["bag"],
            protocol=CONFIG["protocol"],
            rerun_if=features_version(of=labelled_slides),
            folder=subpath(output.config, parent=True),
        shell:
            "wsi-mil train --splits={input.splits:q} --fold={wildcards.fold} --features={params.results:q}/features/{wildcards.encoder}"
            " --classes={params.classes:q} --settings={params.settings:q} --model={params.folder:q}"
            " {params.base:q} --bag={params.bag} --protocol={params.protocol}"
            " --threads={threads} 2> {log:q}"


rule models:
    input:
        all_models,
