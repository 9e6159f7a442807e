"""Aggregators: one record for each, which is at the same time the settings of an entry of `models`.

Configuration, `check`, the factory of `wsi_mil.models`, the schema, the tables of the documentation and the list in
`config.yaml` follow from these classes. `training` has how models are fitted, `recipes` the constants of the papers. To add
one: docs/add_an_aggregator.md.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from wsi_mil.config import recipes
from wsi_mil.config.recipes import Recipe, WithRecipe
from wsi_mil.config.settings import EntryName, Settings
from wsi_mil.config.targets import Covariates, Kind, Target
from wsi_mil.config.training import (
    CLAMTraining,
    DTFDTraining,
    KrausTraining,
    LinearTraining,
    MHIMTraining,
    Schedule,
    Training,
)

EVERY_KIND: tuple[Kind, ...] = get_args(Kind)
"""Kinds of targets that a model without a loss of its own can learn."""

InstanceScoreKind = Literal["attention", "attention_logits", "probability", "evidence", "class_activation"]
"""Kinds of scores that a model may provide for each instance."""

EmbedDim = Annotated[int | None, Field(ge=1, description="units of the instance embedding; null: features as they are")]
Dropout = Annotated[float, Field(ge=0, lt=1, description="on the instance embedding")]
MOST_EXACT = 20_000
"""Largest `exact_up_to`: with so many tiles an update takes a core about a minute."""
CovariatesKey = Annotated[
    bool, Field(description="the target's covariates are appended to the bag's embedding (docs/targets.md)")
]
RecipeKey = Annotated[Recipe, Field(description="published: the constants of the paper, training and all")]


class ModelSettings(Settings):
    """Settings of a model; the class itself is the model's record.

    The first line of its docstring says what the model is: documentation and `config.yaml` show it.

    Attributes:
        implementation: "module:class" of a `wsi_mil.models.MILModel`, imported by the factory only.
        provides: kinds of scores that the model provides for each instance, in the order of its `instance_scores`.
        learns: kinds of targets that the model can learn.
        best: the explanation that `best` in `explain.methods` stands for (docs/explanations.md has the figures); "" where
            there is nothing to explain.
        is_teacher: whether MHIM can be trained over it.
        baseline: of a model that others ought to be better than, what it is, to follow its name; the report compares them.
        takes_slide_vectors: whether it learns from bags that are one vector of the whole slide; others need tiles.
    """

    implementation: ClassVar[str]
    provides: ClassVar[tuple[InstanceScoreKind, ...]]
    learns: ClassVar[tuple[Kind, ...]] = ("classes",)
    best: ClassVar[str] = "standardised_contribution"
    is_teacher: ClassVar[bool] = False
    baseline: ClassVar[str] = ""
    takes_slide_vectors: ClassVar[bool] = False
    no_covariates: ClassVar[str] = "it has no embedding of the bag that they could be appended to; leave the key out"
    """Why a model without the key `covariates` has none."""

    @property
    def has_instances(self) -> bool:
        """Whether the model sees slides, so that there is something to explain."""
        return bool(self.best)

    @property
    def uses_covariates(self) -> bool:
        """Whether the model needs the covariates of a target."""
        return bool(getattr(self, "covariates", False))

    @model_validator(mode="before")
    @classmethod
    def _covariates_need_an_embedding(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "covariates" in values and "covariates" not in cls.model_fields:
            raise ValueError(f"{model_name(cls)} cannot take covariates: {cls.no_covariates}")
        return values


class MeanLinear(ModelSettings):
    """Penalised linear regression on the mean of the features, fitted in seconds: the baseline."""

    implementation = "wsi_mil.models.mean_linear:MeanLinear"
    learns = EVERY_KIND
    no_covariates = "a penalty that suits many features would shrink them to nothing; take embedding_pool, or clinical"
    provides = ("evidence",)
    baseline = "a linear model of the mean of the features"
    takes_slide_vectors = True
    model: Literal["mean_linear"]
    statistics: Literal["mean", "mean_std"] = Field(
        "mean", description="mean_std: the standard deviation of each feature over the tiles too"
    )
    train: LinearTraining = LinearTraining()


class InstancePool(ModelSettings):
    """Instances are classified, and their classes are pooled by maximum or mean."""

    implementation = "wsi_mil.models.pooling:InstancePool"
    best = "evidence"
    learns = EVERY_KIND
    provides = ("probability", "evidence")
    model: Literal["instance_pool"]
    pool: Literal["max", "mean"] = Field("max", description="max: the bag is its most positive instance")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    train: Training = Training()


class EmbeddingPool(ModelSettings):
    """Embeddings are pooled by maximum or mean, and the pool is classified."""

    implementation = "wsi_mil.models.pooling:EmbeddingPool"
    best = "evidence"
    learns = EVERY_KIND
    provides = ("evidence",)
    takes_slide_vectors = True
    model: Literal["embedding_pool"]
    pool: Literal["max", "mean"] = Field("mean", description="element by element")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    covariates: CovariatesKey = False
    train: Training = Training()


class ABMIL(ModelSettings):
    """Attention-based MIL, gated or plain (Ilse et al. 2018)."""

    implementation = "wsi_mil.models.abmil:ABMIL"
    learns = EVERY_KIND
    provides = ("attention", "attention_logits", "evidence")
    is_teacher = True
    model: Literal["abmil"]
    gated: bool = Field(True, description="gated attention")
    embed_dim: EmbedDim = 256
    attention_dim: int = Field(128, ge=1, description="units of the attention network")
    activation: Literal["tanh", "relu"] = Field("tanh", description="of the attention network; MHIM's code has relu")
    attention_bias: bool = Field(True, description="biases in the attention network; MHIM's code has none")
    dropout: Dropout = 0.25
    covariates: CovariatesKey = False
    train: Training = Training()


class TransMIL(ModelSettings, WithRecipe):
    """Class token over exact or Nyström attention (Shao et al. 2021)."""

    implementation = "wsi_mil.models.transmil:TransMIL"
    learns = EVERY_KIND
    provides = ("attention",)
    is_teacher = True
    published = recipes.TRANSMIL
    model: Literal["transmil"]
    recipe: RecipeKey = "default"
    embed_dim: int = Field(512, ge=8, description="units of a token, a multiple of heads")
    heads: int = Field(8, ge=1, description="attention heads")
    attention: Literal["auto", "exact", "nystrom"] = Field(
        "auto", description="auto: exact where no training bag has more than exact_up_to tiles; the checkpoint records which"
    )
    exact_up_to: int = Field(2048, ge=1, description="tiles of the largest training bag; beyond, auto takes nystrom")
    landmarks: int = Field(256, ge=1, description="of the Nyström attention")
    position_start: Literal["zero", "random"] = Field(
        "zero", description="start of the convolutions of positions and values; zero: tiles are not blurred"
    )
    attention_dropout: Dropout = Field(0.1, description="after each attention layer")
    dropout: Dropout = 0.0
    covariates: CovariatesKey = False
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
        """Return the settings with `attention: auto` decided by the tiles of the largest training bag."""
        if self.attention != "auto":
            return self
        return self.model_copy(update={"attention": "exact" if largest_bag <= self.exact_up_to else "nystrom"})


class DSMIL(ModelSettings, WithRecipe):
    """Dual-stream MIL: two streams that meet in a critical instance (Li et al. 2021).

    `recipe: published` takes features as they are, without value layer or average, and the paper's training. Within MHIM's
    code `embed_dim` is 512.
    """

    implementation = "wsi_mil.models.dsmil:DSMIL"
    learns = EVERY_KIND
    provides = ("attention", "attention_logits", "probability", "evidence")
    is_teacher = True
    published = recipes.DSMIL
    model: Literal["dsmil"]
    recipe: RecipeKey = "default"
    embed_dim: EmbedDim = 256
    query_dim: int = Field(128, ge=1, description="units of the queries")
    nonlinear: bool = Field(True, description="two layers instead of a linear map before the queries")
    value_layer: bool = Field(True, description="a linear layer with ReLU before the weighted sum, as within MHIM's code")
    average: bool = Field(True, description="probability = mean of the bag's and of its most positive instance")
    dropout: Dropout = 0.0
    covariates: CovariatesKey = False
    train: Training = Training()


class CLAM(ModelSettings):
    """Clustering-constrained attention MIL: CLAM-SB, or CLAM-MB with a branch per class (Lu et al. 2021)."""

    implementation = "wsi_mil.models.clam:CLAM"
    best = "standardised_sum"
    provides = ("attention", "attention_logits", "evidence")
    model: Literal["clam"]
    branches: Literal["single", "multi"] = Field("single", description="single: CLAM-SB; multi: CLAM-MB, attention by class")
    embed_dim: EmbedDim = 512
    attention_dim: int = Field(256, ge=1, description="units of the attention network; the authors' big one has 384")
    attention_dropout: Dropout = Field(0.25, description="within the attention network")
    k: int = Field(8, ge=1, description="instances from either end of the attention that the instance loss takes")
    subtyping: bool = Field(
        False, description="for classes none of which is the absence of the others: top instances of others are negatives"
    )
    instance_loss: Literal["svm", "cross_entropy"] = Field("svm", description="svm: smooth, with margin 1")
    instance_weight: float = Field(0.3, ge=0, lt=1, description="share of the instance loss in the total loss")
    dropout: Dropout = 0.25
    covariates: CovariatesKey = False
    train: CLAMTraining = CLAMTraining()


class DTFD(ModelSettings):
    """Double-tier feature distillation of pseudo-bags: AFS, MaxS or MaxMinS (Zhang et al. 2022)."""

    implementation = "wsi_mil.models.dtfd:DTFD"
    best = "standardised_sum"
    provides = ("attention", "attention_logits", "evidence", "class_activation")
    model: Literal["dtfd"]
    distil: Literal["afs", "maxs", "maxmins"] = Field(
        "afs", description="a pseudo-bag gives afs: its pooled features; maxs: its highest instances; maxmins: its lowest too"
    )
    pseudo_bags: int = Field(4, ge=1, description="parts of a bag, drawn at random; the paper has 5 for CAMELYON16, 8 for TCGA")
    total: int = Field(4, ge=1, description="instances that maxs distils a bag to (maxmins: twice as many), over all pseudo-bags")
    joint: bool = Field(False, description="the loss of tier 2 moves tier 1 too")
    draws: int = Field(5, ge=1, description="random divisions into pseudo-bags that are averaged after training")
    seed: int = Field(0, ge=0, description="of those divisions")
    embed_dim: EmbedDim = 512
    attention_dim: int = Field(128, ge=1, description="units of either attention network")
    dropout: Dropout = 0.0
    covariates: CovariatesKey = False
    train: DTFDTraining = DTFDTraining()

    @model_validator(mode="after")
    def _each_pseudo_bag_gives_one(self) -> "DTFD":
        if self.total < self.pseudo_bags:
            raise ValueError(f"total must be pseudo_bags or more, got {self.total} and {self.pseudo_bags}")
        return self


class KrausPool(ModelSettings):
    """Noisy-AND, noisy-OR, ISR, generalised mean or log-sum-exp of instance probabilities (Kraus et al. 2016)."""

    implementation = "wsi_mil.models.kraus:KrausPool"
    best = "evidence"
    learns = ("classes", "multilabel")
    provides = ("probability", "evidence")
    model: Literal["kraus_pool"]
    pool: Literal["noisy_and", "noisy_or", "isr", "generalised_mean", "log_sum_exp"] = "noisy_and"
    slope: float = Field(
        10.0, gt=0, le=100, description="a of noisy_and: how steeply the bag turns as the mean passes a learnt threshold"
    )
    exponent: float = Field(
        5.0, gt=0, le=50, description="r of generalised_mean and log_sum_exp: larger is nearer to the maximum"
    )
    joint: bool = Field(True, description="a dense layer over the pool; it and the pool both learn the bag's label")
    embed_dim: EmbedDim = 256
    dropout: Dropout = 0.25
    train: KrausTraining = KrausTraining()


class Clinical(ModelSettings):
    """Linear model of the target's covariates alone, without the slides."""

    implementation = "wsi_mil.models.clinical:Clinical"
    best = ""
    no_covariates = "it has nothing else; leave the key out"
    learns = EVERY_KIND
    provides = ()
    takes_slide_vectors = True
    model: Literal["clinical"]
    train: LinearTraining = LinearTraining()

    @property
    def uses_covariates(self) -> bool:
        return True


