"""Segment tissue: image to boolean mask. No file access. Callers import `chunked` themselves, since it imports Dask."""

from wsi_mil.tissue.background import OddBackground, odd_background
from wsi_mil.tissue.finder import OVERVIEW_MPP, TissueFinder, overview_mask, tissue_mask, whole_mask
from wsi_mil.tissue.joining import MaskExtent, full_mask, intersection, regridded, without_region
from wsi_mil.tissue.masks import MaskPiece, TissueMask
from wsi_mil.tissue.outlines import outline
from wsi_mil.tissue.regions import region_mask, region_tissue

__all__ = [
    "OVERVIEW_MPP",
    "MaskExtent",
    "MaskPiece",
    "OddBackground",
    "TissueFinder",
    "TissueMask",
    "full_mask",
    "intersection",
    "odd_background",
    "outline",
    "overview_mask",
    "region_mask",
    "region_tissue",
    "regridded",
    "tissue_mask",
    "whole_mask",
    "without_region",
]
