"""Find and fetch weights on the Hugging Face Hub or in its cache."""

import logging
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import WsiMilError

log = logging.getLogger(__name__)

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights files in a Hub repository; timm takes the first that exists."""

HUB_TIMEOUT_S = 10.0
SITE = "https://huggingface.co"


@dataclass(frozen=True)
class HubModel:
    """Model in a repository of the Hub.

    Attributes:
        revision: commit, tag or branch; None: main.
        files: candidate names of the weights file; the first that exists is used.
    """

    repository: str
    revision: str | None = None
    files: tuple[str, ...] = HUB_FILES

    @property
    def page(self) -> str:
        """Return the URL of the model's page, where its licence is accepted."""
        return f"{SITE}/{self.repository}"

    @property
    def url(self) -> str:
        """Return the URL of the weights file."""
        return f"{self.page}/resolve/{self.revision or 'main'}/{self.files[0]}"

    @property
    def identity(self) -> str:
        """Return repository and revision, which identify the content before and after it is fetched."""
        return f"{self.repository}@{self.revision or 'main'}"


def cached_file(model: HubModel) -> Path | None:
    """Return a model's weights file in the cache of the Hub; None if it is not cached."""
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(model.repository, file, revision=model.revision) for file in model.files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids downloads."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_file(model: HubModel, *, licence: str) -> Path:
    """Return a model's weights file, downloaded into the Hub's cache if needed (the Hub's client locks it).

    Raises:
        WsiMilError: the file cannot be downloaded; the message says how to get it.
    """
    from huggingface_hub import hf_hub_download

    cached = cached_file(model)
    if cached is not None:
        return cached
    answer = query_hub(model, licence=licence)  # answers at once; the client would retry for a minute
    if answer.refusal:
        raise WsiMilError(answer.refusal)
    log.info("fetching %s of %s (%.0f MB)", answer.file, model.identity, answer.size / 1e6)
    try:
        return Path(hf_hub_download(model.repository, answer.file, revision=model.revision))
    except Exception as error:  # each version of the Hub's client has errors of its own
        raise WsiMilError(_refusal(model, error, licence)) from error


@dataclass(frozen=True)
class HubAnswer:
    """The Hub's answer about a model's weights.

    Attributes:
        file: name of the weights file.
        size: size of the file, bytes.
        refusal: why the weights are not available and how to get them, in one line; "" if they are.
    """

    file: str = ""
    size: int = 0
    refusal: str = ""


def query_hub(model: HubModel, *, licence: str = "") -> HubAnswer:
    """Ask the Hub for a model's weights without downloading them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if is_offline():
        return HubAnswer(refusal=f"HF_HUB_OFFLINE forbids downloads; {manual_download(model)}")
    for file in model.files:
        try:
            metadata = get_hf_file_metadata(hf_hub_url(model.repository, file, revision=model.revision), timeout=HUB_TIMEOUT_S)
            return HubAnswer(file, metadata.size or 0)
        except EntryNotFoundError:
            continue
        except Exception as error:  # each version of the Hub's client has errors of its own
            return HubAnswer(refusal=_refusal(model, error, licence))
    return HubAnswer(refusal=f"the Hub has none of {', '.join(model.files)} in {model.identity}; give a file as `weights`")


def _refusal(model: HubModel, error: Exception, licence: str) -> str:
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError):
        why = f"the Hub requires that you accept the licence{f' ({licence})' if licence else ''} at {model.page}"
        return f"{why}: accept it and log in with `hf auth login`, or {manual_download(model)}"
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"cannot be fetched ({reason}); check the network or log in, or {manual_download(model)}"


def manual_download(model: HubModel) -> str:
    """Return how to get the weights by hand: the URL, and the setting for the file."""
    return f"download {model.url} elsewhere and set `weights: /path/to/{model.files[0]}`"