BaseModelSettings = MeanLinear | InstancePool | EmbeddingPool | ABMIL | TransMIL | DSMIL | CLAM | DTFD | KrausPool | Clinical
"""Models that are trained by themselves."""


def model_name(settings: type[ModelSettings]) -> str:
    """The value of `model` by which an entry chooses these settings."""
    return str(get_args(settings.model_fields["model"].annotation)[0])


TEACHERS = tuple(model_name(settings) for settings in get_args(BaseModelSettings) if settings.is_teacher)
"""Names of the models that MHIM can be trained over."""


class MHIM(ModelSettings, WithRecipe):
    """Masked hard instance mining over another entry, the base, which is trained first (Tang et al. 2023).

    The trained base is the teacher: it scores which instances are easy, and a student of the same architecture is trained
    without them. The default masking is that published for ABMIL and DSMIL on CAMELYON16.
    """

    implementation = "wsi_mil.models.mhim:MHIM"
    learns = EVERY_KIND
    no_covariates = "it has those of its base; set covariates: true there"
    published = recipes.MHIM
    model: Literal["mhim"]
    recipe: RecipeKey = "default"
    base: EntryName = Field(description=f"entry of `models` that is trained first, then teaches: one of {', '.join(TEACHERS)}")
    random_ratio: float = Field(0.5, ge=0, lt=1, description="share of instances masked at random")
    low_ratio: float = Field(0.0, ge=0, lt=1, description="share masked that the teacher scores lowest")
    high_ratio: float = Field(0.01, ge=0, lt=1, description="share masked among those that the teacher scores highest")
    high_share: float = Field(0.5, gt=0, le=1, description="share of the candidates for high_ratio that is drawn; 1: the highest")
    high_schedule: Schedule = Field("cosine", description="cosine: high_ratio falls to zero")
    consistency: float = Field(0.1, ge=0, description="weight of the consistency loss")
    teacher_temperature: float = Field(0.1, gt=0, description="of the teacher's bag embedding")
    student_temperature: float = Field(1.0, gt=0, description="of the student's bag embedding")
    momentum: float = Field(0.9999, ge=0, le=1, description="EMA decay of the teacher's weights")
    momentum_schedule: Schedule = Field("constant", description="cosine: momentum rises to one")
    teacher_dropout: bool = Field(True, description="the teacher scores with dropout on, as published")
    student_start: Literal["embedding", "random", "base"] = Field(
        "embedding", description="what the student copies from the base"
    )
    train: MHIMTraining = MHIMTraining()


