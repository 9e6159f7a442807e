"""The baseline without slides: a linear model of covariates."""

from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.keywords import ClinicalKeywords, model_settings
from wsi_mil.models.outputs import Outputs, chosen_outputs


class Clinical(MILModel):
    """Logits that depend on no instance: b + V c, the same model as others with the embedding of the bag left out."""

    provides = config.Clinical.provides

    def __init__(
        self,
        settings: config.Clinical | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[ClinicalKeywords],
    ):
        settings = model_settings(config.Clinical, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding = nn.Identity()
        self.classifier = _Intercept(outputs.n)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        return MILOutput(self.classifier(len(embedded)))

    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        return {}


class _Intercept(nn.Module):
    """The classifier of an empty embedding."""

    def __init__(self, n_outputs: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, batch_size: int) -> Tensor:
        return self.bias.expand(batch_size, -1)
