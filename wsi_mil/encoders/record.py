"""What is known of an encoder before it is built: where its weights come from, its architecture, how images are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wsi_mil.encoders.hub import HUB_FILES, HubModel

Argument = int | float | bool | str
"""Of an architecture; text names a layer: SwiGLUPacked, SiLU, ConvStem."""

Pooling = Literal["own", "cls", "mean", "cls+mean"]
"""own: as the architecture does itself; else of a vision transformer's tokens, registers left out of the mean."""

TensorNames = Literal["timm", "transformers", "old_swin", "in_order", "conch"]
"""How the published weights file names its tensors; those of timm are taken as well, always."""

Change = Literal["", "without_layer4", "attention_pooler"]
"""What is done to timm's architecture: cut after the third block of layers, or a pooler by attention put behind it."""

Rgb = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)

SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
"""Arguments of a vision transformer whose MLP is gated: half of its inner units times SiLU of the other half."""


@dataclass(frozen=True, kw_only=True)
class EncoderRecord:
    """An encoder by its facts.

    Attributes:
        name: as a user writes it in `encoder`.
        title: as its authors write it.
        architecture: timm's name of it.
        arguments: over those that timm's architecture has.
        change: what is done to timm's architecture.
        pooling: how tokens become one vector.
        dim: length of that vector.
        million_parameters: of the network that computes it, rounded.
        mean: of each channel, for values from 0 to 1.
        std: likewise.
        interpolation: "bicubic" or "bilinear".
        input_px: side of the images that the network sees.
        resize_px: side that tiles are resized to; where larger, the middle is cut out.
        mpps: µm per pixel of the tiles that it was made for, the recommended one first; none where it does not matter.
        tile_px: recommended side of a tile at that mpp.
        licence: of the weights.
        gated: whether the Hub gives them only to those who accepted the licence there.
        repository: of the Hugging Face Hub; "" where the weights are a Python package.
        revision: commit of the repository; None: whatever `main` is.
        files: that hold the weights, the first that is there.
        tensor_names: how such a file names its tensors.
        note: what else to know, for the documentation.
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
        """Where its weights are on the Hub; None where they are a package."""
        return HubModel(self.repository, self.revision, self.files) if self.repository else None

    def mpp_of_input(self, mpp: float, tile_px: int) -> float:
        """µm per pixel that the network sees of tiles of `tile_px` at `mpp`, which are resized to its input."""
        return mpp * tile_px / self.resize_px
