"""Read and write annotations: GeoJSON and ASAP XML ↔ polygons in level-0 pixels, (x, y)."""

from wsi_mil.annotations.polygons import feature_collection as feature_collection
from wsi_mil.annotations.polygons import lesion_hits as lesion_hits
from wsi_mil.annotations.polygons import overlap_fractions as overlap_fractions
from wsi_mil.annotations.polygons import rings as rings
from wsi_mil.annotations.polygons import simplified_rings as simplified_rings
from wsi_mil.annotations.reading import HOT_CLASS as HOT_CLASS
from wsi_mil.annotations.reading import NOTHING as NOTHING
from wsi_mil.annotations.reading import TISSUE_CLASS as TISSUE_CLASS
from wsi_mil.annotations.reading import Annotation as Annotation
from wsi_mil.annotations.reading import Frame as Frame
from wsi_mil.annotations.reading import Outlines as Outlines
from wsi_mil.annotations.reading import read_annotation as read_annotation
from wsi_mil.annotations.reading import read_classes as read_classes
from wsi_mil.annotations.reading import read_outlines as read_outlines
