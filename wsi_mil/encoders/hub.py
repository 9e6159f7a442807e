"""Weights on the Hugging Face Hub: looked for in its cache, asked for, fetched; and what to bring where that cannot be."""

import logging
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import WsiMilError

log = logging.getLogger(__name__)

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm takes from a repository of the Hugging Face Hub, the first that is there."""

HUB_TIMEOUT_S = 10.0
SITE = "https://huggingface.co"


@dataclass(frozen=True)
class HubModel:
    """Weights in a repository of the Hub.

    Attributes:
        revision: commit, tag or branch; None: main.
        files: that hold the weights, the first that is there.
    """

    repository: str
    revision: str | None = None
    files: tuple[str, ...] = HUB_FILES

    @property
    def page(self) -> str:
        """Where the licence is read and accepted."""
        return f"{SITE}/{self.repository}"

    @property
    def url(self) -> str:
        """Where the weights file is."""
        return f"{self.page}/resolve/{self.revision or 'main'}/{self.files[0]}"

    @property
    def identity(self) -> str:
        """Repository and revision: a commit names its content, so this is the same before and after it is fetched."""
        return f"{self.repository}@{self.revision or 'main'}"


def cached_file(model: HubModel) -> Path | None:
    """Its weights file in the cache of the Hub."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(model.repository, file, revision=model.revision) for file in model.files)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to fetch anything."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_file(model: HubModel, *, licence: str) -> Path:
    """Its weights file, fetched into the cache of the Hub where it is not there yet (the Hub's client locks it).

    Raises:
        WsiMilError: with what to do, and with the file to bring where nothing can be fetched.
    """
    from huggingface_hub import hf_hub_download

    found = cached_file(model)
    if found is not None:
        return found
    answer = asked_for(model, licence=licence)  # at once, where the client would try again for a minute
    if answer.refusal:
        raise WsiMilError(answer.refusal)
    log.info("fetching %s of %s (%.0f MB)", answer.file, model.identity, answer.size / 1e6)
    try:
        return Path(hf_hub_download(model.repository, answer.file, revision=model.revision))
    except Exception as error:  # each version of the Hub's client has errors of its own
        raise WsiMilError(_refusal(model, error, licence)) from error


@dataclass(frozen=True)
class Answer:
    """What the Hub says of a model's weights.

    Attributes:
        file: that holds them.
        size: of it, bytes.
        refusal: why they cannot be had, and what mends it, in a line; "" where they can.
    """

    file: str = ""
    size: int = 0
    refusal: str = ""


def asked_for(model: HubModel, *, licence: str = "") -> Answer:
    """Ask the Hub for a model's weights without fetching them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if is_offline():
        return Answer(refusal=f"HF_HUB_OFFLINE forbids to fetch them; {bring(model)}")
    for file in model.files:
        try:
            about = get_hf_file_metadata(hf_hub_url(model.repository, file, revision=model.revision), timeout=HUB_TIMEOUT_S)
            return Answer(file, about.size or 0)
        except EntryNotFoundError:
            continue
        except Exception as error:  # each version of the Hub's client has errors of its own
            return Answer(refusal=_refusal(model, error, licence))
    return Answer(refusal=f"the Hub has none of {', '.join(model.files)} in {model.identity}; give a file as `weights`")


def _refusal(model: HubModel, error: Exception, licence: str) -> str:
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError):
        why = f"the Hub gives them only to those who accepted the licence{f' ({licence})' if licence else ''} at {model.page}"
        return f"{why}: accept it and log in with `hf auth login`, or {bring(model)}"
    said = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"cannot be fetched ({said}); check the network or log in, or {bring(model)}"


def bring(model: HubModel) -> str:
    """The file to bring, and where to say so."""
    return f"fetch {model.url} elsewhere and set `weights: /path/to/{model.files[0]}`"
