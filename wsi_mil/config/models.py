"""Entries of `models`: architectures and their defaults; `training` has how they are fitted, `recipes` what papers change."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from wsi_mil.config import recipes
from wsi_mil.config.recipes import Recipe, WithRecipe
from wsi_mil.config.settings import EntryName, Settings
from wsi_mil.config.training import CLAMTraining, DTFDTraining, KrausTraining, MHIMTraining, Schedule, Training

Offer = Literal["attention", "attention_logits", "probability", "evidence", "class_activation"]
"""What a model can say about each instance."""

EmbedDim = Annotated[int | None, Field(ge=1, description="units of the instance embedding; null: features as they are")]
Dropout = Annotated[float, Field(ge=0, lt=1, description="on the instance embedding")]
MOST_EXACT = 20_000
"""Tiles up to which exact attention may be asked for: there an update takes a core about a minute."""
RecipeKey = Annotated[Recipe, Field(description="published: the constants of the paper, training and all")]


class InstancePool(Settings):
    """One entry of `models`: instances are classified, their classes pooled."""

    offers: ClassVar[tuple[Offer, ...]] = ("probability", "evidence")
    model: Literal["instance_pool"]
    pool: Literal["max", "mean"] = Field("max", description="max: the bag is its most positive instance")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    train: Training = Training()


class EmbeddingPool(Settings):
    """One entry of `models`: embeddings are pooled, the pool is classified."""

    offers: ClassVar[tuple[Offer, ...]] = ("evidence",)
    model: Literal["embedding_pool"]
    pool: Literal["max", "mean"] = Field("mean", description="element by element")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    train: Training = Training()


class ABMIL(Settings):
    """One entry of `models`: attention-based MIL (Ilse et al. 2018)."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention", "attention_logits", "evidence")
    model: Literal["abmil"]
    gated: bool = Field(True, description="gated attention")
    embed_dim: EmbedDim = 256
    attention_dim: int = Field(128, ge=1, description="units of the attention network")
    activation: Literal["tanh", "relu"] = Field("tanh", description="of the attention network; MHIM's code has relu")
    attention_bias: bool = Field(True, description="biases in the attention network; MHIM's code has none")
    dropout: Dropout = 0.25
    train: Training = Training()


class TransMIL(WithRecipe):
    """One entry of `models`: TransMIL (Shao et al. 2021)."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention",)
    published = recipes.TRANSMIL
    model: Literal["transmil"]
    recipe: RecipeKey = "default"
    embed_dim: int = Field(512, ge=8, description="units of a token, a multiple of heads")
    heads: int = Field(8, ge=1, description="attention heads")
    attention: Literal["auto", "exact", "nystrom"] = Field(
        "auto", description="auto: exact where no training bag has more than exact_up_to tiles; the checkpoint says which"
    )
    exact_up_to: int = Field(2048, ge=1, description="tiles of the largest training bag; beyond, auto takes nystrom")
    landmarks: int = Field(256, ge=1, description="of the Nyström attention")
    position_start: Literal["zero", "random"] = Field(
        "zero", description="start of the convolutions of positions and values; zero: tiles are not blurred"
    )
    attention_dropout: Dropout = Field(0.1, description="after each attention layer")
    dropout: Dropout = 0.0
    train: Training = Training()

    @model_validator(mode="after")
    def _heads_share_the_token(self) -> "TransMIL":
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim must be a multiple of heads, got {self.embed_dim} and {self.heads}")
        return self

    @model_validator(mode="after")
    def _exact_attention_comes_to_an_end(self) -> "TransMIL":
        if self.exact_up_to > MOST_EXACT:
            minutes = (self.exact_up_to / MOST_EXACT) ** 2
            raise ValueError(
                f"exact_up_to must be {MOST_EXACT:,} or less, got {self.exact_up_to:,}: time grows with the square of the tiles,"
                f" and an update on so many would take a core about {minutes:,.0f} minutes; larger bags go through landmarks"
            )
        return self

    def settled(self, largest_bag: int) -> "TransMIL":
        """With `attention: auto` decided by the tiles of the largest training bag."""
        if self.attention != "auto":
            return self
        return self.model_copy(update={"attention": "exact" if largest_bag <= self.exact_up_to else "nystrom"})


class DSMIL(WithRecipe):
    """One entry of `models`: dual-stream MIL (Li et al. 2021)."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention", "attention_logits", "probability", "evidence")
    published = recipes.DSMIL
    model: Literal["dsmil"]
    recipe: RecipeKey = "default"
    embed_dim: EmbedDim = 256
    query_dim: int = Field(128, ge=1, description="units of the queries")
    nonlinear: bool = Field(True, description="two layers instead of a linear map before the queries")
    value_layer: bool = Field(True, description="a linear layer with ReLU before the weighted sum, as within MHIM's code")
    average: bool = Field(True, description="probability = mean of the bag's and of its most positive instance")
    dropout: Dropout = 0.0
    train: Training = Training()


