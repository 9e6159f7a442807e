"""Running the application on a free port. The only importer of uvicorn."""

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
"""All addresses of this machine: no address to call it by."""


def serve(catalogue: Catalogue, *, host: str, port: int) -> None:
    """Show a results folder until interrupted.

    Args:
        catalogue: the folder.
        host: address to listen at; other machines reach it only where that is not 127.0.0.1.
        port: to listen at, or the next free one.

    Raises:
        ConfigError: no such address, or no free port.
    """
    listening = free_socket(host, port)
    found = listening.getsockname()[1]
    if found != port:
        log.warning("port %d is in use; taking %d", port, found)
    names = own_names(host)
    if names != LOCAL_NAMES:
        log.warning("anyone who reaches %s at port %d can see these slides: there is no password", host, found)
    shown = socket.gethostname() if host in ANY else f"[{host}]" if ":" in host else host
    print(f"showing {catalogue.results} at http://{shown}:{found}/ (Ctrl-C stops it)", flush=True)
    uvicorn.Server(uvicorn.Config(create_app(catalogue, names=names), log_level="warning", access_log=False)).run([listening])


def free_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at the first free port from `port` on; 0: any.

    Raises:
        ConfigError: no such address, or no free port.
    """
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        # With its protocol named, asyncio sends small answers at once; else each waits 40 ms for the browser's word.
        found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, number))
            found.listen()
            return found
        except OSError as error:
            found.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError([f"--host {host}: cannot listen at port {number} there ({error})"]) from error
    raise ConfigError([f"--port {port}: no free port from there to {port + PORTS_TRIED - 1} at {host}"])
