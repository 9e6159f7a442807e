"""Heatmaps: scores drawn over the slide, and files for other viewers."""

from wsi_mil.heatmaps.cohort_scale import CohortFiles as CohortFiles
from wsi_mil.heatmaps.cohort_scale import write_cohort_scale as write_cohort_scale
from wsi_mil.heatmaps.stage import draw_heatmap as draw_heatmap
from wsi_mil.heatmaps.stage import draw_heatmaps as draw_heatmaps
