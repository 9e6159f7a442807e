"""All settings: one frozen pydantic model per stage. Defaults are defined here only.

Unknown keys are errors that suggest the nearest known key. `config.yaml` shows the same defaults, and the JSON schema in
`workflow/schemas/` is generated from these models; tests keep the three in agreement.
"""

from wsi_mil.config.cluster import Dask as Dask
from wsi_mil.config.explanations import EXPLANATIONS as EXPLANATIONS
from wsi_mil.config.explanations import READ_OFF as READ_OFF
from wsi_mil.config.explanations import ExplanationRecord as ExplanationRecord
from wsi_mil.config.explanations import Method as Method
from wsi_mil.config.explanations import ReadOff as ReadOff
from wsi_mil.config.explanations import supports as supports
from wsi_mil.config.models import ABMIL as ABMIL
from wsi_mil.config.models import CLAM as CLAM
from wsi_mil.config.models import DSMIL as DSMIL
from wsi_mil.config.models import DTFD as DTFD
from wsi_mil.config.models import MHIM as MHIM
from wsi_mil.config.models import MODELS as MODELS
from wsi_mil.config.models import TEACHERS as TEACHERS
from wsi_mil.config.models import BaseModelSettings as BaseModelSettings
from wsi_mil.config.models import EmbeddingPool as EmbeddingPool
from wsi_mil.config.models import InstancePool as InstancePool
from wsi_mil.config.models import InstanceScoreKind as InstanceScoreKind
from wsi_mil.config.models import KrausPool as KrausPool
from wsi_mil.config.models import Model as Model
from wsi_mil.config.models import ModelSettings as ModelSettings
from wsi_mil.config.models import TransMIL as TransMIL
from wsi_mil.config.models import provided_by as provided_by
from wsi_mil.config.models import sentence_of as sentence_of
from wsi_mil.config.parse import nearest as nearest
from wsi_mil.config.parse import parse_bag as parse_bag
from wsi_mil.config.parse import parse_base as parse_base
from wsi_mil.config.parse import parse_keep_gb as parse_keep_gb
from wsi_mil.config.parse import parse_model as parse_model
from wsi_mil.config.parse import parse_protocol as parse_protocol
from wsi_mil.config.parse import parse_settings as parse_settings
from wsi_mil.config.parse import valid_part as valid_part
from wsi_mil.config.readers import READERS as READERS
from wsi_mil.config.readers import ReaderRecord as ReaderRecord
from wsi_mil.config.remote import REMOTE_VARIABLE as REMOTE_VARIABLE
from wsi_mil.config.remote import Remote as Remote
from wsi_mil.config.settings import ENTRY_PATTERN as ENTRY_PATTERN
from wsi_mil.config.settings import Settings as Settings
from wsi_mil.config.stages import BagUnit as BagUnit
from wsi_mil.config.stages import Config as Config
from wsi_mil.config.stages import Encoder as Encoder
from wsi_mil.config.stages import Explain as Explain
from wsi_mil.config.stages import Heatmap as Heatmap
from wsi_mil.config.stages import Origin as Origin
from wsi_mil.config.stages import Predict as Predict
from wsi_mil.config.stages import Protocol as Protocol
from wsi_mil.config.stages import Scale as Scale
from wsi_mil.config.stages import SlideFile as SlideFile
from wsi_mil.config.stages import SparseInversion as SparseInversion
from wsi_mil.config.stages import Split as Split
from wsi_mil.config.stages import Statistics as Statistics
from wsi_mil.config.stages import TileSettings as TileSettings
from wsi_mil.config.stages import Tiling as Tiling
from wsi_mil.config.stages import Tissue as Tissue
from wsi_mil.config.stages import Truth as Truth
from wsi_mil.config.stages import methods_of as methods_of
from wsi_mil.config.training import KeepGB as KeepGB
from wsi_mil.config.training import Schedule as Schedule
from wsi_mil.config.training import Train as Train
from wsi_mil.config.training import Training as Training
