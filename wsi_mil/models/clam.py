"""CLAM: attention whose two ends are clustered."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.attention import GatedAttention, top_and_bottom
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.held import constant
from wsi_mil.models.keywords import CLAMKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.outputs import Outputs, chosen_outputs

SURE = math.log(1000)
"""Lead of the first score over the second from which the smooth loss is the hard one to three digits."""


class CLAM(MILModel):
    """Clustering-constrained attention MIL with one attention branch (CLAM-SB) or one for each class (CLAM-MB).

    Source:
        Lu et al.: Data-efficient and weakly supervised computational pathology on whole-slide images, Nature Biomedical
        Engineering 2021, Methods. https://arxiv.org/abs/2004.09666

    Symbols:
        h_n embedding; e_nc = w_c·(tanh(V h_n) ⊙ σ(U h_n)) + b_c, one row or one a class; a = softmax_n(e);
        z_c = Σ a_nc h_n; logit of class c = W_c·z_c + b_c (SB: the same z for all c).
        Each class has a classifier of instances, in or out. That of the bag's class learns the k highest of its own
        attention as in and the k lowest as out; with `subtyping` the others learn their k highest as out, and the sum is
        divided by the number of classes. Loss = (1 - w) · CE(bag) + w · instance loss, w = `instance_weight`.

    Differs:
        A bag of fewer than 2·k instances gives half to either end, so that none is labelled both in and out, and one of
        fewer than k is no error.
        The authors recommend drawing bags by the inverse of their class's share; here both parts of the loss are weighted
        by it. A batch of bags is the sum over bags.
        Classes only: which end of the attention is in or out of a class has no counterpart in a number or a risk, nor in labels
        of which several may be right.
        The output of the instance classifiers is not provided as a probability: without subtyping they never saw a bag of
        another class.
    """

    provides = config.CLAM.provides

    def __init__(
        self,
        settings: config.CLAM | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[CLAMKeywords],
    ):
        settings = model_settings(config.CLAM, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        rows = outputs.n if settings.branches == "multi" else 1
        self.attention = GatedAttention(dim, settings.attention_dim, rows=rows, dropout=settings.attention_dropout)
        self.classifier = nn.Linear(dim, outputs.n)
        self.instance_classifiers = nn.ModuleList(nn.Linear(dim, 2) for _ in range(outputs.n))

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        attention_logits = self.attention(embedded, bag_mask)
        attention = constant(torch.softmax(attention_logits.float(), dim=1).to(embedded.dtype))
        pooled = attention.mT @ embedded  # (batch_size, rows, embed_dim)
        logits = (self.classifier.weight * pooled).sum(dim=-1) + self.classifier.bias
        return MILOutput(logits, attention_logits)

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        embedded = self.embed(bags)
        output = self.pool(embedded)
        assert output.attention_logits is not None
        rows, weight = output.attention_logits.mT.expand(-1, len(self.instance_classifiers), -1), self.settings.instance_weight
        of_bags = [self.instance_loss(bag, r, int(y)) for bag, r, y in zip(embedded, rows, label, strict=True)]
        clustering = (torch.stack(of_bags) * loss.bag_weights(label)).sum()
        return (1 - weight) * loss(output.logits, label) + weight * clustering

    def instance_loss(self, bag: Tensor, rows: Tensor, label: int) -> Tensor:
        """Loss of the instance classifiers on the instances with the highest and the lowest attention.

        Args:
            bag: `(n_instances, embed_dim)`.
            rows: attention by class `(n_classes, n_instances)`, before or after softmax.
            label: the bag's class.
        """
        highest, lowest = top_and_bottom(rows[label], self.settings.k)
        both = torch.cat([highest, lowest])
        is_in = (torch.arange(len(both), device=bag.device) < len(highest)).long()
        loss = self._classifier_loss(label, bag[both], is_in)
        if not self.settings.subtyping:
            return loss
        for other in range(len(rows)):
            if other != label:
                highest = rows[other].detach().topk(min(self.settings.k, len(bag))).indices
                loss = loss + self._classifier_loss(other, bag[highest], torch.zeros_like(highest))
        return loss / len(rows)

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        """Attention is that of the class's own branch where classes have one."""
        embedded = self.embed(bag)
        rows = self.attention(embedded)[0].double()
        row = rows[:, output if rows.shape[1] > 1 else 0]
        evidence = self.outputs.scalar(self.classifier(embedded)[0].double(), output)
        return {"attention": torch.softmax(row, dim=0), "attention_logits": row, "evidence": evidence}

    def _classifier_loss(self, number: int, instances: Tensor, is_in: Tensor) -> Tensor:
        scores = self.instance_classifiers[number](instances).float()
        if self.settings.instance_loss == "svm":
            return smooth_top1_svm(scores, is_in)
        return functional.cross_entropy(scores, is_in)


def smooth_top1_svm(scores: Tensor, label: Tensor) -> Tensor:
    """Log of Σ_j exp(s_j + [j ≠ y] - s_y), mean over samples; max_j(s_j + [j ≠ y]) - s_y where the first leads by far.

    Source:
        Berrada, Zisserman, Kumar: Smooth Loss Functions for Deep Top-k Classification, ICLR 2018, for k = 1, margin and
        temperature 1. https://arxiv.org/abs/1802.07595

    Args:
        scores: `(n, n_classes)`.
        label: int64 `(n,)`.
    """
    is_label = functional.one_hot(label, scores.shape[1]).bool()
    raised = scores + (~is_label).to(scores.dtype) - scores[is_label].unsqueeze(1)
    first, second = scores.topk(2, dim=1).values.unbind(dim=1)
    return torch.where(first - second >= SURE, raised.amax(dim=1), torch.logsumexp(raised, dim=1)).mean()
