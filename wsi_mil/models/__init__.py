"""Aggregators: a bag of instances → logits, and what the model can say about each instance."""

from wsi_mil.models.abmil import ABMIL as ABMIL
from wsi_mil.models.factory import create_model as create_model
from wsi_mil.models.output import MILModel as MILModel
from wsi_mil.models.output import MILOutput as MILOutput
