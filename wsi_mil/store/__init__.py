"""Read and write Zarr stores. The only importer of zarr."""

from wsi_mil.store.features import FeatureStore as FeatureStore
from wsi_mil.store.features import feature_attributes as feature_attributes
from wsi_mil.store.features import feature_bytes as feature_bytes
from wsi_mil.store.features import feature_dim as feature_dim
from wsi_mil.store.features import features_digest as features_digest
from wsi_mil.store.features import n_tiles as n_tiles
from wsi_mil.store.features import read_bag as read_bag
from wsi_mil.store.features import shard_rows as shard_rows
from wsi_mil.store.grids import read_grid as read_grid
from wsi_mil.store.grids import read_thumbnail as read_thumbnail
from wsi_mil.store.grids import write_grid as write_grid
from wsi_mil.store.integrity import feature_faults as feature_faults
from wsi_mil.store.integrity import grid_faults as grid_faults
from wsi_mil.store.integrity import shards_missing as shards_missing
from wsi_mil.store.scores import read_scores as read_scores
from wsi_mil.store.scores import write_scores as write_scores
from wsi_mil.store.shards import FeatureRows as FeatureRows
from wsi_mil.store.zarr_files import bytes_on_disk as bytes_on_disk
from wsi_mil.store.zarr_files import part_folder as part_folder
from wsi_mil.store.zarr_files import read_array as read_array
from wsi_mil.store.zarr_files import read_attributes as read_attributes
from wsi_mil.store.zarr_files import remove_store as remove_store
from wsi_mil.store.zarr_files import replace_store as replace_store
from wsi_mil.store.zarr_files import write_whole as write_whole
