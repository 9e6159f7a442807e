# The workflow itself is in workflow/, where the catalogue of Snakemake workflows looks for it.
include: "workflow/Snakefile"
