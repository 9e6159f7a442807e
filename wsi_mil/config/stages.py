"""The blocks of `config.yaml`, one for each stage, and the whole of it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from wsi_mil.config.cluster import Dask
from wsi_mil.config.explanations import Method, ReadOff, supports
from wsi_mil.config.models import Model, provided_by
from wsi_mil.config.readers import Reader
from wsi_mil.config.remote import Remote
from wsi_mil.config.settings import EntryName, Settings
from wsi_mil.geometry import SANE_MPP

Origin = Literal["bounds", "slide"]


def _policy_or_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected fail, skip, or µm per pixel")
    if isinstance(value, str) and value not in ("fail", "skip"):
        try:
            return float(value)
        except ValueError:
            raise ValueError("expected fail, skip, or µm per pixel") from None
    return value


MissingMpp = Annotated[
    Literal["fail", "skip"] | Annotated[float, Field(ge=SANE_MPP[0], le=SANE_MPP[1])], BeforeValidator(_policy_or_number)
]


class SlideFile(Settings):
    """How slide files are opened."""

    reader: Reader = Field("auto", description="auto: the fastest that gives OpenSlide's pixels")
    mpp_from_objective: bool = Field(
        False, description="where a file does not say its mpp: take 10 µm over the magnification of its objective"
    )
    on_missing_mpp: MissingMpp = Field(
        "fail", description="fail: the slide has failed; skip: it is left out; or µm per pixel of level 0"
    )


class Tiling(Settings):
    """Which squares are cut from a slide."""

    mpp: float = Field(0.5, gt=0.05, le=10, description="µm per pixel of a tile")
    tile_px: int = Field(224, ge=8, description="side of a tile, pixels at `mpp`")
    overlap: int = Field(0, ge=0, description="pixels at `mpp` that neighbouring tiles share")
    min_tissue: float = Field(0.5, ge=0, le=1, description="least share of a tile that must be tissue")
    edge: Literal["drop", "pad"] = Field("drop", description="tiles that reach beyond the slide; pad: with white")
    max_tiles: int | None = Field(None, ge=1, description="at most so many tiles a slide, drawn; null: all")
    seed: int = Field(0, ge=0, description="of that draw")
    min_annotation: float | None = Field(
        None, gt=0, le=1, description="least share of a tile inside the slide's annotation; null: it plays no part"
    )

    @model_validator(mode="after")
    def _overlap_leaves_a_step(self) -> "Tiling":
        if self.overlap >= self.tile_px:
            raise ValueError(f"overlap must be smaller than tile_px, got {self.overlap} and {self.tile_px}")
        return self


def _names(value: Any) -> Any:
    """A cell of the sheet is text: names with | between them."""
    return tuple(name.strip() for name in value.split("|")) if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """Numbers with | between them, or one alone."""
    if isinstance(value, int):
        return (value,)
    return tuple(int(text) for text in value.split("|")) if isinstance(value, str) else value


TissueMethod = Literal["saturation_otsu", "glass_distance", "annotation", "none"]


class Tissue(Settings):
    """How tissue is told from glass."""

    method: TissueMethod = Field("saturation_otsu", description="annotation: inside of polygons; none: the whole slide is tissue")
    mpp: float = Field(8.0, ge=0.5, le=100, description="µm per pixel of the mask")
    min_area_um2: float | None = Field(
        None, ge=0, description="smaller pieces of tissue are dropped, µm²; null: 20,000, but at most 5 % of the slide"
    )
    max_hole_um2: float = Field(20_000.0, ge=0, description="smaller holes in tissue are filled, µm²")
    remove_pen: bool = Field(True, description="strokes of blue, green, red and black pens are not tissue")
    annotation_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None, description="of the polygons that hold tissue or tiles; null: every polygon; in the sheet a|b"
    )
    exclude_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None,
        description="annotation classes cut out of the tissue, whatever the method: folds, ink; null: none; in the sheet a|b",
    )
    mask_mode: Literal["replace", "intersect"] = Field(
        "replace", description="a file in the sheet's `mask` column stands in place of our own mask, or is cut with it"
    )
    mask_values: Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)] = Field(
        None, description="of tissue, where that file is a label image; null: all but 0; in the sheet 1|2"
    )
    mask_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None, description="of tissue, where that file holds polygons; null: every polygon; in the sheet a|b"
    )

    @model_validator(mode="after")
    def _tissue_or_cut_out(self) -> "Tissue":
        for key in ("annotation_classes", "mask_classes"):
            both = set(getattr(self, key) or ()) & set(self.exclude_classes or ())
            if both:
                raise ValueError(f"{', '.join(sorted(both))} cannot stand in both {key} and exclude_classes")
        return self


class TileSettings(Settings):
    """What `wsi-mil tile` reads."""

    slide: SlideFile = SlideFile()
    tiling: Tiling = Tiling()
    tissue: Tissue = Tissue()
    origin: Origin = Field("bounds", description="where a GeoJSON annotation counts from on slides with bounds (MRXS)")


class Encoder(Settings):
    """One entry of `encoders`: what turns tiles into features, or features that `wsi-mil import-features` brought."""

    features: Literal["extracted", "imported"] = Field(
        "extracted", description="imported: `wsi-mil import-features` brings them; the entry has no other key"
    )
    encoder: str = Field(
        "efficientnet_lite0", description="a name that `wsi-mil encoders` lists, any timm model name, or hf-hub:REPOSITORY"
    )
    tiling: EntryName = Field("default", description="name of an entry of `tilings`")
    weights: str = Field("pretrained", description="pretrained, random (for tests), or a file: safetensors or state dict")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where the device is made for it")
    batch_size: int = Field(64, ge=1, description="tiles encoded at once; halved where the device is short of memory")
    max_corrupt: float = Field(0.05, ge=0, le=1, description="largest share of unreadable tiles before the slide has failed")

    @property
    def is_imported(self) -> bool:
        """Whether nothing is tiled or extracted for it."""
        return self.features == "imported"

    @model_validator(mode="after")
    def _imported_says_no_more(self) -> "Encoder":
        own = {"features", "tiling"}  # its tiles lie under the entry's own name, which `Config` fills in
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if self.is_imported and set(changed) - own:
            raise ValueError(f"features: imported leaves nothing to say about {', '.join(n for n in changed if n not in own)}")
        return self


class Split(Settings):
    """Who is trained on, who is held out."""

    folds: int = Field(5, ge=2, le=50, description="parts of the patients; each is the test part once")
    repeats: int = Field(1, ge=1, le=50, description="draws of the folds, each with its own seed")
    validation: float = Field(0.2, gt=0, lt=1, description="share of the other patients kept for early stopping and threshold")
    seed: int = Field(0, ge=0, description="of the draw")


BagUnit = Literal["slide", "patient"]
Protocol = Literal["held_out", "as_published"]

Scale = Literal["auto", "raw", "minmax", "percentile", "cohort"]


class Predict(Settings):
    """How sure the figures are."""

    bootstrap: int = Field(1000, ge=100, description="draws of patients for the 95 % intervals")


class SparseInversion(Settings):
    """Sparse network inversion: how a bag is refined, and how the refined bag is scored."""

    step: float = Field(1.0, ge=0, description="η, relative to the bag: 1 moves as far as its mean absolute feature")
    penalty: float = Field(0.02, ge=0, description="λ per step, in units of the bag's mean absolute feature")
    steps: int = Field(10, ge=1, description="T, at most")
    tolerance: float = Field(1e-4, ge=0, description="stop when a step changes the bag by less than this share of it")
    score: ReadOff = Field("evidence", description="method that scores the refined bag")
    chunk: int = Field(512, ge=1, description="instances whose gradients are held at once; the result is the same")


class Explain(Settings):
    """Methods that score the instances, and their settings."""

    methods: tuple[Method, ...] = Field(
        ("attention", "sparse_inversion", "standardised_sum"), description="each gets a heatmap; [] for none"
    )
    include_train: bool = Field(False, description="with a fixed split: show training slides too, stamped so")
    curve_points: int = Field(10, ge=0, le=100, description="points of the deletion and insertion curves; 0: none")
    sparse_inversion: SparseInversion = SparseInversion()

    @model_validator(mode="after")
    def _methods_differ(self) -> "Explain":
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must differ, got {', '.join(self.methods)}")
        return self


class Heatmap(Settings):
    """How scores are drawn."""

    colormap: str = Field("viridis", description="any matplotlib colour map")
    opacity: float = Field(0.75, gt=0, le=1, description="of the hottest tile; a quarter of it for the coldest")
    scale: Scale = Field("auto", description="auto: from what says nothing, times the slide's probability")
    hot: float = Field(0.5, gt=0, lt=1, description="place on the colour bar from which tiles are outlined as hot")
    gallery: int = Field(8, ge=0, le=64, description="tiles shown from either end of the scores; 0: none")
    origin: Origin = Field("bounds", description="where exports for QuPath count from on slides with bounds (MRXS)")


class Statistics(Settings):
    """What is told of the features of the whole cohort."""

    components: int = Field(10, ge=2, description="principal components that are kept; batch effects are measured in them")
    tiles_per_slide: int = Field(50, ge=0, description="tiles drawn from each slide, at most; 20,000 in all")
    seed: int = Field(0, ge=0, description="of that draw")


class Truth(Settings):
    """How annotations are read."""

    include: tuple[str, ...] | None = Field(None, description="annotation classes of the positive class; null: all others")
    exclude: tuple[str, ...] = Field(("_2",), description="annotation classes that are cut out; CAMELYON16 has _2")
    overlap: float = Field(0.5, gt=0, le=1, description="a tile is truly positive from this share of annotated area")
    origin: Origin = Field("bounds", description="where GeoJSON counts from on slides with bounds (MRXS)")

    @model_validator(mode="after")
    def _counts_or_is_cut_out(self) -> "Truth":
        both = set(self.include or ()) & set(self.exclude)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot stand in both include and exclude")
        return self


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
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="what computes: auto, cpu, cuda, cuda:N or mps; WSI_MIL_DEVICE goes before it",
    )
    read_timeout_s: float = Field(
        300.0, gt=0, description="a slide of which nothing comes for so long has failed; WSI_MIL_READ_TIMEOUT_S goes before it"
    )
    slides_per_job: int = Field(1, ge=1, le=100, description="slides that one job of `extract` encodes, one after another")
    slide: SlideFile = SlideFile()
    remote: Remote = Remote()
    dask: Dask = Dask()
    tilings: dict[EntryName, Tiling] = Field({"default": Tiling()}, min_length=1)
    tissue: Tissue = Tissue()
    encoders: dict[EntryName, Encoder] = Field({"efficientnet": Encoder()}, min_length=1)
    split: Split = Split()
    models: dict[EntryName, Model] = Field(min_length=1)
    predict: Predict = Predict()
    explain: Explain = Explain()
    heatmap: Heatmap = Heatmap()
    truth: Truth = Field(Truth(), validate_default=True)
    statistics: Statistics = Statistics()

    @field_validator("encoders")
    @classmethod
    def _imported_tiles_have_the_entrys_name(cls, encoders: dict[str, Encoder]) -> dict[str, Encoder]:
        named = {name: {"tiling": name} if entry.is_imported else {} for name, entry in encoders.items()}
        wrong = [n for n, e in encoders.items() if e.is_imported and e.tiling not in (n, Encoder.model_fields["tiling"].default)]
        if wrong:
            raise ValueError(f"features: imported leaves nothing to say about tiling (entry {', '.join(wrong)})")
        return {name: entry.model_copy(update=named[name]) for name, entry in encoders.items()}

    @field_validator("truth")
    @classmethod
    def _what_is_no_tissue_is_no_truth(cls, truth: Truth, info: ValidationInfo) -> Truth:
        tissue = info.data.get("tissue")
        cut_out = (tissue and tissue.exclude_classes) or ()
        both = set(truth.include or ()) & set(cut_out)
        if both:
            raise ValueError(f"include names {', '.join(sorted(both))}, which tissue.exclude_classes cuts out of the tissue")
        return truth.model_copy(update={"exclude": (*truth.exclude, *(name for name in cut_out if name not in truth.exclude))})

    @property
    def extracted(self) -> dict[str, Encoder]:
        """The encoder entries whose features are made here."""
        return {name: entry for name, entry in self.encoders.items() if not entry.is_imported}

    @property
    def imported(self) -> tuple[str, ...]:
        """The encoder entries whose features were made elsewhere."""
        return tuple(name for name, entry in self.encoders.items() if entry.is_imported)

    @model_validator(mode="after")
    def _classes_differ(self) -> "Config":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {list(self.classes)}")
        return self


def methods_of(config: Config, entry: str) -> tuple[Method, ...]:
    """Return those of `explain.methods` that the model of an entry supports."""
    provides = provided_by(config.models, entry)
    return tuple(method for method in config.explain.methods if supports(provides, method))
