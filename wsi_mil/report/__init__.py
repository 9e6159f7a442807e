"""Report: an overview of the cohort and a page for each target, all self-contained."""

from wsi_mil.report.stage import write_report as write_report
