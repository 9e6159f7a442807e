"""What every layout is read into and written from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from numpy.typing import NDArray

from wsi_mil.geometry import Mpp

OWN = "wsi_mil"
"""Name of the attribute in which our own exports say, as JSON, all that a layout has no place for. Other tools ignore it."""


@dataclass(frozen=True)
class Scale:
    """What a file says of the size and place of its tiles; None where it says nothing.

    Attributes:
        tile_px_level0: (width, height) of a tile, level-0 pixels.
        tile_px: its side as the encoder saw it, pixels.
        mpp: µm per pixel that tiles were asked for at: the same for all slides of a cohort.
        slide_mpp: µm per pixel of level 0.
        dimensions: (width, height) of the slide, level-0 pixels.
        bounds: (x, y, width, height) of what was scanned, level-0 pixels.
        extent: (width, height) of a tile, level-0 pixels, unrounded.
        stride: distance of neighbouring corners along x and y, level-0 pixels, unrounded.
    """

    tile_px_level0: tuple[int, int] | None = None
    tile_px: int | None = None
    mpp: float | None = None
    slide_mpp: Mpp | None = None
    dimensions: tuple[int, int] | None = None
    bounds: tuple[int, int, int, int] | None = None
    extent: tuple[float, float] | None = None
    stride: tuple[float, float] | None = None

    @property
    def overlap(self) -> float:
        """Pixels of `tile_px` that neighbouring tiles share; 0 where it is not known."""
        if self.extent is None or self.stride is None or self.tile_px is None:
            return 0.0
        shared = self.tile_px * (1 - self.stride[0] / self.extent[0])
        return max(0.0, round(shared, 6))

    def filled(self, other: Self) -> Self:
        """With what `other` says where this says nothing."""
        return replace(self, **{name: value for name, value in vars(other).items() if getattr(self, name) is None})


@dataclass(frozen=True)
class TileFeatures:
    """Features of a slide's tiles as a file holds them.

    Attributes:
        features: `(n, d)`, float16, float32 or float64.
        coords: `(n, 2)` top-left corners (x, y) in `unit`, or None where the file has none.
        unit: level-0 pixels, or µm.
        scale: what the file says of it.
        encoder: what made the features, or "".
        weights_hash: of its weights, or "".
    """

    features: NDArray[Any]
    coords: NDArray[Any] | None
    unit: Literal["px", "um"] = "px"
    scale: Scale = field(default_factory=Scale)
    encoder: str = ""
    weights_hash: str = ""

    def own_json(self) -> str:
        """What is written to `OWN`: lossless, while a layout may know one number for both axes, say."""
        scale = {name: value for name, value in vars(self.scale).items() if value is not None}
        if self.scale.slide_mpp is not None:
            scale["slide_mpp"] = [self.scale.slide_mpp.x, self.scale.slide_mpp.y]
        return json.dumps({**scale, "encoder": self.encoder, "weights_hash": self.weights_hash}, sort_keys=True)

    def with_own(self, attributes: Mapping[str, Any]) -> "TileFeatures":
        """With what one of our exports says of itself, which goes before what the layout says."""
        if OWN not in attributes:
            return self
        said: dict[str, Any] = json.loads(attributes[OWN])
        encoder, weights = str(said.pop("encoder")), str(said.pop("weights_hash"))
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        if "slide_mpp" in values:
            values["slide_mpp"] = Mpp(*values["slide_mpp"])
        return replace(self, scale=Scale(**values).filled(self.scale), encoder=encoder, weights_hash=weights)
