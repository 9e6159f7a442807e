"""Entries of `models`: architectures and how they are trained, each with its published defaults."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from wsi_mil.config.settings import EntryName, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]


Offer = Literal["attention", "attention_logits", "probability", "evidence"]
"""What a model can say about each instance."""

Epochs = Annotated[int, Field(ge=1, description="at most so many passes over the training bags")]
Patience = Annotated[int, Field(ge=1, description="epochs without a better one before stopping")]
MinEpochs = Annotated[int, Field(ge=0, description="no stopping before so many epochs")]
Select = Annotated[Literal["loss", "auroc"], Field(description="figure of the validation part that chooses the epoch")]
MinImprovement = Annotated[float, Field(ge=0, description="by how much that figure must be better to count")]
Optimizer = Annotated[Literal["adamw", "adam", "radam_lookahead"], Field(description="adam decays through the gradient")]
LearningRate = Annotated[float, Field(gt=0, description="at the start")]
Betas = Annotated[tuple[Beta, Beta], Field(description="decay of the optimiser's two averages")]
WeightDecay = Annotated[float, Field(ge=0, description="pull of the weights towards zero")]
Schedule = Annotated[Literal["constant", "cosine"], Field(description="over the epochs")]
Accumulate = Annotated[int, Field(ge=1, description="bags whose gradients make one update")]
EmbedDim = Annotated[int | None, Field(ge=1, description="units of the instance embedding; null: features as they are")]
Dropout = Annotated[float, Field(ge=0, lt=1, description="on the instance embedding")]


class Training(Settings):
    """How a model is fitted."""

    epochs: Epochs = 60
    patience: Patience = 20
    min_epochs: MinEpochs = 0
    select: Select = "loss"
    min_improvement: MinImprovement = 0.05
    optimizer: Optimizer = "adamw"
    lr: LearningRate = 2e-4
    betas: Betas = (0.9, 0.999)
    weight_decay: WeightDecay = 1e-5
    decay_vectors: bool = Field(True, description="weight decay on biases and norms too")
    schedule: Schedule = "constant"
    final_lr: float = Field(0.0, ge=0, description="where a cosine schedule ends")
    accumulate: Accumulate = 1
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast")
    max_instances: int | None = Field(None, ge=1, description="instances drawn from each bag in each epoch; null: all")
    instance_dropout: float = Field(0.0, ge=0, lt=1, description="share of a bag's instances left out in each step")
    class_weights: bool = Field(True, description="weigh each class by the inverse of its share")
    seed: int = Field(0, ge=0, description="of weights, order and dropout")


class TransMILTraining(Training):
    """As published: RAdam with Lookahead, two bags an update, no weight decay on vectors, classes not weighed."""

    epochs: Epochs = 200
    patience: Patience = 10
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "radam_lookahead"
    decay_vectors: bool = False
    accumulate: Accumulate = 2
    class_weights: bool = False


class DSMILTraining(Training):
    """As published: Adam with little momentum, cosine to 5e-6, classes not weighed.

    The authors choose the epoch by (sum of AUROCs + accuracy) / 2; here it is the validation loss.
    """

    epochs: Epochs = 50
    patience: Patience = 10
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    lr: LearningRate = 1e-4
    betas: Betas = (0.5, 0.9)
    weight_decay: WeightDecay = 1e-3
    schedule: Schedule = "cosine"
    final_lr: float = 5e-6
    class_weights: bool = False


class MHIMTraining(Training):
    """As published for CAMELYON16: Adam, cosine to zero over 200 epochs, early stopping on AUROC, classes not weighed."""

    epochs: Epochs = 200
    patience: Patience = 30
    min_epochs: MinEpochs = 130
    select: Select = "auroc"
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    schedule: Schedule = "cosine"
    class_weights: bool = False


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


class TransMIL(Settings):
    """One entry of `models`: TransMIL (Shao et al. 2021)."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention",)
    model: Literal["transmil"]
    embed_dim: int = Field(512, ge=8, description="units of a token, a multiple of heads")
    heads: int = Field(8, ge=1, description="attention heads")
    landmarks: int = Field(256, ge=1, description="landmarks of the Nyström attention")
    attention_dropout: Dropout = Field(0.1, description="after each attention layer")
    dropout: Dropout = 0.0
    train: TransMILTraining = TransMILTraining()

    @model_validator(mode="after")
    def _heads_share_the_token(self) -> "TransMIL":
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim must be a multiple of heads, got {self.embed_dim} and {self.heads}")
        return self


class DSMIL(Settings):
    """One entry of `models`: dual-stream MIL (Li et al. 2021)."""

    offers: ClassVar[tuple[Offer, ...]] = ("attention", "attention_logits", "probability", "evidence")
    model: Literal["dsmil"]
    embed_dim: EmbedDim = Field(None, description="units of the instance embedding; null: features as they are; MHIM has 512")
    query_dim: int = Field(128, ge=1, description="units of the queries")
    nonlinear: bool = Field(True, description="two layers instead of a linear map before the queries")
    value_layer: bool = Field(False, description="a linear layer with ReLU before the weighted sum; MHIM has it")
    average: bool = Field(False, description="probability = mean of the bag's and of its most positive instance")
    dropout: Dropout = 0.0
    train: DSMILTraining = DSMILTraining()


class MHIM(Settings):
    """One entry of `models`: masked hard instance mining (Tang et al. 2023) over another entry.

    A trained `base` teaches: it tells which instances are easy, and a student of the same architecture learns without
    them. Defaults are those published for ABMIL and DSMIL on CAMELYON16.
    """

    model: Literal["mhim"]
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


BaseModelSettings = InstancePool | EmbeddingPool | ABMIL | TransMIL | DSMIL
"""Models that need no other one."""

Model = Annotated[InstancePool | EmbeddingPool | ABMIL | TransMIL | DSMIL | MHIM, Field(discriminator="model")]

TEACHERS = ("abmil", "transmil", "dsmil")
"""What MHIM stands on."""


def offers_of(models: Mapping[str, Model], entry: str) -> tuple[Offer, ...]:
    """What an entry of `models` says about its instances; MHIM what its base says."""
    settings = models[entry]
    return offers_of(models, settings.base) if isinstance(settings, MHIM) else settings.offers
