# The workflow itself is in workflow/, where the catalogue of Snakemake workflows looks for it.
include: "workflow/Snakefile"


workflow.default_target = (
    "all"  # Snakemake forgets the default target of included files
)