class CLAM(Settings):
    """One entry of `models`: clustering-constrained attention MIL (Lu et al. 2021); CLAM-SB or CLAM-MB by `branches`."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention", "attention_logits", "evidence")
    model: Literal["clam"]
    branches: Literal["single", "multi"] = Field("single", description="single: CLAM-SB; multi: CLAM-MB, attention by class")
    embed_dim: EmbedDim = 512
    attention_dim: int = Field(256, ge=1, description="units of the attention network; the authors' big one has 384")
    attention_dropout: Dropout = Field(0.25, description="within the attention network")
    k: int = Field(8, ge=1, description="instances from either end of the attention that the instance loss takes")
    subtyping: bool = Field(False, description="classes exclude each other: the highest of other classes' attention are out")
    instance_loss: Literal["svm", "cross_entropy"] = Field("svm", description="svm: smooth, with margin 1")
    instance_weight: float = Field(0.3, ge=0, lt=1, description="share of the instance loss in the whole")
    dropout: Dropout = 0.25
    train: CLAMTraining = CLAMTraining()


class DTFD(Settings):
    """One entry of `models`: double-tier feature distillation (Zhang et al. 2022); AFS, MaxS or MaxMinS by `distil`."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention", "attention_logits", "evidence", "class_activation")
    model: Literal["dtfd"]
    distil: Literal["afs", "maxs", "maxmins"] = Field("afs", description="to the pooled pseudo-bag, or to instances of it")
    pseudo_bags: int = Field(4, ge=1, description="parts of a bag; the paper has 5 for CAMELYON16, 8 for TCGA")
    total: int = Field(4, ge=1, description="instances that maxs distils a bag to (maxmins: twice as many), over all pseudo-bags")
    joint: bool = Field(False, description="the loss of tier 2 moves tier 1 too")
    draws: int = Field(5, ge=1, description="drawings of pseudo-bags that are averaged after training")
    seed: int = Field(0, ge=0, description="of those drawings")
    embed_dim: EmbedDim = 512
    attention_dim: int = Field(128, ge=1, description="units of either attention network")
    dropout: Dropout = 0.0
    train: DTFDTraining = DTFDTraining()

    @model_validator(mode="after")
    def _each_pseudo_bag_gives_one(self) -> "DTFD":
        if self.total < self.pseudo_bags:
            raise ValueError(f"total must be pseudo_bags or more, got {self.total} and {self.pseudo_bags}")
        return self


class KrausPool(Settings):
    """One entry of `models`: softer pools of instances' probabilities (Kraus et al. 2016)."""

    offers: ClassVar[tuple[Offer, ...]] = ("probability", "evidence")
    model: Literal["kraus_pool"]
    pool: Literal["noisy_and", "noisy_or", "isr", "generalised_mean", "log_sum_exp"] = "noisy_and"
    slope: float = Field(10.0, gt=0, le=100, description="a of noisy_and: how steeply the bag turns")
    exponent: float = Field(
        5.0, gt=0, le=50, description="r of generalised_mean and log_sum_exp: larger is nearer to the maximum"
    )
    joint: bool = Field(True, description="a dense layer over the pool; it and the pool both learn the bag's label")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    train: KrausTraining = KrausTraining()


class MHIM(WithRecipe):
    """One entry of `models`: masked hard instance mining (Tang et al. 2023) over another entry.

    A trained `base` teaches: it tells which instances are easy, and a student of the same architecture learns without
    them. The masking is that published for ABMIL and DSMIL on CAMELYON16.
    """

    published = recipes.MHIM
    model: Literal["mhim"]
    recipe: RecipeKey = "default"
    base: EntryName = Field(description="entry of `models` (abmil, transmil or dsmil) that is trained first and teaches")
    random_ratio: float = Field(0.5, ge=0, lt=1, description="share of instances masked at random")
    low_ratio: float = Field(0.0, ge=0, lt=1, description="share masked that the teacher scores lowest")
    high_ratio: float = Field(0.01, ge=0, lt=1, description="share masked among those that the teacher scores highest")
    high_share: float = Field(0.5, gt=0, le=1, description="of the candidates for high_ratio, so many are drawn; 1: the highest")
    high_schedule: Schedule = Field("cosine", description="cosine: high_ratio falls to zero")
    consistency: float = Field(0.1, ge=0, description="weight of the consistency loss")
    teacher_temperature: float = Field(0.1, gt=0, description="of the teacher's bag embedding")
    student_temperature: float = Field(1.0, gt=0, description="of the student's bag embedding")
    momentum: float = Field(0.9999, ge=0, le=1, description="share of itself that the teacher keeps in each update")
    momentum_schedule: Schedule = Field("constant", description="cosine: momentum rises to one")
    teacher_dropout: bool = Field(True, description="the teacher scores with its dropout on, as published")
    student_start: Literal["embedding", "random", "base"] = Field(
        "embedding", description="what the student copies from the base"
    )
    train: MHIMTraining = MHIMTraining()


BaseModelSettings = InstancePool | EmbeddingPool | ABMIL | TransMIL | DSMIL | CLAM | DTFD | KrausPool
"""Models that need no other one."""

Model = Annotated[BaseModelSettings | MHIM, Field(discriminator="model")]

TEACHERS = ("abmil", "transmil", "dsmil")
"""What MHIM stands on."""


def offers_of(models: Mapping[str, Model], entry: str) -> tuple[Offer, ...]:
    """What an entry of `models` says about its instances; MHIM what its base says."""
    settings = models[entry]
    return offers_of(models, settings.base) if isinstance(settings, MHIM) else settings.offers
