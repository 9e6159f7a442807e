"""Tile encoders by name. The only importer of timm (inside functions or in encoder.py, so that names cost nothing)."""

from wsi_mil.encoders.names import DEFAULT_ENCODER as DEFAULT_ENCODER
from wsi_mil.encoders.names import known_names as known_names
from wsi_mil.encoders.names import name_faults as name_faults
from wsi_mil.encoders.names import weights_hash as weights_hash
from wsi_mil.encoders.presence import Weights as Weights
from wsi_mil.encoders.presence import feature_dim as feature_dim
from wsi_mil.encoders.presence import find_weights as find_weights
