"""Stage `tile`: tissue, tile coordinates, tissue outline and QC image of one slide."""

from wsi_mil.tile.stage import outputs as outputs
from wsi_mil.tile.stage import tile_slide as tile_slide
from wsi_mil.tile.stage import write_failure_receipt as write_failure_receipt
