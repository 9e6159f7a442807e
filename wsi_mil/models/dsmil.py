"""DSMIL: two streams, instances and bag, that meet in a critical instance."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.encode_classify import BagEncoding, EncodeClassifyModel
from wsi_mil.models.held import constant
from wsi_mil.models.keywords import DSMILKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.outputs import Outputs, chosen_outputs
from wsi_mil.models.precision import widened


class DSMIL(EncodeClassifyModel):
    """Instances are classified; each is weighted by its similarity to the most positive one of the class.

    Source:
        Li, Li, Eliceiri: Dual-stream Multiple Instance Learning Network, CVPR 2021, eqs. 3 to 7.
        https://arxiv.org/abs/2011.08939

    Symbols:
        c = X W (one output for two classes, else one a class); m_c = argmax_n c_nc; q_n = tanh(L₂ ReLU(L₁ x_n));
        A_nc = softmax_n(⟨q_n, q_m_c⟩ / √query_dim); B = Aᵀ V; bag outputs = Conv1d(B), each of which sees all rows of B.
        Loss = ½ CE(bag) + ½ CE(max_n c).

    Differs:
        Of two classes the one output is the log odds of the last, which is the paper's sigmoid. More than two exclude each
        other here, so softmax and cross-entropy stand for the paper's sigmoid a class.
        No dropout on instances at test. Instances are embedded and `value_layer` and `average` are on, as in the DSMIL within
        MHIM; `recipe: published` takes the features as they are.
        Covariates, if there are any, are appended to what both streams classify, with the same weights.
    """

    provides = config.DSMIL.provides
    read_outs = ("classifier", "instance_classifier")

    def __init__(
        self,
        settings: config.DSMIL | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[DSMILKeywords],
    ):
        settings = model_settings(config.DSMIL, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        self.instance_classifier = nn.Linear(dim, outputs.n_units)
        first = nn.Linear(dim, settings.query_dim)
        deep = (first, nn.ReLU(), nn.Linear(settings.query_dim, settings.query_dim), nn.Tanh())
        self.query = nn.Sequential(*deep) if settings.nonlinear else first
        value = (nn.Dropout(settings.dropout), nn.Linear(dim, dim), nn.ReLU())
        self.value = nn.Sequential(*value) if settings.value_layer else nn.Identity()
        self.classifier = nn.Conv1d(outputs.n_units, outputs.n_units, kernel_size=dim)
        self.average = settings.average
        for own in (self.embedding, self.instance_classifier, self.query, self.value, self.classifier):
            own.apply(_orthogonal)

    def encode(self, embedded: Tensor, bag_mask: Tensor | None = None) -> BagEncoding:
        scores = self.instance_classifier(embedded)  # (batch_size, n_instances, n_units)
        if bag_mask is not None:
            scores = scores.masked_fill(~bag_mask.unsqueeze(-1), -torch.inf)
        queries = self.query(embedded)  # (batch_size, n_instances, query_dim)
        critical = scores.argmax(dim=1, keepdim=True).mT  # (batch_size, n_units, 1)
        of_critical = queries.gather(1, critical.expand(-1, -1, queries.shape[-1]))
        attention_logits = queries @ of_critical.mT / math.sqrt(queries.shape[-1])  # (batch_size, n_instances, n_units)
        if bag_mask is not None:
            attention_logits = attention_logits.masked_fill(~bag_mask.unsqueeze(-1), -torch.inf)
        attention = constant(torch.softmax(widened(attention_logits), dim=1).to(embedded.dtype))
        return BagEncoding(attention.mT @ self.value(embedded), attention_logits, scores)

    def encode_scored(self, embedded: Tensor) -> tuple[BagEncoding, Tensor]:
        encoding = self.encode(embedded)
        return encoding, _units(encoding).amax(dim=-1)

    def classify(self, encoding: BagEncoding) -> Tensor:
        bag = self._bag_logits(encoding)
        if not self.average:
            return bag
        return self.outputs.mean(widened(torch.stack([bag, self._critical_logits(encoding)])), dim=0)

    def encoding_loss(self, encoding: BagEncoding, label: Tensor, loss: BagLoss) -> Tensor:
        bag = loss(self._bag_logits(encoding), label)
        return 0.5 * bag + 0.5 * loss(self._critical_logits(encoding), label)

    def linear_logits(self, embedded: Tensor) -> Tensor:
        """Logits of the bag's stream, also where the prediction is the mean of both streams."""
        return self._bag_logits(self.encode(embedded))

    def single_logits(self, embedded: Tensor) -> Tensor:
        """Logits of the bag's stream for bags of one instance, which has all the attention."""
        bag = self.value(embedded).unsqueeze(1).expand(-1, self.outputs.n_units, -1)
        return self._bag_logits(BagEncoding(bag))

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        """Probability is the instance stream's, evidence the bag stream's: the two need not agree."""
        embedded = self.embed(bag)
        encoding = self.encode(embedded)
        assert encoding.attention_logits is not None
        row = encoding.attention_logits[0].double()[:, self.outputs.row_of(output)]
        scores: dict[InstanceScoreKind, Tensor] = {"attention": torch.softmax(row, 0), "attention_logits": row}
        if self.outputs.are_probabilities:
            logits = self.outputs.logits_of(_units(encoding)[0].double())
            scores["probability"] = self.outputs.probability(logits, output)
        return scores | {"evidence": self.outputs.scalar(self.single_logits(embedded[0]).double(), output)}

    @torch.no_grad()
    def streams(self, bag: Tensor, output: int) -> tuple[Tensor, Tensor]:
        embedded = self.embed(bag)
        of_instances = self.outputs.logits_of(self.instance_classifier(embedded[0]))
        return self.outputs.scalar(of_instances, output), self.outputs.scalar(self.single_logits(embedded[0]), output)

    def _bag_logits(self, encoding: BagEncoding) -> Tensor:
        return self.outputs.logits_of(self.classifier(encoding.bag).squeeze(-1))

    def _critical_logits(self, encoding: BagEncoding) -> Tensor:
        """Logits of the instance of the largest unit, unit by unit."""
        return self.outputs.logits_of(_units(encoding).amax(dim=1))


def _units(encoding: BagEncoding) -> Tensor:
    assert encoding.instance_logits is not None
    return encoding.instance_logits


def _orthogonal(module: nn.Module) -> None:
    """The authors' initialisation."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
