"""Every setting: one frozen pydantic model per stage, the only home of defaults.

Unknown keys are refused with the nearest known one. `config.yaml` shows the same defaults, and the JSON Schema in
`workflow/schemas/` is generated from here; tests hold the three together.
"""

import difflib
import types
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from wsi_mil.errors import ConfigError

EntryName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$")]


class Settings(BaseModel):
    """Base of all settings: frozen, and no key that nothing reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Settings)


class Tiling(Settings):
    """Which squares are cut from a slide."""

    mpp: float = Field(0.5, gt=0.05, le=10, description="µm per pixel of a tile")
    tile_px: int = Field(224, ge=8, description="side of a tile, pixels at `mpp`")
    overlap: int = Field(0, ge=0, description="pixels at `mpp` that neighbouring tiles share")
    min_tissue: float = Field(0.5, ge=0, le=1, description="least share of a tile that must be tissue")
    reader: Literal["auto", "openslide", "tiffslide"] = Field("auto", description="auto: the first that opens the slide")

    @model_validator(mode="after")
    def _overlap_leaves_a_step(self) -> "Tiling":
        if self.overlap >= self.tile_px:
            raise ValueError(f"overlap must be smaller than tile_px, got {self.overlap} and {self.tile_px}")
        return self


class Tissue(Settings):
    """How tissue is told from glass."""

    method: Literal["saturation_otsu", "none"] = Field("saturation_otsu", description="none: the whole slide is tissue")
    mpp: float = Field(8.0, ge=0.5, le=100, description="µm per pixel of the mask")
    min_area_um2: float = Field(20_000.0, ge=0, description="smaller pieces of tissue are dropped, µm²")
    max_hole_um2: float = Field(20_000.0, ge=0, description="smaller holes in tissue are filled, µm²")


class TileSettings(Settings):
    """What `wsi-mil tile` reads."""

    tiling: Tiling = Tiling()
    tissue: Tissue = Tissue()


class Encoder(Settings):
    """One entry of `encoders`: what turns tiles into features."""

    encoder: str = Field("efficientnet_lite0", description="the packaged default, or any timm model name")
    tiling: EntryName = Field("default", description="name of an entry of `tilings`")
    weights: str = Field("pretrained", description="pretrained, random (for tests), or a file: safetensors or state dict")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where the device is made for it")
    batch_size: int = Field(64, ge=1, description="tiles encoded at once")
    max_corrupt: float = Field(0.05, ge=0, le=1, description="largest share of unreadable tiles before the slide has failed")


class Split(Settings):
    """Who is trained on, who is held out."""

    folds: int = Field(5, ge=2, le=50, description="parts of the patients; each is the test part once")
    validation: float = Field(0.2, gt=0, lt=1, description="share of the other patients kept for early stopping and threshold")
    seed: int = Field(0, ge=0, description="of the draw")


class Training(Settings):
    """How a model is fitted."""

    epochs: int = Field(60, ge=1, description="at most so many passes over the training slides")
    patience: int = Field(20, ge=1, description="epochs without a better validation loss before stopping")
    min_improvement: float = Field(0.05, ge=0, description="nats by which a validation loss must be less to be better")
    lr: float = Field(2e-4, gt=0, description="AdamW's learning rate")
    weight_decay: float = Field(1e-5, ge=0, description="AdamW's weight decay")
    class_weights: bool = Field(True, description="weigh each class by the inverse of its share")
    seed: int = Field(0, ge=0, description="of weights, order and dropout")


class ABMIL(Settings):
    """One entry of `models`: attention-based MIL (Ilse et al. 2018)."""

    model: Literal["abmil"]
    gated: bool = Field(True, description="gated attention")
    embed_dim: int = Field(256, ge=1, description="units of the instance embedding")
    attention_dim: int = Field(128, ge=1, description="units of the attention network")
    dropout: float = Field(0.25, ge=0, lt=1, description="on the embedding")
    train: Training = Training()


Model = ABMIL

Method = Literal["attention", "sparse_inversion"]


class Predict(Settings):
    """How sure the figures are."""

    bootstrap: int = Field(1000, ge=100, description="draws of patients for the 95 % intervals")


class SparseInversion(Settings):
    """Sparse network inversion: how a bag is refined and what is read off it."""

    step: float = Field(1.0, gt=0, description="η, relative to the bag: 1 moves as far as its mean absolute feature")
    penalty: float = Field(0.02, ge=0, description="λ per step, in units of the bag's mean absolute feature")
    steps: int = Field(10, ge=1, description="T")
    score: Literal["evidence", "attention"] = Field("evidence", description="read off the refined bag")


class Explain(Settings):
    """Which scores each instance gets."""

    methods: tuple[Method, ...] = Field(("attention", "sparse_inversion"), min_length=1, description="each gets a heatmap")
    include_train: bool = Field(False, description="with a fixed split: show training slides too, stamped so")
    sparse_inversion: SparseInversion = SparseInversion()


class Heatmap(Settings):
    """How scores are drawn."""

    colormap: str = Field("viridis", description="any matplotlib colour map")
    opacity: float = Field(0.75, gt=0, le=1, description="of the hottest tile; a quarter of it for the coldest")


class Report(Settings):
    """What the report works out."""

    truth_overlap: float = Field(0.5, gt=0, le=1, description="a tile is truly positive from this share of annotated area")


def _class_name(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true or false: put class names in quotes")
    return str(value) if isinstance(value, int) else value


ClassName = Annotated[str, BeforeValidator(_class_name), StringConstraints(min_length=1)]


class Config(Settings):
    """The whole configuration."""

    cohort: Path = Field(description="the sheet: slide_id, path, label, …")
    classes: tuple[ClassName, ...] = Field(min_length=2, description="order = class index; of two the last is positive")
    results: Path = Field(Path("results"), description="folder that everything is written to")
    splits: Path | None = Field(None, description="a splits.csv to keep to, instead of drawing folds")
    trained: Path | None = Field(None, description="results folder of an earlier run whose models are used, nothing trained")
    tilings: dict[EntryName, Tiling] = Field({"default": Tiling()}, min_length=1)
    tissue: Tissue = Tissue()
    encoders: dict[EntryName, Encoder] = Field({"efficientnet": Encoder()}, min_length=1)
    split: Split = Split()
    models: dict[EntryName, Model] = Field(min_length=1)
    predict: Predict = Predict()
    explain: Explain = Explain()
    heatmap: Heatmap = Heatmap()
    report: Report = Report()

    @model_validator(mode="after")
    def _classes_differ(self) -> "Config":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {list(self.classes)}")
        return self


def parse_settings(model: type[T], values: object, *, where: str = "") -> T:
    """Validated settings.

    Raises:
        ConfigError: with every fault, each naming its key and, for an unknown one, the nearest known.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = [dict(e) for e in error.errors()]
        raise ConfigError([where + _fault(model, e) for e in errors if not _follows(e, errors)]) from error


