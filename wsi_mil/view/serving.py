"""Run the application on a free port. The only importer of uvicorn."""

import errno
import logging
import socket

import uvicorn

from wsi_mil.errors import ConfigError
from wsi_mil.view.catalogue import Catalogue
from wsi_mil.view.hosts import LOCAL_NAMES, own_names
from wsi_mil.view.server import create_app

log = logging.getLogger(__name__)

PORTS_TRIED = 50
ANY = ("0.0.0.0", "::")
"""Wildcard addresses, which mean all addresses of this machine and cannot be opened in a browser."""


def serve(catalogue: Catalogue, *, host: str, port: int) -> None:
    """Serve the pages of a results folder until interrupted.

    Args:
        catalogue: the results folder.
        host: address to listen on; other machines can connect unless it is 127.0.0.1.
        port: port to listen on; if in use, the next free one.

    Raises:
        ConfigError: the address is not available, or no port is free.
    """
    listening_socket = free_socket(host, port)
    free_port = listening_socket.getsockname()[1]
    if free_port != port:
        log.warning("port %d is in use; using %d", port, free_port)
    names = own_names(host)
    if names != LOCAL_NAMES:
        log.warning("anyone who can reach %s port %d can see these slides: there is no password", host, free_port)
    url_host = socket.gethostname() if host in ANY else f"[{host}]" if ":" in host else host
    print(f"showing {catalogue.results} at http://{url_host}:{free_port}/ (press Ctrl-C to stop)", flush=True)
    config = uvicorn.Config(create_app(catalogue, names=names), log_level="warning", access_log=False)
    uvicorn.Server(config).run([listening_socket])


def free_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the first free port from `port` on; 0 means any port.

    Raises:
        ConfigError: the address is not available, or no port is free.
    """
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        # asyncio sets TCP_NODELAY only if the protocol is named; without it small responses are delayed by 40 ms
        candidate = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((host, number))
            candidate.listen()
            return candidate
        except OSError as error:
            candidate.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError([f"--host {host}: cannot listen on port {number} of this address ({error})"]) from error
    raise ConfigError([f"--port {port}: no free port from {port} to {port + PORTS_TRIED - 1} on {host}"])
