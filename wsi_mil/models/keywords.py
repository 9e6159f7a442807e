"""Settings of a model from plain keywords: `ABMIL(feature_dim=1024, n_classes=2, gated=False)`.

Defaults and checks are those of the model's entry in `models` (wsi_mil.config). The typed dictionaries below repeat names and
types only, which editors and mypy cannot read off the settings; a test compares them with the settings.
"""

from collections.abc import Mapping
from typing import Literal, TypedDict, TypeVar, get_args

from wsi_mil.config import Schedule, Settings, nearest, parse_settings
from wsi_mil.errors import ConfigError

S = TypeVar("S", bound=Settings)

MINIMUM = {"feature_dim": 1, "n_classes": 2}

BASE = "base"
"""MHIM's base is a model here and not the name of an entry: its key gets this value."""


def model_settings(kind: type[S], settings: S | None, keywords: Mapping[str, object], **sizes: int | None) -> S:
    """Return the settings of a model: those given, or keywords completed by the defaults of its entry in `models`.

    Args:
        kind: class of the settings; messages name it.
        settings: settings that were parsed already, or None.
        keywords: keys of the entry, except `model` and `base`.
        sizes: `feature_dim` and `n_classes`, None where `outputs` is given.

    Raises:
        ConfigError: with every fault: an unknown key, a value out of range, settings of another model, settings and keywords.
    """
    given = {key: size for key, size in sizes.items() if size is not None}
    faults = [f"{key}: expected {MINIMUM[key]} or more, got {size}" for key, size in given.items() if size < MINIMUM[key]]
    if settings is None:
        settings, more = _parsed(kind, keywords, ["instance_encoder"] if sizes else [])
        faults += more
    elif not isinstance(settings, kind):
        faults.append(f"settings: expected {kind.__name__} of wsi_mil.config, or keywords, got {type(settings).__name__}")
    elif keywords:
        faults.append(f"expected settings or keywords, got settings and {', '.join(keywords)}")
    if faults or settings is None:
        raise ConfigError([f"{kind.__name__}: {fault}" for fault in faults])
    return settings


def _parsed(kind: type[S], keywords: Mapping[str, object], others: list[str]) -> tuple[S | None, list[str]]:
    """Settings, or the faults of keywords; `others` are keywords of the constructor itself."""
    fixed = {"model": get_args(kind.model_fields["model"].annotation)[0], **({BASE: BASE} if BASE in kind.model_fields else {})}
    known = [key for key in kind.model_fields if key not in fixed]
    faults = [f"{key}: unknown keyword{nearest(key, [*known, *others])}" for key in keywords if key not in known]
    try:
        return parse_settings(kind, fixed | {key: value for key, value in keywords.items() if key in known}), faults
    except ConfigError as error:
        return None, faults + [fault.removeprefix("configuration: ") for fault in error.faults]  # of several keys together


class _Keywords(TypedDict, total=False):
    dropout: float
    train: Mapping[str, object]


class _EmbeddingKeywords(_Keywords, total=False):
    embed_dim: int | None


class PoolKeywords(_EmbeddingKeywords, total=False):
    """Keys of `instance_pool`."""

    pool: Literal["max", "mean"]


class EmbeddingPoolKeywords(PoolKeywords, total=False):
    """Keys of `embedding_pool`."""

    covariates: bool


class MeanLinearKeywords(TypedDict, total=False):
    """Keys of `mean_linear`."""

    statistics: Literal["mean", "mean_std"]
    train: Mapping[str, object]


class ABMILKeywords(_EmbeddingKeywords, total=False):
    """Keys of `abmil`."""

    gated: bool
    attention_dim: int
    activation: Literal["tanh", "relu"]
    attention_bias: bool
    covariates: bool


class TransMILKeywords(_Keywords, total=False):
    """Keys of `transmil`."""

    recipe: Literal["default", "published"]
    embed_dim: int
    heads: int
    attention: Literal["auto", "exact", "nystrom"]
    exact_up_to: int
    landmarks: int
    position_start: Literal["zero", "random"]
    attention_dropout: float
    covariates: bool


class DSMILKeywords(_EmbeddingKeywords, total=False):
    """Keys of `dsmil`."""

    recipe: Literal["default", "published"]
    query_dim: int
    nonlinear: bool
    value_layer: bool
    average: bool
    covariates: bool


class CLAMKeywords(_EmbeddingKeywords, total=False):
    """Keys of `clam`."""

    branches: Literal["single", "multi"]
    attention_dim: int
    attention_dropout: float
    k: int
    subtyping: bool
    instance_loss: Literal["svm", "cross_entropy"]
    instance_weight: float
    covariates: bool


class DTFDKeywords(_EmbeddingKeywords, total=False):
    """Keys of `dtfd`."""

    distil: Literal["afs", "maxs", "maxmins"]
    pseudo_bags: int
    total: int
    joint: bool
    draws: int
    seed: int
    attention_dim: int
    covariates: bool


class ClinicalKeywords(TypedDict, total=False):
    """Keys of `clinical`."""

    train: Mapping[str, object]


class KrausPoolKeywords(_EmbeddingKeywords, total=False):
    """Keys of `kraus_pool`."""

    pool: Literal["noisy_and", "noisy_or", "isr", "generalised_mean", "log_sum_exp"]
    slope: float
    exponent: float
    joint: bool


class MHIMKeywords(TypedDict, total=False):
    """Keys of `mhim`, except `base`."""

    recipe: Literal["default", "published"]
    random_ratio: float
    low_ratio: float
    high_ratio: float
    high_share: float
    high_schedule: Schedule
    consistency: float
    teacher_temperature: float
    student_temperature: float
    momentum: float
    momentum_schedule: Schedule
    teacher_dropout: bool
    student_start: Literal["embedding", "random", "base"]
    train: Mapping[str, object]
