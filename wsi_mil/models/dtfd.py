"""DTFD-MIL: a bag is divided into pseudo-bags; what each is distilled to forms the bag of a second tier."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.attention import GatedAttention, top_and_bottom
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.held import constant
from wsi_mil.models.keywords import DTFDKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.outputs import Outputs, chosen_outputs, margin_of
from wsi_mil.models.precision import widened


class DTFD(MILModel):
    """Double-tier feature distillation: AFS, MaxS or MaxMinS.

    Source:
        Zhang et al.: DTFD-MIL: Double-Tier Feature Distillation Multiple Instance Learning for Histopathology Whole Slide
        Image Classification, CVPR 2022, sections 3.2 to 3.4. https://arxiv.org/abs/2203.12081

    Symbols:
        G pseudo-bags, drawn at random, inherit the bag's label. Tier 1: gated attention a over each, z_g = Σ a_n h_n,
        logits W z_g + b. Derived probability of an instance: p_n = softmax(W a_n h_n), without b. Distilled to z_g (afs), to
        the ⌊total / G⌋ instances of highest p_n (maxs), or these and as many of lowest (maxmins). Tier 2: gated attention and
        classifier of their own over all that is distilled. Loss = mean CE of pseudo-bags + CE of tier 2.

    Differs:
        The authors step tier 1 and tier 2 by an Adam each, and discard the gradient of tier 2's loss in tier 1. Here what is
        distilled is detached from that loss, so that one Adam over the sum makes the very same steps; `joint` lets it
        through. Their clipping of gradients at norm 5 is not implemented.
        After training the pseudo-bags are drawn by `seed` and the number of instances alone, and the probabilities of `draws`
        drawings averaged, so that a bag always gets the same prediction.
        A bag of fewer than G instances has a pseudo-bag for each. A pseudo-bag of fewer instances than are chosen gives what it
        has, none of them twice. Instances are ranked by the log odds of p_n, since p_n itself comes near ½ as a_n falls with
        the size of the bag; of more than two classes by those of the class that tier 1 predicts for the pseudo-bag.
        Classes only: a class is inherited by a part of the bag that holds a key instance, while a part's value or risk is not
        the bag's, and instances cannot be ranked for several labels at once.
        Covariates, if there are any, are appended to what tier 2 classifies.
    """

    provides = config.DTFD.provides
    read_outs = ("second.classifier",)

    def __init__(
        self,
        settings: config.DTFD | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[DTFDKeywords],
    ):
        settings = model_settings(config.DTFD, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout, bias=False)
        self.first, self.second = (Tier(dim, settings.attention_dim, outputs.n) for _ in range(2))

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        attention_logits = self.first.attention(embedded, bag_mask)
        masks = bag_mask if bag_mask is not None else [slice(None)] * len(embedded)
        rows = zip(embedded, attention_logits[..., 0], masks, strict=True)
        return MILOutput(torch.stack([self._logits(bag[real], row[real]) for bag, row, real in rows]), attention_logits)

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        losses = []
        for bag, y in zip(self.embed(bags), label[:, None], strict=True):
            row = self.first.attention(bag)[:, 0]
            for numbers in self._divisions(len(bag)):
                pseudo, distilled = self.distil(bag, row, numbers)
                of_first = loss(pseudo, y.expand(len(pseudo))) / len(pseudo)
                of_second = loss(self.second(distilled if self.settings.joint else distilled.detach()), y)
                losses.append(of_first + of_second)
        return torch.stack(losses).sum() / (len(losses) / len(bags))

    def distil(self, bag: Tensor, attention_logits: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Apply tier 1 to one division into pseudo-bags.

        Args:
            bag: embedded `(n_instances, embed_dim)`.
            attention_logits: of tier 1 `(n_instances,)`.
            numbers: of the pseudo-bag that each instance is in `(n_instances,)`, from 0, none left out.

        Returns:
            Logits of the pseudo-bags `(n_pseudo_bags, n_classes)`, and what is distilled `(n_distilled, embed_dim)`.
        """
        inside = numbers == torch.arange(int(numbers.max()) + 1, device=bag.device)[:, None]
        shares = constant(torch.softmax(torch.where(inside, attention_logits.float(), -torch.inf), dim=1).to(bag.dtype))
        pooled = shares @ bag  # (n_pseudo_bags, embed_dim)
        logits = self.first.classifier(pooled)
        if self.settings.distil == "afs":
            return logits, pooled
        with torch.no_grad():
            activations = self.first.activations(bag)
            instances = [self._distilled(*part, activations) for part in zip(inside, shares, logits, strict=True)]
        return logits, bag[torch.cat(instances)]

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        """Score by tier 1 over the whole bag, since scores of different pseudo-bags cannot be compared; evidence is tier 2's.

        Class activation is the log odds of the derived p_n, with n·a_n for a_n (which of two classes keeps their order, and
        frees them of the size of the bag), from those of 1 / n_classes.
        """
        embedded = self.embed(bag)[0]
        row = self.first.attention(embedded)[:, 0].double()
        attention = torch.softmax(row, dim=0)
        activations = len(row) * attention[:, None] * self.first.activations(embedded).double()
        return {
            "attention": attention,
            "attention_logits": row,
            "evidence": self.outputs.scalar(self.second.classifier(embedded).double(), output),
            "class_activation": margin_of(activations, output) + math.log(activations.shape[1] - 1),
        }

    def linear_logits(self, embedded: Tensor) -> Tensor:
        """Logits of each division into pseudo-bags."""
        return self._by_division(embedded[0], self.first.attention(embedded)[0, :, 0])

    def combined(self, parts: Tensor) -> Tensor:
        """Logarithm of the mean probability over the divisions."""
        return self.outputs.mean(widened(parts), dim=0)

    def single_logits(self, embedded: Tensor) -> Tensor:
        """Of one instance, pooling and distilling leave the instance itself: tier 2's classifier."""
        return torch.as_tensor(self.second.classifier(embedded))

    def _logits(self, bag: Tensor, attention_logits: Tensor) -> Tensor:
        return self.combined(self._by_division(bag, attention_logits))

    def _by_division(self, bag: Tensor, attention_logits: Tensor) -> Tensor:
        """Logits of tier 2 `(n_divisions, n_classes)`."""
        divisions = self._divisions(len(bag))
        return torch.cat([self.second(self.distil(bag, attention_logits, numbers)[1]) for numbers in divisions])

    def _divisions(self, n: int) -> list[Tensor]:
        """A new division in training, always the same ones afterwards; drawn on the CPU, whose generator state is saved."""
        device = next(self.parameters()).device
        if self.training:
            return [pseudo_bags(n, self.settings.pseudo_bags).to(device)]
        generator = torch.Generator().manual_seed(self.settings.seed)
        return [pseudo_bags(n, self.settings.pseudo_bags, generator).to(device) for _ in range(self.settings.draws)]

    def _distilled(self, inside: Tensor, shares: Tensor, logits: Tensor, activations: Tensor) -> Tensor:
        """Indices of the instances that a pseudo-bag is distilled to."""
        output = len(logits) - 1 if len(logits) == 2 else int(logits.argmax())
        members = inside.nonzero().squeeze(1)
        odds = margin_of(shares[members, None].float() * activations[members].float(), output)
        k = self.settings.total // self.settings.pseudo_bags
        if self.settings.distil == "maxs":
            return members[odds.topk(min(k, len(members))).indices]
        return members[torch.cat(top_and_bottom(odds, k))]


class Tier(nn.Module):
    """Gated attention and classifier."""

    def __init__(self, dim: int, attention_dim: int, n_classes: int):
        super().__init__()
        self.attention = GatedAttention(dim, attention_dim)
        self.classifier = nn.Linear(dim, n_classes)

    def forward(self, instances: Tensor) -> Tensor:
        """`(n_instances, embed_dim)` → `(1, n_classes)`."""
        shares = constant(torch.softmax(self.attention(instances).float(), dim=0).to(instances.dtype))
        return torch.as_tensor(self.classifier(shares.mT @ instances))

    def activations(self, instances: Tensor) -> Tensor:
        """W h_n `(n_instances, n_classes)`, without bias."""
        return instances @ self.classifier.weight.mT


def pseudo_bags(n: int, groups: int, generator: torch.Generator | None = None) -> Tensor:
    """Number of the pseudo-bag of each of `n` instances `(n,)`: `groups` or, of fewer instances, `n`, of sizes that differ by 1.

    Drawn with the generator, or with torch's global one.
    """
    return torch.randperm(n, generator=generator) % min(groups, n)
