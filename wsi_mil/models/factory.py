"""Settings → model. To add one: docs/add_an_aggregator.md."""

from pkgutil import resolve_name
from typing import Unpack

from torch import nn

from wsi_mil import config
from wsi_mil.models.base import MILModel
from wsi_mil.models.encode_classify import EncodeClassifyModel
from wsi_mil.models.keywords import MHIMKeywords, model_settings
from wsi_mil.models.mhim import MHIM
from wsi_mil.models.outputs import Outputs, chosen_outputs


def create_model(
    settings: config.BaseModelSettings,
    *,
    feature_dim: int,
    n_classes: int | None = None,
    outputs: Outputs | None = None,
    instance_encoder: nn.Module | None = None,
) -> MILModel:
    """Create a freshly initialised model from an entry of `models`.

    Args:
        settings: the entry.
        feature_dim: length of an instance's features, or of what the instance encoder gives.
        n_classes: number of classes, where classes are learned.
        outputs: what the outputs are, where something else is; in place of `n_classes`.
        instance_encoder: trained along, `(n, *instance)` → `(n, feature_dim)`; None: instances are features.
    """
    implementation = resolve_name(settings.implementation)
    model: MILModel = implementation(
        settings, feature_dim=feature_dim, outputs=chosen_outputs(n_classes, outputs), instance_encoder=instance_encoder
    )
    return model


def create_mhim(
    settings: config.MHIM | None = None, *, base: MILModel, student: MILModel, **keywords: Unpack[MHIMKeywords]
) -> MHIM:
    """Create masked hard instance mining from an entry of `models`, over the trained model of another one.

    Args:
        settings: the entry; None: `keywords`.
        base: the trained model of the base entry; becomes the teacher.
        student: a fresh one of the same architecture; copies from the base what `student_start` says.
        keywords: keys of the entry, `random_ratio=0.7`.

    Raises:
        ConfigError: an unknown key, or a value out of range.
        TypeError: a model that MHIM cannot be trained over.
    """
    if not (isinstance(base, EncodeClassifyModel) and isinstance(student, EncodeClassifyModel)):
        raise TypeError(f"MHIM can be trained over {', '.join(config.TEACHERS)}, got {type(base).__name__}")
    settings = model_settings(config.MHIM, settings, keywords)
    if settings.student_start == "base":
        student.load_state_dict(base.state_dict())
    elif settings.student_start == "embedding":
        student.embedding.load_state_dict(base.embedding.state_dict())
        student.instance_encoder.load_state_dict(base.instance_encoder.state_dict())
    return MHIM(settings, student=student, teacher=base)
