"""Settings → model."""

from wsi_mil.config import Model
from wsi_mil.models.abmil import ABMIL
from wsi_mil.models.output import MILModel


def create_model(settings: Model, *, feature_dim: int, n_classes: int) -> MILModel:
    """A freshly initialised model of an entry of `models`."""
    architecture = settings.model_dump(exclude={"model", "train"})
    return MODELS[settings.model](feature_dim=feature_dim, n_classes=n_classes, **architecture)


MODELS: dict[str, type[ABMIL]] = {"abmil": ABMIL}
