"""Locate an encoder's weights, and determine the length of its feature vectors, without loading them."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import record_of
from wsi_mil.encoders.hub import HUB_FILES, HubModel, cached_file, fetch_file, query_hub
from wsi_mil.encoders.names import HUB_PREFIXES, default_weights
from wsi_mil.encoders.record import EncoderRecord
from wsi_mil.errors import ConfigError, WsiMilError


@dataclass(frozen=True)
class Weights:
    """Source of an encoder's weights.

    Attributes:
        source: description of the source.
        missing: why the weights are not available and how to get them; "" if they are.
    """

    source: str
    missing: str = ""


def weights_file(settings: EncoderSettings) -> Path | None:
    """Return the weights file of a built-in encoder, downloaded if needed; None for random weights and timm models.

    Raises:
        ConfigError: the package of the default encoder's weights is not installed.
        WsiMilError: the weights cannot be downloaded; the message says how to get them.
    """
    record = record_of(settings.encoder)
    if record is None or settings.weights == "random":
        return None
    if settings.weights != "pretrained":
        return Path(settings.weights)
    if record.hub is None:
        return default_weights()
    try:
        return fetch_file(record.hub, licence=record.licence)
    except WsiMilError as error:
        raise WsiMilError(f"encoder {record.name}: no weights; {error}") from error


def find_weights(settings: EncoderSettings) -> Weights:
    """Locate an encoder's weights. The Hub is asked for models that are not in its cache; nothing is downloaded."""
    if settings.weights == "random":
        return Weights("random, for tests")
    if settings.weights != "pretrained":
        missing = "" if Path(settings.weights).is_file() else "no such file; give pretrained, random, or a weights file"
        return Weights(f"file {settings.weights}", missing)
    record = record_of(settings.encoder)
    if record is None:
        return _timm_weights(settings.encoder)
    return _packaged() if record.hub is None else _hub_weights(record.hub)


def has_weights(record: EncoderRecord) -> bool:
    """Return whether the weights of a built-in encoder are on this machine, without using the network."""
    return cached_file(record.hub) is not None if record.hub else not _packaged().missing


def feature_dim(settings: EncoderSettings) -> int | None:
    """Return the length of an encoder's feature vectors by its record, or by building it without weights.

    None if it cannot be built so, or its configuration would have to be downloaded from the Hub.
    """
    record = record_of(settings.encoder)
    if record is not None:
        return record.dim
    if settings.encoder.startswith(HUB_PREFIXES) and cached_file(_hub_model(settings.encoder, ("config.json",))) is None:
        return None
    import timm
    import torch
    from timm.data.config import resolve_model_data_config

    try:
        with torch.device("meta"), torch.inference_mode():
            network = timm.create_model(settings.encoder, pretrained=False, num_classes=0).eval()
            size = resolve_model_data_config(network)["input_size"]
            return int(network(torch.empty((1, *size))).shape[1])
    except (RuntimeError, OSError, ValueError):
        return None  # its forward pass depends on values, not only on shapes


def _packaged() -> Weights:
    try:
        return Weights(f"packaged ({default_weights().name})")
    except ConfigError as error:
        return Weights("packaged", str(error))


def _hub_model(name: str, files: tuple[str, ...] = HUB_FILES) -> HubModel:
    """Parse a name such as `hf-hub:repository@revision`."""
    repository, _, revision = name.partition(":")[2].partition("@")
    return HubModel(repository, revision or None, files)


def _timm_weights(name: str) -> Weights:
    if name.startswith(HUB_PREFIXES):
        return _hub_weights(_hub_model(name))
    from timm.models import get_pretrained_cfg

    pretrained = get_pretrained_cfg(name)
    if pretrained is not None and pretrained.hf_hub_id:
        files = (pretrained.hf_hub_filename,) if pretrained.hf_hub_filename else HUB_FILES
        return _hub_weights(_hub_model(f"hf-hub:{pretrained.hf_hub_id}", files))
    if pretrained is not None and pretrained.url:
        return Weights(f"fetched from {pretrained.url} on first use")
    return Weights("timm", "timm has no pretrained weights for this model; give a file as `weights`")


def _hub_weights(model: HubModel) -> Weights:
    if cached_file(model) is not None:
        return Weights(f"in the cache of the Hugging Face Hub ({model.repository})")
    source = f"Hugging Face Hub ({model.repository}), not in its cache"
    answer = query_hub(model)
    if answer.refusal:
        return Weights(source, answer.refusal)
    return Weights(f"{source}: fetched on first use ({answer.size / 1e6:.0f} MB)")
