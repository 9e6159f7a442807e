"""Description of a built-in encoder: weights, architecture and preprocessing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wsi_mil.encoders.hub import HUB_FILES, HubModel

Argument = int | float | bool | str
"""Argument of an architecture; text names a layer: SwiGLUPacked, SiLU, ConvStem."""

Pooling = Literal["own", "cls", "mean", "cls+mean"]
"""Pooling of a vision transformer's tokens (the mean excludes registers); own: the architecture's own pooling."""

TensorNames = Literal["timm", "transformers", "old_swin", "in_order", "conch", "coca", "beit3", "keep"]
"""Naming scheme of the published weights file; timm's names are always accepted as well."""

Change = Literal["", "without_layer4", "attention_pooler", "coca_pooler", "projection"]
"""Change of timm's architecture: cut after the third stage, or an attention pooler or a projection appended."""

Rgb = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)

SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
"""Arguments of a vision transformer with a gated MLP: half of its hidden units times SiLU of the other half."""


@dataclass(frozen=True, kw_only=True)
class EncoderRecord:
    """Built-in encoder.

    Attributes:
        name: name in the setting `encoder`.
        title: name given by its authors.
        architecture: timm's name of the architecture.
        arguments: overrides of the architecture's arguments.
        change: change of timm's architecture.
        pooling: pooling of tokens to one vector.
        dim: length of the feature vector.
        million_parameters: parameters of the network in millions, rounded.
        mean: mean per channel, for values from 0 to 1.
        std: standard deviation per channel, for values from 0 to 1.
        interpolation: "bicubic" or "bilinear".
        input_px: side of the network's input images.
        resize_px: side that tiles are resized to; if larger than `input_px`, the centre is cropped.
        mpps: training resolutions in µm per pixel, the recommended one first; empty if the resolution does not matter.
        tile_px: recommended side of a tile at the recommended resolution.
        licence: licence of the weights.
        gated: whether the Hub requires that users accept the licence.
        repository: repository on the Hugging Face Hub; "" if the weights are a Python package.
        revision: commit of the repository; None: `main`.
        files: candidate names of the weights file; the first that exists is used.
        tensor_names: naming scheme of the weights file.
        note: remark for the documentation.
    """

    name: str
    title: str
    architecture: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    change: Change = ""
    pooling: Pooling = "cls"
    dim: int
    million_parameters: int
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    input_px: int = 224
    resize_px: int = 224
    mpps: tuple[float, ...] = (0.5,)
    tile_px: int = 224
    licence: str
    gated: bool = False
    repository: str = ""
    revision: str | None = None
    files: tuple[str, ...] = HUB_FILES
    tensor_names: TensorNames = "timm"
    note: str = ""

    @property
    def hub(self) -> HubModel | None:
        """Return the weights on the Hub; None if they are a Python package."""
        return HubModel(self.repository, self.revision, self.files) if self.repository else None

    def mpp_of_input(self, mpp: float, tile_px: int) -> float:
        """Return the µm per pixel of the network's input for tiles of `tile_px` at `mpp`."""
        return mpp * tile_px / self.resize_px
