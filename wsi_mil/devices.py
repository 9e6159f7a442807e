"""Which device computes, and in which number format it is fast."""

import ctypes
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from wsi_mil.errors import WsiMilError

log = logging.getLogger(__name__)


SECONDS_BETWEEN_TRIES = 0.5

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""

KEPT_BYTES = (1 << 31) - 1
"""Free memory at the end of the heap from which on it is handed back."""

_claimed: dict[str, FileLock] = {}
"""Locks that this process holds until it ends, by the identity of the GPU."""


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one, of no number yet where several may be.

    Raises:
        WsiMilError: the device that was asked for is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WsiMilError(f"--device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise WsiMilError(f"--device {name}: torch {torch.__version__} sees no CUDA device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise WsiMilError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here, counted from 0")
    return device


def create_device(name: str) -> torch.device:
    """The device of a name, for this process alone: a GPU is claimed until the process ends, so that jobs of one user on one
    machine never meet on one. Of several, the first that is free is taken; where none is, this waits.

    Torch sees only what CUDA_VISIBLE_DEVICES shows, so a mask set by a cluster or a user holds.

    Raises:
        WsiMilError: the device that was asked for is not there.
    """
    device = find_device(name)
    if device.type != "cuda":
        return device
    identities = {str(torch.cuda.get_device_properties(number).uuid): number for number in _numbers(device)}
    chosen = torch.device("cuda", identities[claim(list(identities))])
    torch.cuda.set_device(chosen)
    return chosen


def claim(identities: Sequence[str]) -> str:
    """Claim the first of these devices that no other process holds, and wait for one where all are held.

    The lock is the operating system's, which lets go of it when the process ends, however it does.

    Args:
        identities: of GPUs, the same for all processes on this machine.
    """
    held = next((identity for identity in identities if identity in _claimed), None)
    if held is not None:
        return held
    is_waiting = False
    while True:
        for identity in identities:
            lock = FileLock(Path(tempfile.gettempdir()) / f"wsi_mil-{os.getuid()}-{identity}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _claimed[identity] = lock
            return identity
        if not is_waiting:
            log.warning("other processes compute on %s; waiting for one of them", ", ".join(identities))
            is_waiting = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def describe(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        found = [(number, torch.cuda.get_device_properties(number)) for number in _numbers(device)]
        return ", ".join(f"cuda:{number}: {about.name}, {about.total_memory / 2**30:.0f} GiB" for number, about in found)
    return f"no GPU: {device.type}" if device.type == "cpu" else device.type


def memory_bytes(device: torch.device) -> int | None:
    """The memory of a device, of the machine for a CPU; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def fast_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; "auto" is bfloat16 where the device (each that may be taken) has instructions for it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        native = all(torch.cuda.get_device_capability(number) >= (8, 0) for number in _numbers(device))
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def set_threads(threads: int) -> None:
    """Hold torch to `threads`, and let it pick the same algorithms each time."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False


def reading_threads(device: torch.device, threads: int) -> int:
    """Of `threads`, those that read ahead while the device computes. On a CPU they take time from it: a quarter is enough."""
    return max(1, threads // 4) if device.type == "cpu" else threads


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next arrays: for work on a CPU that goes through many large ones.

    The C library of Linux (glibc) maps memory for each array above some megabytes and hands it back when it is freed. A
    network asks for such arrays at every layer, and the kernel fills each anew with zeros: over half of the time on a CPU.
    Peak memory stays what it was; between peaks less is handed back. Elsewhere (musl, macOS) this does nothing.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def make_deterministic() -> None:
    """Let torch pick algorithms that give the same sums each time, on GPUs too; it warns where there is none.

    Must run before the first CUDA call. Fresh memory is not filled: nothing here reads what was not written.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _numbers(device: torch.device) -> Sequence[int]:
    """Of the CUDA devices that may be taken for one."""
    return range(torch.cuda.device_count()) if device.index is None else [device.index]


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (avx512_bf16 or AMX); emulated it is slower than float32."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
