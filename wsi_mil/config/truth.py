"""The block `truth`: what counts as ground truth of an annotation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wsi_mil.config.settings import Settings
from wsi_mil.config.targets import Cell

Origin = Literal["bounds", "slide"]


class Truth(Settings):
    """Ground truth from annotations."""

    include: tuple[str, ...] | None = Field(
        None, description="annotation classes that mark the positive class; null: all that are not excluded"
    )
    exclude: tuple[str, ...] = Field(("_2",), description="annotation classes that are cut out (_2 in CAMELYON16)")
    healthy: tuple[Cell, ...] = Field(
        (), description="classes of the targets whose slides have no lesion; the first of two classes has none anyway"
    )
    classes: dict[Cell, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        {}, description="annotation classes that count for scores of a class or label, {luad: [tumour]}; of others, `include`"
    )
    overlap: float = Field(0.5, gt=0, le=1, description="minimum annotated share of a tile that counts as positive")
    origin: Origin = Field("bounds", description="origin of GeoJSON coordinates on slides with bounds (MRXS)")

    @model_validator(mode="after")
    def _included_and_excluded_classes_differ(self) -> "Truth":
        for key, names in self.by_key.items():
            both = set(names) & set(self.exclude)
            if both:
                raise ValueError(f"{', '.join(sorted(both))} cannot be in both {key} and exclude")
        return self

    @property
    def by_key(self) -> dict[str, tuple[str, ...]]:
        """Annotation classes that count, by the key that names them."""
        return {"include": self.include or (), **{f"classes.{name}": own for name, own in self.classes.items()}}

    def counted(self, output: str | None) -> tuple[str, ...] | None:
        """Return the annotation classes that count for scores of an output, or of any (None); None: all but the excluded."""
        if output is not None:
            return self.classes.get(output, self.include)
        return None if self.include is None else (*self.include, *(name for own in self.classes.values() for name in own))

    @property
    def tied(self) -> tuple[str, ...]:
        """Outputs that have annotation classes of their own."""
        return tuple(self.classes)
