"""Find inconsistencies within a configuration: references to unknown names, settings that exclude each other."""

from wsi_mil.check.covariates import covariate_config_faults
from wsi_mil.check.slide_vectors import slide_vector_faults
from wsi_mil.config import BEST, MHIM, MODELS, TEACHERS, Config, Heatmap, Kind, nearest, provided_by, supports
from wsi_mil.encoders import name_faults
from wsi_mil.runtime.extras import tensorboard_fault
from wsi_mil.tasks import Task, task_of
from wsi_mil.wording import listed


def reference_faults(config: Config) -> list[str]:
    """Return the faults that can be found without the sheet."""
    faults = []
    for entry in config.imported:
        if any(encoder.tiling == entry for encoder in config.extracted.values()):
            faults.append(
                f"encoders.{entry}: its imported tiles would share a folder with the tiling {entry!r}; rename one of them"
            )
    for entry, encoder in config.extracted.items():
        if encoder.tiling not in config.tilings:
            faults.append(f"encoders.{entry}.tiling: no tiling {encoder.tiling!r}{nearest(encoder.tiling, list(config.tilings))}")
        faults += name_faults(entry, encoder.encoder, encoder.weights)
    faults += _model_faults(config) + _target_faults(config) + slide_vector_faults(config) + _output_faults(config)
    faults += covariate_config_faults(config) + _truth_faults(config) + _wildcard_faults(config)
    if config.trained is not None and config.trained.resolve() == config.results.resolve():
        faults.append("trained: must be another folder than results, or its splits and models would be overwritten")
    if config.heatmap.colormap != Heatmap().colormap:
        from wsi_mil.heatmaps.colour_maps import colormap_faults  # imports matplotlib, which the default does not need

        faults += colormap_faults(config.heatmap.colormap)
    if config.train.log == "tensorboard" and config.trained is None and (fault := tensorboard_fault()):
        faults.append(fault)
    if config.splits is not None and config.trained is not None:
        faults.append("splits: cannot be set together with trained, which has its own splits")
    return faults


def _model_faults(config: Config) -> list[str]:
    """Base models that are missing or unsuitable, and explanation methods that no model supports."""
    faults = []
    for entry, settings in config.models.items():
        if isinstance(settings, MHIM):
            faults += _base_faults(config, f"models.{entry}.base", settings.base)
    if faults or not config.of_tiles or "methods" not in config.explain.model_fields_set:
        return faults  # each model uses those of the default methods that it supports
    return [
        f"explain.methods: {method} is not supported by any of the models {', '.join(config.models)}"
        for method in config.explain.methods
        if method != BEST
        if not any(supports(provided_by(config.models, entry), method) for entry in config.models)
    ]


def _target_faults(config: Config) -> list[str]:
    """Models that cannot learn a target, models of targets that there are not, and splits likewise."""
    faults, entries = [], list(config.models)
    for name, target in config.targets.items():
        own = config.models_of(name)
        unknown = [entry for entry in own if entry not in entries]
        faults += [f"targets.{name}.models: no entry {entry!r} in models{nearest(entry, entries)}" for entry in unknown]
        unable = [entry for entry in own if entry not in unknown and target.kind not in _learned(config, entry)]
        if unable:
            cannot = f"{listed(unable)} cannot learn targets of kind {target.kind}"
            faults.append(f"targets.{name}: {cannot}; {_models_that_can(config, name)}")
    unknown = [name for name in config.splits or {} if name not in config.targets]
    return faults + [f"splits.{name}: no target {name!r}{nearest(name, list(config.targets))}" for name in unknown]


def _output_faults(config: Config) -> list[str]:
    """Outputs to explain, or with annotation classes of their own, that no target has."""
    explained = () if isinstance(config.explain.outputs, str) else config.explain.outputs
    named = [*(("explain.outputs", name) for name in explained), *(("truth.classes", name) for name in config.truth.tied)]
    known = [name for kind in ("classes", "multilabel") for task in _tasks(config, kind) for name in task.explainable]
    return [
        f"{key}: no target has a class or label {name!r}{nearest(name, list(dict.fromkeys(known)))}"
        for key, name in named
        if name not in known
    ]


def _truth_faults(config: Config) -> list[str]:
    """Healthy classes that no target has, or that leave a target without a class that could have a lesion."""
    tasks, healthy = _tasks(config, "classes"), config.truth.healthy
    known = list(dict.fromkeys(name for task in tasks for name in task.explainable))
    faults = [f"truth.healthy: no target has a class {name!r}{nearest(name, known)}" for name in healthy if name not in known]
    for task in tasks:
        if all(task.lacks_evidence(name, healthy) for name in task.explainable):
            of = f"the positive one of {task}" if len(task.explainable) == 2 else f"every one of {task}"
            faults.append(f"truth.healthy: {of} cannot be healthy, or no slide has a lesion")
    return faults


def _tasks(config: Config, kind: str) -> list[Task]:
    """What is learned for the targets of a kind."""
    return [task_of(target) for target in config.targets.values() if target.kind == kind]


def _learned(config: Config, entry: str) -> tuple[Kind, ...]:
    """Kinds of targets that the model of an entry learns."""
    return MODELS[config.models[entry].model].learns


def _models_that_can(config: Config, target: str) -> str:
    """What mends a target whose models include some that cannot learn it."""
    kind = config.targets[target].kind
    able = [entry for entry in config.models if kind in _learned(config, entry)]
    if able:
        return f"write targets.{target}.models: [{', '.join(able)}], or remove the others from models"
    models = [name for name, settings in MODELS.items() if kind in settings.learns and settings.best]
    return f"add an entry with one of {', '.join(models)}"


def _wildcard_faults(config: Config) -> list[str]:
    """Paths that Snakemake would misread; the folder of the sheet is checked with the sheet."""
    paths = {"cohort": config.cohort.name, "results": config.results, "trained": config.trained}
    paths |= {f"splits.{name}": path for name, path in (config.splits or {}).items()}
    return [
        f"{key}: {path} contains '{{' or '}}', which Snakemake reads as a wildcard; rename it"
        for key, path in paths.items()
        if path is not None and set("{}") & set(str(path))
    ]


def _base_faults(config: Config, key: str, base: str) -> list[str]:
    teachers = [name for name, settings in config.models.items() if settings.model in TEACHERS]
    if base not in config.models:
        return [f"{key}: no entry {base!r} in models{nearest(base, teachers)}"]
    kind = config.models[base].model
    return [] if kind in TEACHERS else [f"{key}: {base!r} is {kind}, but the base of mhim must be one of {', '.join(TEACHERS)}"]
