"""By which names a browser may call the server, so that no page from elsewhere reaches it under a name of its own."""

import ipaddress
import socket
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

LOCAL_NAMES = ("localhost",)


class KnownHosts:
    """Refuses, with 400, what is asked for under a name that is not known; an address of numbers is always taken.

    A page elsewhere can have its own name point to this machine (DNS rebinding), and its script then reads what the server
    answers to that name. It can do so with a name only.
    """

    def __init__(self, app: Any, names: tuple[str, ...]):
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = host_name(Headers(scope=scope).get("host", "")) if scope["type"] == "http" else ""
        if scope["type"] != "http" or name in self._names or _is_address(name):
            await self._app(scope, receive, send)
            return
        text = f"this server is not called {name}; call it {' or '.join(sorted(self._names))}, or by its address in numbers"
        await PlainTextResponse(text, 400)(scope, receive, send)


def host_name(host: str) -> str:
    """The name in a `Host` header, without port, brackets and capitals."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def own_names(host: str) -> tuple[str, ...]:
    """Names that a server which listens at `host` is called by: this machine's own too where others can reach it."""
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
