"""Whole-slide multiple instance learning: learn a slide's label, show where the evidence is."""

__version__ = "0.1.0"
