"""Every setting: one frozen pydantic model per stage, the only home of defaults.

Unknown keys are refused with the nearest known one. `config.yaml` shows the same defaults, and the JSON Schema in
`workflow/schemas/` is generated from here; tests hold the three together.
"""

import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from wsi_mil.errors import ConfigError

Beta = Annotated[float, Field(ge=0, lt=1)]
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
    repeats: int = Field(1, ge=1, le=50, description="draws of the folds, each with its own seed")
    validation: float = Field(0.2, gt=0, lt=1, description="share of the other patients kept for early stopping and threshold")
    seed: int = Field(0, ge=0, description="of the draw")


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
    """As published: RAdam with Lookahead, two bags an update, no weight decay on vectors."""

    epochs: Epochs = 200
    patience: Patience = 10
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "radam_lookahead"
    decay_vectors: bool = False
    accumulate: Accumulate = 2


class DSMILTraining(Training):
    """As published: Adam with little momentum, cosine to 5e-6."""

    epochs: Epochs = 50
    patience: Patience = 10
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    lr: LearningRate = 1e-4
    betas: Betas = (0.5, 0.9)
    weight_decay: WeightDecay = 1e-3
    schedule: Schedule = "cosine"
    final_lr: float = 5e-6


class MHIMTraining(Training):
    """As published for CAMELYON16: Adam, cosine to zero over 200 epochs, early stopping on AUROC."""

    epochs: Epochs = 200
    patience: Patience = 30
    min_epochs: MinEpochs = 130
    select: Select = "auroc"
    min_improvement: MinImprovement = 0.0
    optimizer: Optimizer = "adam"
    schedule: Schedule = "cosine"


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

BagUnit = Literal["slide", "patient"]
Protocol = Literal["held_out", "as_published"]

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

    methods: tuple[Method, ...] = Field(("attention", "sparse_inversion"), description="each gets a heatmap; [] for none")
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
    bag: BagUnit = Field("slide", description="patient: all slides of a patient are one bag")
    protocol: Protocol = Field(
        "held_out", description="as_published: epoch and threshold are chosen on the test fold itself, and all outputs say so"
    )
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
    parsed: T = _parse(model, values, where)
    return parsed


def parse_model(values: object, *, where: str = "") -> Model:
    """Settings of an entry of `models`. Raises ConfigError."""
    parsed: Model = _parse(Model, values, where)
    return parsed


def parse_base(values: object, *, where: str = "") -> BaseModelSettings:
    """Settings of a model that stands on no other one. Raises ConfigError."""
    parsed = parse_model(values, where=where)
    if isinstance(parsed, MHIM):
        raise ConfigError([f"{where}model: expected a model that needs no other one, got 'mhim'"])
    return parsed


def parse_bag(value: str) -> BagUnit:
    """What one bag holds. Raises ConfigError."""
    unit: BagUnit = _parse(BagUnit, value, "bag: ")
    return unit


def parse_protocol(value: str) -> Protocol:
    """What chooses epoch and threshold. Raises ConfigError."""
    protocol: Protocol = _parse(Protocol, value, "protocol: ")
    return protocol


def _parse(kind: Any, values: object, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        errors = [dict(e) for e in error.errors()]
        raise ConfigError([where + _fault(kind, e) for e in errors if not _follows(e, errors)]) from error


def offered(method: Method, offers: tuple[Offer, ...]) -> bool:
    """Whether a method can be read off a model that says `offers` about its instances."""
    return "attention" in offers if method == "attention" else "attention" in offers or "evidence" in offers


def offers_of(models: Mapping[str, Model], entry: str) -> tuple[Offer, ...]:
    """What an entry of `models` says about its instances; MHIM what its base says."""
    settings = models[entry]
    return offers_of(models, settings.base) if isinstance(settings, MHIM) else settings.offers


def methods_of(config: Config, entry: str) -> tuple[Method, ...]:
    """Those of `explain.methods` that a model entry offers."""
    offers = offers_of(config.models, entry)
    return tuple(method for method in config.explain.methods if offered(method, offers))


def nearest(name: str, known: list[str]) -> str:
    """'; did you mean …?' for a misspelt name, or the names there are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}" if known else ""


def _follows(error: dict[str, Any], errors: list[dict[str, Any]]) -> bool:
    """Whether a list is too short only because of faults in its items."""
    depth = len(error["loc"])
    return error["type"] == "too_short" and any(e["loc"][:depth] == error["loc"] and e is not error for e in errors)


def _fault(kind: Any, error: dict[str, Any]) -> str:
    loc, inner = _walk(kind, [str(part) for part in error["loc"] if part != "[key]"])
    key = ".".join(loc) or "configuration"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(loc[-1], list(getattr(inner, 'model_fields', {})))}"
    if error["type"] in ("missing", "union_tag_not_found"):
        return f"{key}: missing" if error["type"] == "missing" else f"{'.'.join([*loc, 'model'])}: missing"
    if error["type"] == "union_tag_invalid":
        known = error["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{'.'.join([*loc, 'model'])}: no model {error['ctx']['tag']!r}{nearest(error['ctx']['tag'], known)}"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if isinstance(error["input"], dict) else f", got {error['input']!r}"
    hint = ""
    if error["type"] == "literal_error":
        expected = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        hint = nearest(str(error["input"]), expected)
    return f"{key}: {message}{got}{hint}"


def _walk(kind: Any, loc: list[str]) -> tuple[list[str], Any]:
    """The key that a location means (without the names that pydantic adds for members of a union), and what it stands in."""
    key, inside = [], kind
    for part in loc:
        members = _members(kind)
        if len(members) > 1:
            kind = next((m for m in members if part in get_args(m.model_fields["model"].annotation)), None)
            continue
        key.append(part)
        inside, kind = kind, _inside(kind, part)
    return key, inside


def _members(kind: Any) -> tuple[Any, ...]:
    """The settings that may stand where `model` tells them apart."""
    return tuple(
        m for m in get_args(_bare(kind)) if isinstance(m, type) and issubclass(m, Settings) and "model" in m.model_fields
    )


def _inside(kind: Any, part: str) -> Any:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, Settings):
        found = kind.model_fields.get(part)
        return _without_none(found.annotation) if found else None
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _bare(kind: Any) -> Any:
    """The type without what is annotated to it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        return next(k for k in get_args(kind) if k is not type(None))
    return kind
