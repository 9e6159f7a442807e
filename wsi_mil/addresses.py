"""URLs of slides on servers: supported schemes, and removal of secrets before display."""

import re
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlsplit

SCHEMES = ("s3", "https", "http")
"""URL schemes that a sheet may contain."""

SEVERAL_FILES = (".mrxs", ".vms", ".vmu", ".dcm")
"""Endings of slides that consist of several files."""

_LOGIN = re.compile(r"(\w+://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(\w+://[^\s?#'\"]+)[?#][^\s'\"]*")


def is_url(path: Path | str) -> TypeGuard[str]:
    """Return whether a path is a URL, not a local file."""
    return isinstance(path, str) and "://" in path


def without_secrets(text: str) -> str:
    """Remove user, password and query from the URLs in a text; a signed query is a password, too."""
    return _QUERY.sub(r"\1?…", _LOGIN.sub(r"\1…@", text))


def secret_fault(url: str) -> str:
    """Return why a URL must be neither used nor shown, without repeating its secrets, or ""."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"path {without_secrets(url)!r} is no valid URL"
    if "@" in parts.netloc:
        what = "user or password"
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        what = "a query or fragment (a signed one is a password, and expires)"
    else:
        return ""
    return (
        f"path {without_secrets(url)!r} contains {what}, which would appear in plan, logs and results: remove it; credentials are"
        " taken from the environment (AWS_…) or from fsspec's configuration (see docs/remote.md)"
    )


def url_fault(url: str) -> str:
    """Return why a slide of the sheet cannot be read from a URL, without its secrets, or ""."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        return f"path {without_secrets(url)!r}: slides are read from {', '.join(f'{s}://' for s in SCHEMES)}, not {scheme}://"
    fault = secret_fault(url)
    if fault:
        return fault
    if not all(rest.partition("/")[::2]):
        return f"path {url!r} names no file: expected {scheme}://{'bucket' if scheme == 's3' else 'host'}/folder/slide"
    if url.lower().endswith(SEVERAL_FILES):
        return f"path {url!r} is a slide of several files, which a URL cannot name: download them and give the local path"
    return ""
