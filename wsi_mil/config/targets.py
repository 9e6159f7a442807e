"""The block `targets`: what models learn of a slide, one entry for each question."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from wsi_mil.config.settings import EntryName, Settings


def cell_text(value: Any) -> Any:
    """Return a number as the text that a cell has for it, and other values as they are."""
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true or false: put values like these in quotes")
    return f"{value:g}" if isinstance(value, int | float) else value


Cell = Annotated[str, BeforeValidator(cell_text), StringConstraints(min_length=1)]
"""Value of a cell of the cohort sheet."""
Column = Annotated[str, StringConstraints(min_length=1)]
"""Name of a column of the cohort sheet."""


ModelEntries = Annotated[
    tuple[EntryName, ...] | None,
    Field(min_length=1, description="entries of `models` that learn it, with their bases; null: all"),
]


class Covariates(Settings):
    """What is known of a patient besides the slides: columns that models with `covariates: true` and `clinical` read."""

    numbers: tuple[Column, ...] = Field((), description="columns of numbers: standardised by the training part")
    categories: tuple[Column, ...] = Field((), description="columns of categories: a 0 or 1 for each value of the training part")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, numbers first."""
        return (*self.numbers, *self.categories)

    @model_validator(mode="after")
    def _columns_differ(self) -> "Covariates":
        if not self.columns:
            raise ValueError("covariates name no column: list columns of the sheet under numbers or categories, or leave it out")
        twice = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if twice:
            raise ValueError(f"covariates list {', '.join(twice)} twice: a column is either a number or a category, once")
        return self


CovariatesOf = Annotated[
    Covariates | None,
    Field(description="columns that models may use besides the slides: `{numbers: [age], categories: [sex]}`; null: none"),
]


Kind = Literal["classes", "multilabel", "regression", "survival"]
Transform = Literal["none", "log1p", "logit"]
RegressionLoss = Literal["squared", "absolute", "huber"]
SurvivalLoss = Literal["discrete", "cox"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of targets."""


class BaseTarget(Settings):
    """What all kinds of targets have in common. Which settings matter to a stage decides what is run again when one changes."""

    not_read: ClassVar[tuple[str, ...]] = ()
    """Settings that change neither labels nor folds, only what models learn of them, or figures."""
    not_learned: ClassVar[tuple[str, ...]] = ()
    """Settings that change neither labels nor models, only figures."""
    not_asked: ClassVar[tuple[str, ...]] = ("models", "covariates")
    """Settings that are no part of the question: which models learn it, and what some of them know besides the slides."""

    @property
    def reading(self) -> dict[str, Any]:
        """Settings that determine labels and folds, for JSON."""
        return self.model_dump(mode="json", exclude={*self.not_read, *self.not_asked})

    @property
    def learning(self) -> dict[str, Any]:
        """Settings that determine labels, folds and models, for JSON."""
        return self.model_dump(mode="json", exclude={*self.not_learned, *self.not_asked})

    @property
    def predicting(self) -> dict[str, Any]:
        """Settings that determine labels, folds, models and figures, for JSON."""
        return self.model_dump(mode="json", exclude={*self.not_asked})


class ClassesTarget(BaseTarget):
    """Mutually exclusive classes, one per slide."""

    kind: Literal["classes"]
    column: Column = Field("label", description="column of the sheet")
    classes: tuple[Cell, ...] = Field(min_length=2, description="class names in order; of two classes the last is positive")
    models: ModelEntries = None
    covariates: CovariatesOf = None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the sheet that the target is read from."""
        return (self.column,)

    @model_validator(mode="after")
    def _classes_differ(self) -> "ClassesTarget":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {list(self.classes)}")
        return self


class MultilabelTarget(BaseTarget):
    """Several labels, each positive or negative by itself; each may be unknown."""

    kind: Literal["multilabel"]
    columns: tuple[Column, ...] = Field(min_length=1, description="columns of the sheet, one per label")
    positive: tuple[Cell, ...] = Field(("1", "pos", "positive", "yes"), description="values that mean positive")
    negative: tuple[Cell, ...] = Field(("0", "neg", "negative", "no"), description="values that mean negative")
    models: ModelEntries = None
    covariates: CovariatesOf = None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the sheet that the target is read from."""
        return self.columns

    @model_validator(mode="after")
    def _values_differ(self) -> "MultilabelTarget":
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns must differ, got {list(self.columns)}")
        both = set(self.positive) & set(self.negative)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be both positive and negative")
        return self


class RegressionTarget(BaseTarget):
    """A number per slide."""

    not_read: ClassVar[tuple[str, ...]] = ("loss",)
    kind: Literal["regression"]
    column: Column = Field(description="column of the sheet")
    transform: Transform = Field(
        "none", description="before standardisation; log1p: values of 0 or more; logit: shares between 0 and 1"
    )
    loss: RegressionLoss = Field("squared", description="of the standardised values")
    models: ModelEntries = None
    covariates: CovariatesOf = None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the sheet that the target is read from."""
        return (self.column,)


class SurvivalTarget(BaseTarget):
    """Time to an event, or to the end of follow-up; the same for all slides of a patient."""

    not_read: ClassVar[tuple[str, ...]] = ("loss", "intervals", "uncensored_weight", "horizons")
    not_learned: ClassVar[tuple[str, ...]] = ("horizons",)
    kind: Literal["survival"]
    time: Column = Field(description="column with the time to the event or to the end of follow-up, above zero")
    event: Column = Field(description="column that says whether the event was observed")
    event_is: tuple[Cell, ...] = Field(("1",), description="values that mean that the event was observed")
    censored_is: tuple[Cell, ...] = Field(("0", "0:LIVING"), description="values that mean that follow-up ended without it")
    loss: SurvivalLoss = Field(
        "discrete", description="discrete: hazards over intervals; cox: partial likelihood over all training patients"
    )
    intervals: int = Field(4, ge=2, le=50, description="discrete: number of intervals, between quantiles of the event times")
    uncensored_weight: float = Field(
        0.0, ge=0, lt=1, description="discrete: share of the loss that is computed from patients with an event only"
    )
    horizons: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="times of the time-dependent AUC, in the unit of `time`; []: quartiles of the event times"
    )
    models: ModelEntries = None
    covariates: CovariatesOf = None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the sheet that the target is read from."""
        return (self.time, self.event)

    @model_validator(mode="after")
    def _values_differ(self) -> "SurvivalTarget":
        if self.time == self.event:
            raise ValueError(f"time and event must be different columns, got {self.time!r} for both")
        both = set(self.event_is) & set(self.censored_is)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be in both event_is and censored_is")
        return self


Target = Annotated[ClassesTarget | MultilabelTarget | RegressionTarget | SurvivalTarget, Field(discriminator="kind")]
"""One entry of `targets`."""
