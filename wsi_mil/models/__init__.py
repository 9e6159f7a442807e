"""Aggregators: a bag of instances → logits, and scores of each instance."""

from wsi_mil.models.abmil import ABMIL as ABMIL
from wsi_mil.models.base import MILModel as MILModel
from wsi_mil.models.base import MILOutput as MILOutput
from wsi_mil.models.base import margin_of as margin_of
from wsi_mil.models.clam import CLAM as CLAM
from wsi_mil.models.dsmil import DSMIL as DSMIL
from wsi_mil.models.dtfd import DTFD as DTFD
from wsi_mil.models.encode_classify import EncodeClassifyModel as EncodeClassifyModel
from wsi_mil.models.factory import create_mhim as create_mhim
from wsi_mil.models.factory import create_model as create_model
from wsi_mil.models.kraus import KrausPool as KrausPool
from wsi_mil.models.losses import BagLoss as BagLoss
from wsi_mil.models.losses import ClassLoss as ClassLoss
from wsi_mil.models.losses import create_loss as create_loss
from wsi_mil.models.mhim import MHIM as MHIM
from wsi_mil.models.pooling import EmbeddingPool as EmbeddingPool
from wsi_mil.models.pooling import InstanceClassifier as InstanceClassifier
from wsi_mil.models.pooling import InstancePool as InstancePool
from wsi_mil.models.self_attention import WRITE_MATRICES_OUT as WRITE_MATRICES_OUT
from wsi_mil.models.self_attention import exact_step_bytes as exact_step_bytes
from wsi_mil.models.transmil import TransMIL as TransMIL
