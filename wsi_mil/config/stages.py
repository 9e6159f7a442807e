"""The blocks of `config.yaml`, one for each stage, and the whole configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from wsi_mil.config.cluster import Dask
from wsi_mil.config.encoder import Encoder
from wsi_mil.config.explanations import EXPLANATIONS, Method, MethodChoice, ReadOff, explains, resolved, supports
from wsi_mil.config.models import MODELS, Model, architecture_of, learners, provided_by
from wsi_mil.config.readers import Reader
from wsi_mil.config.remote import Remote
from wsi_mil.config.settings import EntryName, Settings
from wsi_mil.config.split import Recalibrate, Split
from wsi_mil.config.targets import Cell, Target, cell_text
from wsi_mil.config.training import Train
from wsi_mil.config.truth import Origin, Truth
from wsi_mil.units import SANE_MPP


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
    """Opening of slide files."""

    reader: Reader = Field("auto", description="auto: the fastest reader that gives the same pixels as OpenSlide")
    mpp_from_objective: bool = Field(
        False, description="if the resolution is missing: use 10 µm divided by the objective's magnification"
    )
    on_missing_mpp: MissingMpp = Field(
        "fail", description="slides without a resolution: fail, skip, or a number, used as µm per pixel of level 0"
    )


class Tiling(Settings):
    """Tiles that are cut from a slide."""

    mpp: float = Field(0.5, gt=0.05, le=10, description="µm per pixel of a tile")
    tile_px: int = Field(224, ge=8, description="side of a tile, pixels at `mpp`")
    overlap: int = Field(0, ge=0, description="pixels at `mpp` that neighbouring tiles share")
    min_tissue: float = Field(0.5, ge=0, le=1, description="minimum share of a tile that is tissue")
    edge: Literal["drop", "pad"] = Field("drop", description="tiles that extend beyond the slide: drop, or pad with white")
    max_tiles: int | None = Field(None, ge=1, description="maximum number of tiles per slide, sampled at random; null: all")
    seed: int = Field(0, ge=0, description="random seed of the sampling")
    min_annotation: float | None = Field(
        None, gt=0, le=1, description="minimum share of a tile inside the slide's annotation; null: annotations are not used"
    )

    @model_validator(mode="after")
    def _overlap_leaves_a_step(self) -> "Tiling":
        if self.overlap >= self.tile_px:
            raise ValueError(f"overlap must be smaller than tile_px, got {self.overlap} and {self.tile_px}")
        return self


def _names(value: Any) -> Any:
    """Names, from a list or from text that separates them by |, as in a cell of the sheet."""
    return tuple(name.strip() for name in value.split("|")) if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """Numbers, from a list, a single number, or text that separates them by |."""
    if isinstance(value, int):
        return (value,)
    return tuple(int(text) for text in value.split("|")) if isinstance(value, str) else value


TissueMethod = Literal["saturation_otsu", "glass_distance", "annotation", "none"]


class Tissue(Settings):
    """Tissue segmentation."""

    method: TissueMethod = Field(
        "saturation_otsu", description="annotation: inside the polygons; none: the whole slide is tissue"
    )
    mpp: float = Field(8.0, ge=0.5, le=100, description="µm per pixel of the mask")
    min_area_um2: float | None = Field(
        None, ge=0, description="smaller pieces of tissue are dropped, µm²; null: 20,000, but at most 5 % of the slide"
    )
    max_hole_um2: float = Field(20_000.0, ge=0, description="smaller holes in tissue are filled, µm²")
    remove_pen: bool = Field(True, description="exclude marks of blue, green, red and black pens from the tissue")
    annotation_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None, description="annotation classes that mark tissue or tiles; null: every polygon; in the sheet a|b"
    )
    exclude_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None,
        description="annotation classes cut out of the tissue (folds, ink), with any method; null: none; in the sheet a|b",
    )
    mask_mode: Literal["replace", "intersect"] = Field(
        "replace", description="a file in the sheet's `mask` column replaces the computed mask, or is intersected with it"
    )
    mask_values: Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)] = Field(
        None, description="values that mean tissue, if that file is a label image; null: all but 0; in the sheet 1|2"
    )
    mask_classes: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        None, description="classes that mean tissue, if that file has polygons; null: every polygon; in the sheet a|b"
    )

    @model_validator(mode="after")
    def _tissue_and_excluded_classes_differ(self) -> "Tissue":
        for key in ("annotation_classes", "mask_classes"):
            both = set(getattr(self, key) or ()) & set(self.exclude_classes or ())
            if both:
                raise ValueError(f"{', '.join(sorted(both))} cannot be in both {key} and exclude_classes")
        return self


class TileSettings(Settings):
    """Settings of `wsi-mil tile`."""

    slide: SlideFile = SlideFile()
    tiling: Tiling = Tiling()
    tissue: Tissue = Tissue()
    origin: Origin = Field("bounds", description="origin of GeoJSON coordinates on slides with bounds (MRXS)")


BagUnit = Literal["slide", "patient"]
Protocol = Literal["held_out", "as_published"]

Scale = Literal["auto", "raw", "minmax", "percentile", "cohort"]


class Predict(Settings):
    """Confidence intervals of the metrics."""

    bootstrap: int = Field(1000, ge=100, description="bootstrap samples of patients for the 95 % intervals")


class SparseInversion(Settings):
    """Sparse network inversion: how a bag is refined, and how the refined bag is scored."""

    step: float = Field(1.0, ge=0, description="η, relative to the bag: 1 moves as far as its mean absolute feature")
    penalty: float = Field(0.02, ge=0, description="λ per step, in units of the bag's mean absolute feature")
    steps: int = Field(10, ge=1, description="maximum number of steps T")
    tolerance: float = Field(1e-4, ge=0, description="stop when a step changes the bag by less than this share of it")
    score: ReadOff = Field(
        "evidence",
        description="method that scores the refined bag; if the model does not support it: evidence, else"
        " standardised_contribution (as for transmil)",
    )
    chunk: int = Field(512, ge=1, description="instances whose gradients are held at once; the result is the same")


def _outputs(value: Any) -> Any:
    if isinstance(value, str) and value in ("predicted", "all"):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("expected predicted, all, or a list of classes or labels, as in [luad]")
    names = tuple(map(cell_text, value))
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("expected the names of classes or labels")
    if len(set(names)) < len(names):
        raise ValueError("names must differ")
    return names


OutputChoice = Annotated[
    Literal["predicted", "all"] | Annotated[tuple[Cell, ...], Field(min_length=1)],
    BeforeValidator(_outputs),
]
"""Which outputs of a model are explained."""


class Explain(Settings):
    """Methods that score the instances, and their settings."""

    methods: tuple[MethodChoice, ...] = Field(
        ("attention", "sparse_inversion", "best"), description="each gets a heatmap; best: see the table of models; [] for none"
    )
    outputs: OutputChoice = Field(
        "predicted",
        description="classes or labels that are explained: predicted (of two classes the positive one), all, or [names]",
    )
    include_train: bool = Field(False, description="with a fixed split: also show training slides, marked as such")
    curve_points: int = Field(10, ge=0, le=100, description="points of the deletion and insertion curves; 0: none")
    sparse_inversion: SparseInversion = SparseInversion()

    @model_validator(mode="after")
    def _methods_differ(self) -> "Explain":
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must differ, got {', '.join(self.methods)}")
        return self


class Heatmap(Settings):
    """Settings of the stage `heatmap`."""

    colormap: str = Field("viridis", description="any matplotlib colour map")
    opacity: float = Field(0.75, gt=0, le=1, description="opacity of the hottest tile; the coldest has a quarter of it")
    scale: Scale = Field("auto", description="auto: score minus its neutral value, times the slide's predicted probability")
    hot: float = Field(0.5, gt=0, lt=1, description="tiles at or above this position on the colour bar are outlined as hot")
    gallery: int = Field(8, ge=0, le=64, description="number of highest and of lowest scoring tiles shown; 0: none")
    origin: Origin = Field("bounds", description="origin of exports for QuPath on slides with bounds (MRXS)")


class Fine(Settings):
    """Finer heatmaps of chosen slides: the mean over shifted tilings."""

    slides: tuple[str, ...] = Field((), description="slide_id of each slide that gets finer heatmaps")
    steps: int = Field(
        2, ge=2, le=8, description="shifts along either axis, each by 1/steps of a tile; a slide is encoded steps² - 1 more times"
    )

    @model_validator(mode="after")
    def _slides_differ(self) -> "Fine":
        twice = sorted({slide_id for slide_id in self.slides if self.slides.count(slide_id) > 1})
        if twice:
            raise ValueError(f"slides names {', '.join(twice)} more than once")
        return self


class HeatmapBlock(Heatmap):
    """The block `heatmap` of the configuration: settings of the pictures, and slides that get finer ones."""

    fine: Fine = Fine()


class Statistics(Settings):
    """Statistics of the features of the whole cohort."""

    components: int = Field(10, ge=2, description="principal components to keep; batch effects are measured in them")
    tiles_per_slide: int = Field(50, ge=0, description="maximum number of tiles sampled per slide; 20,000 in total")
    seed: int = Field(0, ge=0, description="random seed of the sampling")


FILE_OR_FILES = {
    "anyOf": [
        {"type": "string", "format": "path"},
        {"type": "object", "additionalProperties": {"type": "string", "format": "path"}},
        {"type": "null"},
    ]
}


class Config(Settings):
    """The whole configuration."""

    cohort: Path = Field(description="the cohort sheet: slide_id, path, the columns of targets, …")
    targets: dict[EntryName, Target] = Field(min_length=1, description="what models learn, each with every encoder")
    results: Path = Field(Path("results"), description="folder for all results")
    splits: Annotated[dict[EntryName, Path] | None, WithJsonSchema(FILE_OR_FILES)] = Field(
        None, description="existing splits to use instead of drawing folds: a file, or of several targets {target: file}"
    )
    trained: Path | None = Field(None, description="results folder of an earlier run whose models are used without training")
    recalibrate: Recalibrate | None = Field(
        None, description="with `trained`: fits probabilities to some patients of this cohort; figures are of the others"
    )
    bag: BagUnit = Field("slide", description="patient: all slides of a patient are one bag")
    protocol: Protocol = Field(
        "held_out", description="as_published: epoch and threshold are chosen on the test fold, and all outputs say so"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps; WSI_MIL_DEVICE overrides it",
    )
    read_timeout_s: float = Field(
        300.0,
        gt=0,
        description="seconds without data before a read is retried once, then the slide fails; WSI_MIL_READ_TIMEOUT_S overrides",
    )
    slides_per_job: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] = Field(
        "auto", description="slides that one job of tile, extract, explain or heatmap works on; auto: at most 16"
    )
    slide: SlideFile = SlideFile()
    remote: Remote = Remote()
    dask: Dask = Dask()
    tilings: dict[EntryName, Tiling] = Field({"default": Tiling()}, min_length=1)
    tissue: Tissue = Tissue()
    encoders: dict[EntryName, Encoder] = Field({"efficientnet": Encoder()}, min_length=1)
    split: Split = Split()
    train: Train = Train()
    models: dict[EntryName, Model] = Field(min_length=1)
    predict: Predict = Predict()
    explain: Explain = Explain()
    heatmap: HeatmapBlock = HeatmapBlock()
    truth: Truth = Field(Truth(), validate_default=True)
    statistics: Statistics = Statistics()

    @field_validator("encoders")
    @classmethod
    def _imported_tiling_has_the_name_of_its_entry(cls, encoders: dict[str, Encoder]) -> dict[str, Encoder]:
        named = {name: {"tiling": name} if entry.is_imported else {} for name, entry in encoders.items()}
        wrong = [n for n, e in encoders.items() if e.is_imported and e.tiling not in (n, Encoder.model_fields["tiling"].default)]
        if wrong:
            raise ValueError(
                f"an entry with features: imported takes no other key but of; remove tiling (entry {', '.join(wrong)})"
            )
        return {name: entry.model_copy(update=named[name]) for name, entry in encoders.items()}

    @field_validator("truth")
    @classmethod
    def _classes_cut_from_tissue_are_excluded(cls, truth: Truth, info: ValidationInfo) -> Truth:
        tissue = info.data.get("tissue")
        cut_out = (tissue and tissue.exclude_classes) or ()
        for key, names in truth.by_key.items():
            both = set(names) & set(cut_out)
            if both:
                raise ValueError(f"{key} names {', '.join(sorted(both))}, which tissue.exclude_classes cuts out of the tissue")
        return truth.model_copy(update={"exclude": (*truth.exclude, *(name for name in cut_out if name not in truth.exclude))})

    @property
    def extracted(self) -> dict[str, Encoder]:
        """Encoder entries whose features are extracted by this run."""
        return {name: entry for name, entry in self.encoders.items() if not entry.is_imported}

    @property
    def of_tiles(self) -> dict[str, Encoder]:
        """Encoder entries with features of tiles, imported or not: all but those with a vector of each slide."""
        return {name: entry for name, entry in self.encoders.items() if not entry.is_of_slides}

    @property
    def imported(self) -> tuple[str, ...]:
        """Names of the encoder entries whose features were imported."""
        return tuple(name for name, entry in self.encoders.items() if entry.is_imported)

    @field_validator("splits", mode="before")
    @classmethod
    def _one_file_is_of_one_target(cls, splits: Any, info: ValidationInfo) -> Any:
        if not isinstance(splits, str | Path):
            return splits
        targets = list(info.data.get("targets", ["target"]))
        if len(targets) > 1:
            files = ", ".join(f"{name}: {splits}" for name in targets)
            raise ValueError(f"a file has the labels of one target: name it, as in splits: {{{files}}}")
        return {targets[0]: splits}

    @field_validator("targets")
    @classmethod
    def _pages_of_targets_differ_from_the_overview(cls, targets: dict[str, Target]) -> dict[str, Target]:
        if "index" in targets:
            raise ValueError("no target can be named index, since report/index.html is the overview")
        return targets

    def models_of(self, target: str) -> tuple[str, ...]:
        """Return the entries of `models` that learn a target; those that see covariates only if it has any."""
        return self.targets[target].models or learners(self.models, self.targets[target])

    def models_with(self, target: str, encoder: str) -> tuple[str, ...]:
        """Return the entries of `models` that learn a target from an entry of `encoders`; some do not take vectors of slides."""
        is_of_slides = self.encoders[encoder].is_of_slides
        return tuple(m for m in self.models_of(target) if not is_of_slides or MODELS[self.models[m].model].takes_slide_vectors)

    def combinations(self, target: str) -> tuple[tuple[str, str], ...]:
        """Return the entries of `encoders` and `models` that are trained together for a target."""
        return tuple((encoder, model) for encoder in self.encoders for model in self.models_with(target, encoder))

    def splits_of(self, target: str) -> Path | None:
        """Return the existing splits of a target; None if its folds are drawn."""
        return (self.splits or {}).get(target)


COMPARED = "direction"
"""The method whose scores are stored, and not drawn, where those of no other method can be compared between slides."""


def compared_methods(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return what is stored besides the methods that are drawn, so that the highest tiles of a cohort can be shown."""
    is_enough = not methods or any(EXPLANATIONS[method].comparable for method in methods)
    return () if is_enough else (COMPARED,)


def methods_of(config: Config, target: str, entry: str) -> tuple[Method, ...]:
    """Return those of `explain.methods` that the model of an entry supports for a target, with the best one by its name."""
    provides, kind = provided_by(config.models, entry), config.targets[target].kind
    methods = resolved(config.explain.methods, architecture_of(config.models, entry).best)
    return tuple(method for method in methods if supports(provides, method) and explains(method, kind))


def drawn_methods(config: Config, target: str, encoder: str, entry: str) -> tuple[Method, ...]:
    """Return the methods that explain a model on the features of an entry of `encoders`; none on vectors of slides."""
    return () if config.encoders[encoder].is_of_slides else methods_of(config, target, entry)
