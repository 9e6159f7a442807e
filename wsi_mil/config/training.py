"""How models are fitted: one block of settings, and what each paper changes in it."""

from typing import Annotated, Literal

from pydantic import Field

from wsi_mil.config.settings import Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
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


class CLAMTraining(Training):
    """As the authors' guide has it: Adam 2e-4 for at most 200 epochs, stopped by the validation bags' loss after epoch 50.

    Bags weighed by class stand for their drawing of bags by class.
    """

    epochs: Epochs = 200
    min_epochs: MinEpochs = 50
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"


class DTFDTraining(Training):
    """As published: Adam 1e-4 with as much weight decay for 200 epochs, the epoch chosen by AUROC, classes not weighed.

    The authors' step to a fifth of the rate at epoch 100 is a cosine to there; they choose among the last 40 epochs only.
    """

    epochs: Epochs = 200
    patience: Patience = 40
    min_epochs: MinEpochs = 160
    select: Select = "auroc"
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    lr: LearningRate = 1e-4
    weight_decay: WeightDecay = 1e-4
    schedule: Schedule = "cosine"
    final_lr: float = 2e-5
    class_weights: bool = False


class KrausTraining(Training):
    """Ours: a soft pool ranks the bags long before its loss falls, so the epoch is chosen by AUROC, of equal ones by the loss."""

    epochs: Epochs = 100
    patience: Patience = 30
    select: Select = "auroc"
    min_improvement: MinImprovement = 0.0
