"""Check the host names of requests, so that no foreign web page can reach the server under a name of its own."""

import ipaddress
import socket
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

LOCAL_NAMES = ("localhost",)


class HostCheck:
    """Middleware that answers 400 to requests with an unknown host name; IP addresses are always accepted.

    A foreign web page can make its own name resolve to this machine (DNS rebinding), so that its script can read the
    server's answers. This attack needs a name; it does not work with an IP address.
    """

    def __init__(self, app: Any, names: tuple[str, ...]):
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = host_name(Headers(scope=scope).get("host", "")) if scope["type"] == "http" else ""
        if scope["type"] != "http" or name in self._names or _is_address(name):
            await self._app(scope, receive, send)
            return
        text = f"unknown host name {name}; use {' or '.join(sorted(self._names))}, or the IP address"
        await PlainTextResponse(text, 400)(scope, receive, send)


def host_name(host: str) -> str:
    """Return the name in a `Host` header in lower case, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def own_names(host: str) -> tuple[str, ...]:
    """Return the accepted names of a server that listens on `host`; with the machine's names if others can reach it."""
    if (_is_address(host) and ipaddress.ip_address(host).is_loopback) or host in LOCAL_NAMES:
        return LOCAL_NAMES
    short = socket.gethostname()
    names = (*LOCAL_NAMES, short, f"{short}.local", socket.getfqdn())
    return names if _is_address(host) else (*names, host)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
