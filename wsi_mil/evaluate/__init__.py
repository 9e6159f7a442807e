"""Scores of tiles against annotations, and against the model itself (deletion and insertion)."""

from wsi_mil.evaluate.slides import Sources as Sources
from wsi_mil.evaluate.stage import evaluate_cohort as evaluate_cohort
