if CONFIG["slides_per_job"] == 1:

    rule extract:
        input:
            tiles=tile_receipt,
        output:
            receipt="<results>/features/{encoder}/{slide_id}.json",
        log:
            "logs/extract/{encoder}/{slide_id}.log",
        benchmark:
            "<results>/benchmarks/extract/{encoder}/{slide_id}.tsv"
        wildcard_constraints:
            encoder=one_of(EXTRACTED),
        conda:
            "../../envs/gpu.yaml"
        threads: max(1, workflow.cores // GPUS)
        resources:
            **needs("extract"),
            gpu=1,
        params:
            row=slide_row("path"),
            settings=entry_settings("encoders", "encoder"),
            rerun_if=lambda wildcards: PLAN["networks"][wildcards.encoder],
        shell:
            "wsi-mil extract --tiles={input.tiles:q} --row={params.row:q} --settings={params.settings:q}"
            " --receipt={output.receipt:q} --threads={threads} 2> {log:q}"

else:

    # One process for several slides: one rule per job, because its slides share no wildcard.
    for encoder, number, slide_ids in extract_jobs():

        rule:
            name:
                f"extract_{encoder}_{number}"
            input:
                [tiles_of(encoder, slide_id) for slide_id in slide_ids],
            output:
                [features_of(encoder, slide_id) for slide_id in slide_ids],
            log:
                f"logs/extract/{encoder}/job-{number}.log",
            benchmark:
                f"<results>/benchmarks/extract/{encoder}/job-{number}.tsv"
            conda:
                "../../envs/gpu.yaml"
            threads: max(1, workflow.cores // GPUS)
            resources:
                **needs("extract"),
                gpu=1,
            params:
                slides=extract_options(encoder, slide_ids),
                settings=dumps(CONFIG["encoders"][encoder]),
                rerun_if=PLAN["networks"][encoder],
            shell:
                "wsi-mil extract {params.slides:q} --settings={params.settings:q} --threads={threads} 2> {log:q}"


rule features:
    input:
        all_feature_receipts,
