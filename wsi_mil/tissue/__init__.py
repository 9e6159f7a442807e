"""Image → boolean tissue mask. Pure: arrays in, arrays out. `chunked`, which imports Dask, is imported by who needs it."""

from wsi_mil.tissue.finder import OVERVIEW_MPP, TissueFinder, overview_mask, tissue_mask, whole_mask
from wsi_mil.tissue.masks import TissueMask
from wsi_mil.tissue.outlines import outline
from wsi_mil.tissue.regions import region_mask, region_tissue

__all__ = [
    "OVERVIEW_MPP",
    "TissueFinder",
    "TissueMask",
    "outline",
    "overview_mask",
    "region_mask",
    "region_tissue",
    "tissue_mask",
    "whole_mask",
]