Model = Annotated[BaseModelSettings | MHIM, Field(discriminator="model")]

MODELS: dict[str, type[ModelSettings]] = {model_name(settings): settings for settings in (*get_args(BaseModelSettings), MHIM)}
"""The record of every model, by name."""


def sentence_of(settings: type[ModelSettings]) -> str:
    """What a model is, in one sentence."""
    return (settings.__doc__ or "").partition("\n")[0].removesuffix(".")


def architecture_of(models: Mapping[str, Model], entry: str) -> BaseModelSettings:
    """Settings of the network that an entry makes: of MHIM its base's."""
    settings = models[entry]
    return architecture_of(models, settings.base) if isinstance(settings, MHIM) else settings


def learners(models: Mapping[str, Model], target: Target) -> tuple[str, ...]:
    """Return the entries that learn a target which names none: all, but without covariates those alone that see slides."""
    return tuple(entry for entry, settings in models.items() if target.covariates or settings.has_instances)


def covariates_of(models: Mapping[str, Model], entry: str, target: Target) -> Covariates | None:
    """Return the covariates of a target that the model of an entry uses; None if it uses none."""
    return target.covariates if architecture_of(models, entry).uses_covariates else None


def provided_by(models: Mapping[str, Model], entry: str) -> tuple[InstanceScoreKind, ...]:
    """Kinds of scores that the model of an entry provides for each instance; MHIM provides what its base does."""
    return architecture_of(models, entry).provides
