"""Report: the whole cohort on one self-contained page."""

from wsi_mil.report.stage import write_report as write_report
