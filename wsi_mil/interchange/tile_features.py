"""Features of tiles in memory, from which every layout is written and into which it is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from numpy.typing import NDArray

from wsi_mil.geometry import Mpp

OWN_ATTRIBUTE = "wsi_mil"
"""Attribute of exported files with metadata as JSON that the layout itself cannot hold. Other tools ignore it."""


AS_TILES = "import features of tiles without --of slide, under an entry without of: slide"
AS_VECTORS = "a vector of the whole slide is imported with --of slide, under an entry with of: slide"
"""What mends features of tiles that are offered as vectors of slides, and the reverse."""


def not_of_tiles(name: str, values: NDArray[Any]) -> str:
    """Return why an array has no features of tiles: it does not have one row for each."""
    fix = f"; {AS_VECTORS}" if values.ndim == 1 and name != "coords" else ""
    return f"{name} has shape {values.shape}, expected (tiles, numbers){fix}"


@dataclass(frozen=True)
class Scale:
    """Size and place of the tiles of a file; None where unknown.

    Attributes:
        tile_px_level0: (width, height) of a tile, level-0 pixels.
        tile_px: side of a tile at the encoder's input, pixels.
        mpp: nominal µm per pixel of the tiles, the same for all slides of a cohort.
        slide_mpp: µm per pixel of level 0.
        dimensions: (width, height) of the slide, level-0 pixels.
        bounds: (x, y, width, height) of the scanned area, level-0 pixels.
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
        """Return the pixels of `tile_px` that neighbouring tiles share; 0 if unknown."""
        if self.extent is None or self.stride is None or self.tile_px is None:
            return 0.0
        shared = self.tile_px * (1 - self.stride[0] / self.extent[0])
        return max(0.0, round(shared, 6))

    def filled(self, other: Self) -> Self:
        """Return a copy with unknown values taken from `other`."""
        return replace(self, **{name: value for name, value in vars(other).items() if getattr(self, name) is None})


@dataclass(frozen=True)
class TileFeatures:
    """Features of a slide's tiles as stored in a file.

    Attributes:
        features: `(n, d)`, float16, float32 or float64.
        coords: `(n, 2)` top-left corners (x, y) in `unit`; None if the file has none.
        unit: level-0 pixels, or µm.
        scale: size and place of the tiles.
        encoder: name of the encoder, or "".
        weights_hash: hash of the encoder's weights, or "".
    """

    features: NDArray[Any]
    coords: NDArray[Any] | None
    unit: Literal["px", "um"] = "px"
    scale: Scale = field(default_factory=Scale)
    encoder: str = ""
    weights_hash: str = ""

    def metadata_json(self) -> str:
        """Return the value of `OWN_ATTRIBUTE`: lossless metadata (a layout may store one number for both axes, say)."""
        scale = {name: value for name, value in vars(self.scale).items() if value is not None}
        if self.scale.slide_mpp is not None:
            scale["slide_mpp"] = [self.scale.slide_mpp.x, self.scale.slide_mpp.y]
        return json.dumps({**scale, "encoder": self.encoder, "weights_hash": self.weights_hash}, sort_keys=True)

    def with_metadata(self, attributes: Mapping[str, Any]) -> "TileFeatures":
        """Return a copy with the metadata of `OWN_ATTRIBUTE`, which override those of the layout; unchanged without it."""
        if OWN_ATTRIBUTE not in attributes:
            return self
        metadata: dict[str, Any] = json.loads(attributes[OWN_ATTRIBUTE])
        encoder = str(metadata.pop("encoder"))
        weights = str(metadata.pop("weights_hash"))
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in metadata.items()}
        if "slide_mpp" in values:
            values["slide_mpp"] = Mpp(*values["slide_mpp"])
        return replace(self, scale=Scale(**values).filled(self.scale), encoder=encoder, weights_hash=weights)
