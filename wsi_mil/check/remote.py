"""Query the versions of slides on servers before a run, many in parallel."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from wsi_mil.check.rows import is_tiled, tilings_of_encoders
from wsi_mil.config import Config
from wsi_mil.errors import MissingFileError, SilentServerError, SlideError, StoreError, UnreachableError
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.results import Results

MAX_REQUESTS = 16
"""Number of parallel requests."""


@dataclass
class Versions:
    """Versions of the slides of a sheet that are on servers.

    Attributes:
        by_slide: version by slide_id, which changes with the slide's content. A missing or unreachable slide has the version
            that was tiled, so that nothing is computed again; it has none if it was never tiled.
        faults: problems that prevent reading from a kind of server, such as missing packages.
        warnings: missing slides, servers that do not answer.
    """

    by_slide: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def remote_versions(rows: Iterable[SlideRow], config: Config) -> Versions:
    """Query the version of every slide on a server; a server that does not answer is not asked again."""
    versions = Versions()
    remote = {row.slide_id: row.path for row in rows if isinstance(row.path, str)}
    if not config.extracted or not remote:
        return versions
    from wsi_mil.slides import remote_object  # here: sheets without slides on servers need no reader

    silent = set[str]()

    def query(slide: tuple[str, str]) -> tuple[str, str, Exception | None]:
        slide_id, url = slide
        host = urlsplit(url).netloc
        if host in silent:
            return slide_id, "", None
        try:
            return slide_id, remote_object(url).version, None
        except (SlideError, MissingFileError, UnreachableError) as error:
            silent.update([host] if isinstance(error, SilentServerError) else [])
            return slide_id, "", error

    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        answers = list(pool.map(query, remote.items()))
    for slide_id, version, error in answers:
        if isinstance(error, MissingFileError):
            versions.faults.append(f"slide {slide_id}: {error}")
        elif error is not None:
            fallback = "; its existing results are used" if is_tiled(slide_id, config) else ""
            versions.warnings.append(f"slide {slide_id}: {error}{fallback}")
        version = version or _tiled_version(slide_id, config)
        versions.by_slide |= {slide_id: version} if version else {}
    n_unasked = sum(error is None and not version for _, version, error in answers)
    if n_unasked:
        versions.warnings.append(f"{n_unasked} more slides on servers that do not answer were not checked")
    return versions


def _tiled_version(slide_id: str, config: Config) -> str:
    """Version of the slide that was tiled, or ""."""
    for name in sorted(tilings_of_encoders(config)):
        try:
            return str(read_receipt(Results(config.results).tiles_receipt(name, slide_id)).get("remote", ""))
        except StoreError:
            continue
    return ""
