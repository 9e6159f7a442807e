"""Check entries of `encoders` with a vector of each slide: which models take them, and what is left out."""

from wsi_mil.config import MODELS, Config
from wsi_mil.wording import listed


def slide_vector_faults(config: Config) -> list[str]:
    """Return the entries that no model of a target takes, and the targets for which nothing would be trained."""
    of_slides = [entry for entry in config.encoders if entry not in config.of_tiles]
    able = ", ".join(name for name, settings in MODELS.items() if settings.takes_slide_vectors)
    known = {name: [m for m in config.models_of(name) if m in config.models] for name in config.targets}
    if not of_slides or not all(known.values()):
        return []  # entries of `models` that there are not are reported elsewhere
    used = {e for name, own in known.items() for e in of_slides if any(_takes(config, model) for model in own)}
    why = f"no model of a target takes vectors of slides; add an entry of models with {able}, or remove this one"
    faults = [f"encoders.{entry}: {why}" for entry in of_slides if entry not in used]
    if config.of_tiles or faults:
        return faults
    return [
        f"targets.{name}: encoders has vectors of slides only, which {listed(own)} cannot learn; add an entry with {able}"
        for name, own in known.items()
        if not any(_takes(config, model) for model in own)
    ]


def slide_vector_warnings(config: Config) -> list[str]:
    """Return what is left out for each entry with vectors of slides, in one line."""
    unable = [model for model in config.models if not _takes(config, model)]
    models = f"models that need tiles are not trained on them ({', '.join(unable)}), and " if unable else ""
    nothing = "there are no heatmaps, explanations or figures of these"
    return [f"encoders.{e}: vectors of whole slides: {models}{nothing}" for e in config.encoders if e not in config.of_tiles]


def _takes(config: Config, model: str) -> bool:
    return MODELS[config.models[model].model].takes_slide_vectors
