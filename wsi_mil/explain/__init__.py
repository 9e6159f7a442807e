"""Explanations: trained model + bag → a score for every instance; one file per method."""

from wsi_mil.explain.stage import explain_slide as explain_slide
from wsi_mil.explain.stage import explain_validation as explain_validation
