"""The entries of `encoders`."""

from typing import Literal

from pydantic import Field, model_validator

from wsi_mil.config.settings import EntryName, Settings

FeatureUnit = Literal["tile", "slide"]
"""What a feature vector describes."""


class Encoder(Settings):
    """One entry of `encoders`: an encoder that computes features, or features from `wsi-mil import-features`."""

    features: Literal["extracted", "imported"] = Field(
        "extracted", description="imported: features come from `wsi-mil import-features`; the entry has no other key but `of`"
    )
    of: FeatureUnit = Field("tile", description="slide: one imported vector for each slide (TITAN, PRISM, …), and no heatmaps")
    encoder: str = Field(
        "efficientnet_lite0", description="a name from `wsi-mil encoders`, any timm model name, or hf-hub:REPOSITORY"
    )
    tiling: EntryName = Field("default", description="name of an entry of `tilings`")
    weights: str = Field("pretrained", description="pretrained, random (for tests), or a file: safetensors or state dict")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 if the device computes in it fast")
    batch_size: int = Field(64, ge=1, description="tiles per batch; halved automatically if the device runs out of memory")
    max_corrupt: float = Field(0.05, ge=0, le=1, description="a slide with a larger share of unreadable tiles fails")

    @property
    def is_imported(self) -> bool:
        """Whether the features are imported, so that no tiles or features are computed."""
        return self.features == "imported"

    @property
    def is_of_slides(self) -> bool:
        """Whether the entry has one vector for each slide, and so no tiles."""
        return self.of == "slide"

    @model_validator(mode="after")
    def _vectors_of_slides_are_imported(self) -> "Encoder":
        if self.is_of_slides and not self.is_imported:
            raise ValueError(
                "of: slide needs features: imported: no slide encoder runs here; `wsi-mil import-features --of slide` takes"
                " the vectors that other tools computed"
            )
        return self

    @model_validator(mode="after")
    def _imported_entries_have_no_other_key(self) -> "Encoder":
        allowed = {"features", "of", "tiling"}  # `Config` sets the tiling to the name of the entry
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        extra = [name for name in changed if name not in allowed]
        if self.is_imported and extra:
            raise ValueError(f"an entry with features: imported takes no other key but of; remove {', '.join(extra)}")
        return self
