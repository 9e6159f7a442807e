"""Slides on servers: which version of each is there, asked of all at once before a run."""

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
from wsi_mil.slides import remote_object

AT_ONCE = 16
"""Requests."""


@dataclass
class Versions:
    """What servers say of the slides of a sheet.

    Attributes:
        by_slide: by slide_id, what changes with the slide's content. Of one that is gone or out of reach that of what was
            tiled, so that nothing is made anew for it; none where it was not.
        faults: what keeps every slide of a kind of server from being read.
        warnings: slides that are not there, servers that do not answer.
    """

    by_slide: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def remote_versions(rows: Iterable[SlideRow], config: Config) -> Versions:
    """Ask every server; one that does not answer is not asked again."""
    found, remote = Versions(), {row.slide_id: row.path for row in rows if isinstance(row.path, str)}
    silent = set[str]()

    def ask(slide: tuple[str, str]) -> tuple[str, str, Exception | None]:
        slide_id, url = slide
        host = urlsplit(url).netloc
        if host in silent:
            return slide_id, "", None
        try:
            return slide_id, remote_object(url).version, None
        except (SlideError, MissingFileError, UnreachableError) as error:
            silent.update([host] if isinstance(error, SilentServerError) else [])
            return slide_id, "", error

    if not config.extracted or not remote:
        return found
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, remote.items()))
    for slide_id, version, error in answers:
        if isinstance(error, MissingFileError):
            found.faults.append(f"slide {slide_id}: {error}")
        elif error is not None:
            kept = "; what was made from it is used" if is_tiled(slide_id, config) else ""
            found.warnings.append(f"slide {slide_id}: {error}{kept}")
        version = version or _tiled_version(slide_id, config)
        found.by_slide |= {slide_id: version} if version else {}
    n_unasked = sum(error is None and not version for _, version, error in answers)
    if n_unasked:
        found.warnings.append(f"{n_unasked} more slides on servers that do not answer were not asked for")
    return found


def _tiled_version(slide_id: str, config: Config) -> str:
    """Of what was tiled, or ""."""
    for name in sorted(tilings_of_encoders(config)):
        try:
            return str(read_receipt(Results(config.results).tiles_receipt(name, slide_id)).get("remote", ""))
        except StoreError:
            continue
    return ""
