"""The block `train` of a model: how it is fitted, and the defaults that differ by model."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from wsi_mil.config.settings import Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
Updates = Annotated[
    int | None, Field(ge=1, description="number of weight updates, rounded up to whole epochs; null if `epochs` is given")
]
Epochs = Annotated[
    int | None, Field(ge=1, description="maximum number of passes over the training bags; null: computed from `updates`")
]
Patience = Annotated[int, Field(ge=1, description="epochs without improvement before stopping")]
MinEpochs = Annotated[int, Field(ge=0, description="minimum number of epochs, unless `epochs` is less")]
Select = Annotated[
    Literal["auto", "loss", "auroc", "last"],
    Field(
        description="what of the validation part chooses the epoch; auto: auroc for classes and labels, loss for numbers and"
        " survival; last: nothing, the last epoch is kept"
    ),
]
MinValBags = Annotated[
    int, Field(ge=1, description="validation bags of each class needed to choose an epoch; with fewer the last one is kept")
]
MinImprovement = Annotated[float, Field(ge=0, description="smallest fall of the validation loss that counts as an improvement")]
Optimizer = Annotated[Literal["adamw", "adam", "radam_lookahead"], Field(description="adam: weight decay through the gradient")]
LearningRate = Annotated[float, Field(gt=0, description="initial learning rate")]
Betas = Annotated[tuple[Beta, Beta], Field(description="decay rates of the optimiser's two moving averages")]
WeightDecay = Annotated[float, Field(ge=0, description="weight decay")]
Schedule = Annotated[
    Literal["constant", "cosine"], Field(description="learning rate over the epochs: constant, or cosine down to `final_lr`")
]
Accumulate = Annotated[int, Field(ge=1, description="bags per weight update (gradient accumulation)")]
InstanceDropout = Annotated[float, Field(ge=0, lt=1, description="share of a bag's instances dropped in each step")]


Penalty = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Penalties = Annotated[
    tuple[Penalty, ...],
    Field(
        min_length=1,
        description="L2 penalties to try: each times half the squared length of the coefficients of standardised features is"
        " added to the mean loss of a bag; the validation bags' loss chooses one",
    ),
]


def _auto_or_number(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("expected auto or a number of GB, 0 or more")
    return number


KeepGB = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=0)],
    BeforeValidator(_auto_or_number),
    Field(
        description="GB of features that a training keeps in memory between epochs; auto: by the memory that is free and"
        " the trainings that run at once; WSI_MIL_KEEP_GB overrides"
    ),
]

CurveLog = Annotated[
    Literal["none", "tensorboard"],
    Field(
        description="where training curves are shown while training goes on, besides in history.csv; tensorboard: event files"
        " beside it; WSI_MIL_TRAIN_LOG overrides"
    ),
]


class Train(Settings):
    """Stage `train`, whatever the model. It changes no result."""

    keep_gb: KeepGB = "auto"
    log: CurveLog = "none"


class Training(Settings):
    """How a model is fitted.

    The length is a number of updates, since that is what an optimiser needs: many epochs of 16 bags, few of 1,600.
    """

    updates: Updates = 640
    epochs: Epochs = None
    patience: Patience = 20
    min_epochs: MinEpochs = 40
    select: Select = "auto"
    min_val_bags: MinValBags = 6
    min_improvement: MinImprovement = 0.05
    optimizer: Optimizer = "adamw"
    lr: LearningRate = 2e-4
    betas: Betas = (0.9, 0.999)
    weight_decay: WeightDecay = 1e-5
    decay_vectors: bool = Field(True, description="apply weight decay to biases and norms, too")
    schedule: Schedule = "cosine"
    final_lr: float = Field(0.0, ge=0, description="learning rate at the end of a cosine schedule")
    accumulate: Accumulate = 1
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast")
    max_instances: int | None = Field(
        None, ge=1, description="maximum number of instances sampled from a bag in each epoch; null: all"
    )
    instance_dropout: InstanceDropout = 0.5
    class_weights: bool = Field(True, description="weight each class by the inverse of its share")
    cox_updates: int = Field(
        150,
        ge=1,
        description="number of updates if the target has `loss: cox`, in place of `updates` and `epochs`; each uses all training"
        " patients",
    )
    cox_lr: float = Field(1e-3, gt=0, description="learning rate if the target has `loss: cox`")
    seed: int = Field(0, ge=0, description="random seed of initial weights, order of bags and dropout")

    @model_validator(mode="before")
    @classmethod
    def _epochs_stand_for_updates(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is not None and "updates" not in values:
            return {**values, "updates": None}
        return values

    @model_validator(mode="after")
    def _has_one_length(self) -> "Training":
        if (self.updates is None) == (self.epochs is None):
            raise ValueError(f"give updates or epochs and not both, got {self.updates} and {self.epochs}")
        return self


class LinearTraining(Settings):
    """How a linear model is fitted: with each penalty, of which the validation bags choose one. Nothing in it is random."""

    select: ClassVar[Literal["loss"]] = "loss"
    """What chooses the penalty."""
    penalties: Penalties = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
    class_weights: bool = Field(True, description="weight each class by the inverse of its share")


class MHIMTraining(Training):
    """Masking takes the place of instance dropout."""

    instance_dropout: InstanceDropout = 0.0


class CLAMTraining(Training):
    """As the authors' guide has it: Adam 2e-4 for at most 200 epochs, stopped by the validation bags' loss after epoch 50.

    Weighting bags by class replaces the authors' drawing of bags by class.
    """

    updates: Updates = None
    epochs: Epochs = 200
    min_epochs: MinEpochs = 50
    select: Select = "loss"
    min_val_bags: MinValBags = 1
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    schedule: Schedule = "constant"
    instance_dropout: InstanceDropout = 0.0


class DTFDTraining(Training):
    """As published: Adam 1e-4 with as much weight decay for 200 epochs, the epoch chosen by AUROC, classes not weighted.

    The authors' step to a fifth of the rate at epoch 100 is a cosine to that rate here; they choose among the last 40 epochs.
    """

    updates: Updates = None
    epochs: Epochs = 200
    patience: Patience = 40
    min_epochs: MinEpochs = 160
    select: Select = "auroc"
    min_val_bags: MinValBags = 1
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    lr: LearningRate = 1e-4
    weight_decay: WeightDecay = 1e-4
    final_lr: float = 2e-5
    instance_dropout: InstanceDropout = 0.0
    class_weights: bool = False


class KrausTraining(Training):
    """Ours: a soft pool ranks the bags long before its loss falls, so the epoch is chosen by AUROC, of equal ones by the loss."""

    updates: Updates = None
    epochs: Epochs = 100
    patience: Patience = 30
    min_epochs: MinEpochs = 0
    select: Select = "auroc"
    min_val_bags: MinValBags = 1
    min_improvement: MinImprovement = 0.0
    schedule: Schedule = "constant"
    instance_dropout: InstanceDropout = 0.0
