"""Settings → model. To add one: docs/add_an_aggregator.md."""

from collections.abc import Callable
from typing import Unpack

from torch import nn

from wsi_mil import config
from wsi_mil.models.abmil import ABMIL
from wsi_mil.models.base import MILModel
from wsi_mil.models.clam import CLAM
from wsi_mil.models.dsmil import DSMIL
from wsi_mil.models.dtfd import DTFD
from wsi_mil.models.encode_classify import StagedModel
from wsi_mil.models.keywords import MHIMKeywords, model_settings
from wsi_mil.models.kraus import KrausPool
from wsi_mil.models.mhim import MHIM
from wsi_mil.models.pooling import EmbeddingPool, InstancePool
from wsi_mil.models.transmil import TransMIL

MODELS: dict[str, Callable[..., MILModel]] = {
    "instance_pool": InstancePool,
    "embedding_pool": EmbeddingPool,
    "abmil": ABMIL,
    "transmil": TransMIL,
    "dsmil": DSMIL,
    "clam": CLAM,
    "dtfd": DTFD,
    "kraus_pool": KrausPool,
}


def create_model(
    settings: config.BaseModelSettings, *, feature_dim: int, n_classes: int, instance_encoder: nn.Module | None = None
) -> MILModel:
    """A freshly initialised model of an entry of `models`.

    Args:
        settings: the entry.
        feature_dim: length of an instance's features, or of what the instance encoder gives.
        n_classes: number of classes.
        instance_encoder: trained along, `(n, *instance)` → `(n, feature_dim)`; None: instances are features.
    """
    return MODELS[settings.model](settings, feature_dim=feature_dim, n_classes=n_classes, instance_encoder=instance_encoder)


def create_mhim(
    settings: config.MHIM | None = None, *, base: MILModel, student: MILModel, **keywords: Unpack[MHIMKeywords]
) -> MHIM:
    """Return a model for masked hard instance mining: a student, and the trained base as its teacher.

    Args:
        settings: the entry; None: `keywords`.
        base: trained; becomes the teacher.
        student: fresh, of the same architecture; takes from the base what `student_start` says.
        keywords: keys of the entry, `random_ratio=0.7`.

    Raises:
        ConfigError: an unknown key, or a value out of range.
        TypeError: a model that MHIM cannot stand on.
    """
    if not (isinstance(base, StagedModel) and isinstance(student, StagedModel)):
        raise TypeError(f"MHIM stands on {', '.join(config.TEACHERS)}, got {type(base).__name__}")
    settings = model_settings(config.MHIM, settings, keywords)
    if settings.student_start == "base":
        student.load_state_dict(base.state_dict())
    elif settings.student_start == "embedding":
        student.embedding.load_state_dict(base.embedding.state_dict())
        student.instance_encoder.load_state_dict(base.instance_encoder.state_dict())
    return MHIM(settings, student=student, teacher=base)
