"""Limits of µm per pixel. Apart from `geometry`, so that options and settings that name them load no NumPy."""

SANE_MPP = (0.05, 10.0)
"""Plausible µm per pixel; other values (generic TIFFs often have a printer's resolution) count as missing."""
