"""Whether an encoder's weights are there, and how long its feature vectors are, without loading them."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import record_of
from wsi_mil.encoders.hub import HUB_FILES, HubModel, asked_for, cached_file, fetch_file
from wsi_mil.encoders.names import HUB_PREFIXES, default_weights
from wsi_mil.encoders.record import EncoderRecord
from wsi_mil.errors import ConfigError, WsiMilError


@dataclass(frozen=True)
class Weights:
    """Where an encoder's weights come from.

    Attributes:
        source: in words.
        missing: why they cannot be had, and what mends it; "" where they can.
    """

    source: str
    missing: str = ""


def weights_file(settings: EncoderSettings) -> Path | None:
    """The weights file of an encoder that has a record, fetched where it must be; None for random weights and names of timm.

    Raises:
        ConfigError: the package of the default's weights is not installed.
        WsiMilError: the weights cannot be fetched; with the file to bring.
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
    """Look for an encoder's weights. A model of the Hub that is not in its cache is asked for there; nothing is fetched."""
    if settings.weights == "random":
        return Weights("random, for tests")
    if settings.weights != "pretrained":
        missing = "" if Path(settings.weights).is_file() else "no such file; give pretrained, random, or a weights file"
        return Weights(f"file {settings.weights}", missing)
    record = record_of(settings.encoder)
    if record is None:
        return _of_timm(settings.encoder)
    return _packaged() if record.hub is None else _of_hub(record.hub)


def has_weights(record: EncoderRecord) -> bool:
    """Whether the weights of a record are on this machine; no network is used."""
    return cached_file(record.hub) is not None if record.hub else not _packaged().missing


def feature_dim(settings: EncoderSettings) -> int | None:
    """Length of an encoder's feature vectors: by its record, or by building it without weights; None where that cannot be
    done, or its configuration would have to be fetched from the Hub first.
    """
    record = record_of(settings.encoder)
    if record is not None:
        return record.dim
    if settings.encoder.startswith(HUB_PREFIXES) and cached_file(_named(settings.encoder, ("config.json",))) is None:
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
        return None  # it computes with values, not shapes alone


def _packaged() -> Weights:
    try:
        return Weights(f"packaged ({default_weights().name})")
    except ConfigError as error:
        return Weights("packaged", str(error))


def _named(name: str, files: tuple[str, ...] = HUB_FILES) -> HubModel:
    """What a name such as `hf-hub:repository@revision` means."""
    repository, _, revision = name.partition(":")[2].partition("@")
    return HubModel(repository, revision or None, files)


def _of_timm(name: str) -> Weights:
    if name.startswith(HUB_PREFIXES):
        return _of_hub(_named(name))
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(name)
    if about is not None and about.hf_hub_id:
        files = (about.hf_hub_filename,) if about.hf_hub_filename else HUB_FILES
        return _of_hub(_named(f"hf-hub:{about.hf_hub_id}", files))
    if about is not None and about.url:
        return Weights(f"fetched from {about.url} on first use")
    return Weights("timm", "timm has no pretrained weights of it; give a file as `weights`")


def _of_hub(model: HubModel) -> Weights:
    if cached_file(model) is not None:
        return Weights(f"in the cache of the Hugging Face Hub ({model.repository})")
    source = f"Hugging Face Hub ({model.repository}), not in its cache"
    answer = asked_for(model)
    if answer.refusal:
        return Weights(source, answer.refusal)
    return Weights(f"{source}: fetched on first use ({answer.size / 1e6:.0f} MB)")
