"""Tile encoders: built-in encoder records, and any timm model by name.

The only importer of timm and of the Hub's client. Importing this package imports neither them nor torch: callers that encode
tiles import `networks` and `encoder` by name.
"""

from wsi_mil.encoders.advice import advice as advice
from wsi_mil.encoders.catalogue import DEFAULT_ENCODER as DEFAULT_ENCODER
from wsi_mil.encoders.catalogue import RECORDS as RECORDS
from wsi_mil.encoders.catalogue import record_of as record_of
from wsi_mil.encoders.identity import network_identity as network_identity
from wsi_mil.encoders.identity import weights_hash as weights_hash
from wsi_mil.encoders.names import name_faults as name_faults
from wsi_mil.encoders.presence import Weights as Weights
from wsi_mil.encoders.presence import feature_dim as feature_dim
from wsi_mil.encoders.presence import find_weights as find_weights
from wsi_mil.encoders.presence import weights_file as weights_file
from wsi_mil.encoders.record import EncoderRecord as EncoderRecord
