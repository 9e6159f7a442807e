"""Image → boolean tissue mask. Pure: arrays in, arrays out. `chunked`, which imports Dask, is imported by who needs it."""

from wsi_mil.tissue.background import OddBackground, odd_background
from wsi_mil.tissue.finder import OVERVIEW_MPP, TissueFinder, overview_mask, tissue_mask, whole_mask
from wsi_mil.tissue.joining import Place, cut_out, everywhere, intersection, regridded
from wsi_mil.tissue.masks import MaskPiece, TissueMask
from wsi_mil.tissue.outlines import outline
from wsi_mil.tissue.regions import region_mask, region_tissue

__all__ = [
    "OVERVIEW_MPP",
    "MaskPiece",
    "OddBackground",
    "Place",
    "TissueFinder",
    "TissueMask",
    "cut_out",
    "everywhere",
    "intersection",
    "odd_background",
    "outline",
    "overview_mask",
    "region_mask",
    "region_tissue",
    "regridded",
    "tissue_mask",
    "whole_mask",
]
