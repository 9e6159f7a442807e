"""The blocks `split` and `recalibrate`: who is trained on, who is held out, and who probabilities are fitted to again."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from wsi_mil.config.settings import Settings
from wsi_mil.config.targets import Cell, Column


def _folds(value: Any) -> Any:
    if value != "all" and (isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MOST_FOLDS):
        raise ValueError(f"expected a number of folds from 2 to {MOST_FOLDS}, or all")
    return value


MOST_FOLDS = 50
Folds = Annotated[Annotated[int, Field(ge=2, le=MOST_FOLDS)] | Literal["all"], BeforeValidator(_folds)]


NO_GROUPS = ("slide_id", "path", "patient_id", "split", "fold", "annotation", "mask")
"""Columns that say which slide it is, or where it is used: neither groups of patients nor covariates."""


class Split(Settings):
    """Cross-validation splits."""

    folds: Folds = Field(
        5, description="number of patient-level folds; each is the test fold once; all: each group is held out once"
    )
    repeats: int = Field(1, ge=1, le=50, description="repetitions of the cross-validation, each with another seed")
    validation: float = Field(
        0.2, gt=0, lt=1, description="share of the remaining patients used for early stopping and the threshold"
    )
    seed: int = Field(0, ge=0, description="random seed of the folds")
    group: Column | None = Field(None, description="column of the sheet with groups of patients, such as sites; null: none")
    whole_groups: bool = Field(
        True, description="hold out whole groups; false: folds by patient, and the report still compares the groups"
    )
    external: tuple[Cell, ...] = Field(
        (), description="groups that are neither trained nor validated on, and predicted by the models of all folds"
    )

    @model_validator(mode="after")
    def _groups_have_a_column(self) -> "Split":
        faults = []
        if self.group is None and self.folds == "all":
            faults.append("folds: all holds out one group after the other: name the column of the groups, as in group: site")
        if self.group is None and self.external:
            faults.append(f"external names {', '.join(self.external)}: name the column of the groups, as in group: site")
        if self.group in NO_GROUPS:
            is_group = "name a column of groups of several patients, such as site, or leave group out"
            faults.append(f"group: {self.group} says which slide or patient it is, or where it is used: {is_group}")
        if self.group is not None and self.folds == "all" and not self.whole_groups:
            faults.append("folds: all holds out whole groups: set whole_groups: true, or the number of folds")
        if self.folds == "all" and self.repeats > 1:
            faults.append(f"folds: all is the same whatever the seed: remove repeats: {self.repeats}")
        if len(set(self.external)) < len(self.external):
            faults.append(f"external must name different groups, got {', '.join(self.external)}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def holds_out_groups(self) -> bool:
        """Whether all slides of a group are in the same part of a fold."""
        return self.group is not None and self.whole_groups


Recalibration = Literal["platt", "isotonic"]


class Recalibrate(Settings):
    """Probabilities of the models of an earlier run, fitted again to patients of this cohort."""

    method: Recalibration = Field(description="platt: two numbers per class; isotonic: an increasing step function")
    column: Column = Field(description="column of the sheet that says which slides they are fitted to")
    value: Cell = Field(description="its value for these slides; all others are reported")
