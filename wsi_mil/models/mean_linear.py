"""A linear model of the mean of a bag's features: the baseline."""

from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.held import constant
from wsi_mil.models.keywords import MeanLinearKeywords, model_settings
from wsi_mil.models.outputs import Outputs, chosen_outputs

LEAST_VARIANCE = 1e-12
"""A smaller variance of a feature over a bag is rounding, and taken as zero. Features are float16."""


class MeanLinear(MILModel):
    """Logits are linear in the mean of the instances' features, or in the mean and the standard deviation.

    It is fitted in closed form or by L-BFGS from statistics of whole bags (`wsi_mil.train.mean_linear`), not by gradients of
    single bags; then the standardisation of the fit is in weight and bias.

    Symbols:
        x_n features of instance n of N, m = mean_n x_n, s = √(mean_n x_n² - m²); logits = W [m, s] + b.
        s = Σ_n x_n (x_n - m) / (N s), element by element: with the second factor held constant the deviation, like the mean, is
        a sum over instances, so contributions add up.
    """

    provides = config.MeanLinear.provides

    def __init__(
        self,
        settings: config.MeanLinear | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[MeanLinearKeywords],
    ):
        settings = model_settings(config.MeanLinear, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding = nn.Identity()
        self.has_deviation = settings.statistics == "mean_std"
        self.classifier = nn.Linear(feature_dim * (1 + self.has_deviation), outputs.n)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        is_real = embedded.new_ones(embedded.shape[:2]) if bag_mask is None else bag_mask.to(embedded.dtype)
        shares = (is_real / is_real.sum(dim=1, keepdim=True)).unsqueeze(-1)  # (batch_size, n_instances, 1)
        instances = embedded if bag_mask is None else embedded.masked_fill(~bag_mask.unsqueeze(-1), 0)
        mean = (instances * shares).sum(dim=1)
        return self.classified(torch.cat([mean, _deviation(instances, mean, shares)], dim=1) if self.has_deviation else mean)

    def classified(self, design: Tensor) -> MILOutput:
        """Classify bags by their statistics: means, and standard deviations if the model has them, `(batch_size, k)`."""
        return MILOutput(self.classifier(design))

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        return {"evidence": self.outputs.scalar(self.single_logits(self.embed(bag)[0]).double(), output)}


def _deviation(instances: Tensor, mean: Tensor, shares: Tensor) -> Tensor:
    """Standard deviation of each feature over the real instances `(batch_size, feature_dim)`; of an even feature zero."""
    centred = instances - mean.unsqueeze(1)
    variance = (centred.square() * shares).sum(dim=1)
    is_even = variance <= LEAST_VARIANCE
    deviation = variance.masked_fill(is_even, 1).sqrt()  # 1: the root has no slope at zero
    weights = constant(centred * shares / deviation.unsqueeze(1))
    return (instances * weights).sum(dim=1).masked_fill(is_even, 0)
