"""A local web application that shows slides, heatmaps and the cohort in a browser."""

from wsi_mil.view.catalogue import Catalogue as Catalogue
from wsi_mil.view.server import create_app as create_app
from wsi_mil.view.serving import serve as serve
