"""`wsi-mil` without start-up time: a server that has imported the package forks for every call.

Importing torch and timm takes seconds of CPU time per job, the work on a slide of the tests hundredths of a second. The
server only imports; each call runs in a process of its own, with the caller's folder, environment, streams and exit status.
"""

import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
ALSO_NEEDED = ("sklearn.metrics", "sklearn.model_selection", "scipy.spatial", "scipy.sparse", "dask.base", "dask.threaded")
"""Modules that commands import inside functions."""

CALL = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    sys.exit(server.recv(1)[0])
"""
"""Script that passes its call to the server; without a server it ends with an IndexError."""


@contextmanager
def forking_command() -> Iterator[Path]:
    """Start the server; yield the path of a script that behaves like `wsi-mil` until the context ends."""
    with TemporaryDirectory() as folder:  # a socket's address must be shorter than pytest's folders are
        command, address = Path(folder) / "wsi-mil", f"{folder}/calls"
        command.write_text(CALL.format(python=sys.executable, address=address))
        command.chmod(0o755)
        program = [sys.executable, "-c", f"from tests.forks import serve; serve({address!r})"]
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            try:
                yield command
            finally:
                server.terminate()


def serve(address: str) -> None:
    """Fork for every call that the socket receives, until the process is terminated."""
    for module in pkgutil.walk_packages(importlib.import_module("wsi_mil").__path__, "wsi_mil."):
        if module.name != "wsi_mil.__main__":
            importlib.import_module(module.name)
    for name in ALSO_NEEDED:
        importlib.import_module(name)
    calls = dict[int, socket.socket]()
    signal.signal(signal.SIGCHLD, lambda *_: _answer_ended(calls))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # a call may end before it is registered
            child = os.fork()
            if child == 0:
                try:
                    os._exit(_run(connection))
                finally:
                    os._exit(1)
            calls[child] = connection
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def _answer_ended(calls: dict[int, socket.socket]) -> None:
    """Send the status of calls that have ended; only then have they released their locks on files."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            code = os.waitstatus_to_exitcode(ended[1])
            with calls.pop(ended[0]) as connection, suppress(OSError):  # the caller may have ended
                connection.sendall(bytes([code if code >= 0 else 128 - code]))


def _run(connection: socket.socket) -> int:
    """Run `wsi-mil` as it was called; return its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    header, streams, *_ = socket.recv_fds(connection, 4, 3)
    size = int.from_bytes(header, "big")
    with connection.makefile("rb") as file:
        sys.argv, folder, environment = json.loads(file.read(size))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # New stream objects: those of the parent cache whether its files are seekable, and these may be pipes.
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    status = _status()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _status() -> int:
    from wsi_mil.cli import main

    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
