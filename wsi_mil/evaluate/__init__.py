"""Evaluation of tile scores against annotations, and by deletion and insertion curves."""

from wsi_mil.evaluate.slides import Sources as Sources
from wsi_mil.evaluate.stage import evaluate_cohort as evaluate_cohort