def parse_model(values: object, *, where: str = "") -> Model:
    """Settings of an entry of `models`. Raises ConfigError."""
    return parse_settings(ABMIL, values, where=where)


def nearest(name: str, known: list[str]) -> str:
    """'; did you mean …?' for a misspelt name, or the names there are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}" if known else ""


def _follows(error: dict[str, Any], errors: list[dict[str, Any]]) -> bool:
    """Whether a list is too short only because of faults in its items."""
    depth = len(error["loc"])
    return error["type"] == "too_short" and any(e["loc"][:depth] == error["loc"] and e is not error for e in errors)


def _fault(model: type[Settings], error: dict[str, Any]) -> str:
    loc = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(loc) or "configuration"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(loc[-1], _keys_at(model, loc[:-1]))}"
    if error["type"] == "missing":
        return f"{key}: missing"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if isinstance(error["input"], dict) else f", got {error['input']!r}"
    hint = ""
    if error["type"] == "literal_error":
        expected = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        hint = nearest(str(error["input"]), expected)
    return f"{key}: {message}{got}{hint}"


def _keys_at(model: type[Settings], loc: list[str]) -> list[str]:
    """Names of the settings that may stand at `loc`."""
    current: Any = model
    for part in loc:
        current = _inside(current, part)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, Settings) else []


def _inside(kind: Any, part: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Settings):
        found = kind.model_fields.get(part)
        return _without_none(found.annotation) if found else None
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(k for k in get_args(kind) if k is not type(None))
    return kind
