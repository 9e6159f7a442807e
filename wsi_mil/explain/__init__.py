"""Explanations: trained model + bag → a score for every instance; one file per method."""
