"""Whether an encoder's weights are there, and how long its feature vectors are, without loading them."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.names import DEFAULT_ENCODER, HUB_PREFIXES, default_weights
from wsi_mil.errors import ConfigError

DEFAULT_DIM = 1280
"""Length of the default encoder's feature vectors."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm takes from a repository of the Hugging Face Hub, the first that is there."""

HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Weights:
    """Where an encoder's weights come from.

    Attributes:
        source: in words.
        missing: why they cannot be had, and what mends it; "" where they can.
    """

    source: str
    missing: str = ""


def find_weights(settings: EncoderSettings) -> Weights:
    """Look for an encoder's weights. A model of the Hub that is not in its cache is asked for there; nothing is fetched."""
    if settings.weights == "random":
        return Weights("random, for tests")
    if settings.weights != "pretrained":
        missing = "" if Path(settings.weights).is_file() else "no such file; give pretrained, random, or a weights file"
        return Weights(f"file {settings.weights}", missing)
    if settings.encoder != DEFAULT_ENCODER:
        return _of_timm(settings.encoder)
    try:
        return Weights(f"packaged ({default_weights().name})")
    except ConfigError as error:
        return Weights("packaged", str(error))


def feature_dim(settings: EncoderSettings) -> int | None:
    """Length of an encoder's feature vectors, by building it without weights; None where that cannot be done, or its
    configuration would have to be fetched from the Hub first.
    """
    if settings.encoder == DEFAULT_ENCODER:
        return DEFAULT_DIM
    if settings.encoder.startswith(HUB_PREFIXES) and not _is_cached(settings.encoder.partition(":")[2], ("config.json",)):
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


def _of_timm(name: str) -> Weights:
    if name.startswith(HUB_PREFIXES):
        return _of_hub(name.partition(":")[2], HUB_FILES)
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(name)
    if about is not None and about.hf_hub_id:
        return _of_hub(about.hf_hub_id, (about.hf_hub_filename,) if about.hf_hub_filename else HUB_FILES)
    if about is not None and about.url:
        return Weights(f"fetched from {about.url} on first use")
    return Weights("timm", "timm has no pretrained weights of it; give a file as `weights`")


def _of_hub(repository: str, files: tuple[str, ...]) -> Weights:
    from huggingface_hub import constants

    name, _, revision = repository.partition("@")
    if _is_cached(repository, files):
        return Weights(f"in the cache of the Hugging Face Hub ({name})")
    source = f"Hugging Face Hub ({name}), not in its cache"
    if constants.HF_HUB_OFFLINE:
        return Weights(source, "HF_HUB_OFFLINE forbids to fetch them; fetch them beforehand, or give a file as `weights`")
    return _asked_for(source, name, revision or None, files)


def _is_cached(repository: str, files: tuple[str, ...]) -> bool:
    """Whether one of the files of a repository is in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    return any(isinstance(try_to_load_from_cache(name, file, revision=revision or None), str) for file in files)


def _asked_for(source: str, name: str, revision: str | None, files: tuple[str, ...]) -> Weights:
    """What the Hub says."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for file in files:
        try:
            size = get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=HUB_TIMEOUT_S).size
        except EntryNotFoundError:
            continue
        except Exception as error:  # each version of the Hub's client has errors of its own
            said = next(iter(str(error).splitlines()), "") or type(error).__name__
            return Weights(source, f"cannot be fetched ({said}); check the network or log in, or give a file as `weights`")
        return Weights(f"{source}: fetched on first use ({(size or 0) / 1e6:.0f} MB)")
    return Weights(source, f"the Hub has none of {', '.join(files)} there; give a file as `weights`")
