"""Run the workflow from Python: Snakemake's command, what it prints, and what failed. Snakemake itself is never imported."""

from wsi_mil.workflow.command import Request as Request
from wsi_mil.workflow.command import require_snakemake as require_snakemake
from wsi_mil.workflow.messages import FailedJob as FailedJob
from wsi_mil.workflow.messages import Messages as Messages
from wsi_mil.workflow.process import run_snakemake as run_snakemake
from wsi_mil.workflow.profiles import profile_folder as profile_folder
