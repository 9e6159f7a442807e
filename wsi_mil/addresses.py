"""Addresses of slides that lie on a server: which are taken, and how they are shown."""

import re
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlsplit

SCHEMES = ("s3", "https", "http")
"""That may stand in a sheet."""

SEVERAL_FILES = (".mrxs", ".vms", ".vmu", ".dcm")
"""Slides that are more than the file they are named by."""

_LOGIN = re.compile(r"(\w+://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(\w+://[^\s?#'\"]+)[?#][^\s'\"]*")


def is_url(path: Path | str) -> TypeGuard[str]:
    """Whether it is an address, not a local file."""
    return isinstance(path, str) and "://" in path


def without_secrets(text: str) -> str:
    """Text whose addresses have lost user, password and query: a signed query is a password, too."""
    return _QUERY.sub(r"\1?…", _LOGIN.sub(r"\1…@", text))


def secret_fault(url: str) -> str:
    """What keeps an address from being used or shown anywhere, in words that do not repeat it, or ""."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"path {without_secrets(url)!r} is no address"
    if "@" in parts.netloc:
        what = "user or password"
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        what = "a query or fragment (a signed one is a password, and expires)"
    else:
        return ""
    return (
        f"path {without_secrets(url)!r} holds {what}, which would stand in plan, logs and results: take it out; credentials come"
        " from the environment (AWS_…) or from fsspec's configuration (see docs/remote.md)"
    )


def url_fault(url: str) -> str:
    """Why a slide of the sheet cannot be read from an address, or ""; without secrets."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        return f"path {without_secrets(url)!r}: slides are read from {', '.join(f'{s}://' for s in SCHEMES)}, not {scheme}://"
    fault = secret_fault(url)
    if fault:
        return fault
    if not all(rest.partition("/")[::2]):
        return f"path {url!r} names no file: expected {scheme}://{'bucket' if scheme == 's3' else 'host'}/folder/slide"
    if url.lower().endswith(SEVERAL_FILES):
        return f"path {url!r} is a slide of several files, which an address cannot name: bring them, and give the local path"
    return ""
