"""Import features of other tools, and export features for them: files of CLAM, TRIDENT and STAMP, and `.pt` tensors.

Features and scores are also exported as tables of tiles: AnnData and SpatialData.
"""

from wsi_mil.interchange.exporting import ExportResult as ExportResult
from wsi_mil.interchange.exporting import TableOptions as TableOptions
from wsi_mil.interchange.exporting import export_features as export_features
from wsi_mil.interchange.exporting import export_tables as export_tables
from wsi_mil.interchange.importing import ImportResult as ImportResult
from wsi_mil.interchange.importing import import_slide as import_slide
from wsi_mil.interchange.importing_vectors import import_vector as import_vector
from wsi_mil.interchange.importing_vectors import match_vectors as match_vectors
from wsi_mil.interchange.importing_vectors import of_one_length as of_one_length
from wsi_mil.interchange.layouts import LAYOUTS as LAYOUTS
from wsi_mil.interchange.layouts import TABLES as TABLES
from wsi_mil.interchange.layouts import read_file as read_file
from wsi_mil.interchange.scale import ImportOptions as ImportOptions
from wsi_mil.interchange.slide_vectors import vectors_of as vectors_of
from wsi_mil.interchange.sources import FeatureSource as FeatureSource
from wsi_mil.interchange.sources import find_sources as find_sources
