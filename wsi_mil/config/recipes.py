"""The constants of each paper that `recipe: published` restores exactly; another value beside it is a fault."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from wsi_mil.config.settings import Settings

Recipe = Literal["default", "published"]

TRANSMIL: dict[str, Any] = {
    "attention": "nystrom",
    "position_start": "random",
    "train": {
        "updates": None,
        "epochs": 200,
        "patience": 10,
        "min_epochs": 0,
        "select": "loss",
        "min_val_bags": 1,
        "min_improvement": 0.0,
        "optimizer": "radam_lookahead",
        "lr": 2e-4,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-5,
        "decay_vectors": False,
        "schedule": "constant",
        "final_lr": 0.0,
        "accumulate": 2,
        "instance_dropout": 0.0,
        "class_weights": False,
    },
}
"""RAdam with Lookahead, two bags an update, no weight decay on vectors."""

DSMIL: dict[str, Any] = {
    "embed_dim": None,
    "value_layer": False,
    "average": False,
    "dropout": 0.0,
    "train": {
        "updates": None,
        "epochs": 50,
        "patience": 10,
        "min_epochs": 0,
        "select": "loss",
        "min_val_bags": 1,
        "min_improvement": 0.0,
        "optimizer": "adam",
        "lr": 1e-4,
        "betas": (0.5, 0.9),
        "weight_decay": 1e-3,
        "decay_vectors": True,
        "schedule": "cosine",
        "final_lr": 5e-6,
        "accumulate": 1,
        "instance_dropout": 0.0,
        "class_weights": False,
    },
}
"""Adam with little momentum. The authors choose the epoch by (sum of AUROCs + accuracy) / 2; here the validation loss does."""

MHIM: dict[str, Any] = {
    "train": {
        "updates": None,
        "epochs": 200,
        "patience": 30,
        "min_epochs": 130,
        "select": "auroc",
        "min_val_bags": 1,
        "min_improvement": 0.0,
        "optimizer": "adam",
        "lr": 2e-4,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-5,
        "decay_vectors": True,
        "schedule": "cosine",
        "final_lr": 0.0,
        "accumulate": 1,
        "instance_dropout": 0.0,
        "class_weights": False,
    },
}
"""The constants for CAMELYON16. Ties of AUROC do not reset the patience, unlike in the authors' code. Masks are other keys."""


class WithRecipe(Settings):
    """An entry of `models` whose paper's constants differ from the defaults."""

    published: ClassVar[Mapping[str, Any]]
    """Key → constant; `train` holds those of the training."""

    @model_validator(mode="before")
    @classmethod
    def _published_constants_hold(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("recipe") != "published":
            return values
        train = values.get("train", {})
        train = train.model_dump() if isinstance(train, Settings) else train
        if not isinstance(train, dict):
            return values
        others = _others(values, cls.published) + [f"train.{name}" for name in _others(train, cls.published["train"])]
        if others:
            raise ValueError(f"recipe 'published' fixes {', '.join(others)}; leave out the recipe, or these keys")
        return {**values, **cls.published, "train": {**train, **cls.published["train"]}}


def _others(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[str]:
    """Keys whose value is not the fixed one."""
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return [f"{key} ({fixed[key]})" for key in given if key in fixed and key != "train" and plain[key] != fixed[key]]
