"""Choice of the compute device, its exclusive use, and the floating-point format that is fast on it."""

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
from wsi_mil.runtime.hardware import BFLOAT16_MAJOR, cpu_format

log = logging.getLogger(__name__)


RETRY_SECONDS = 0.5
"""Time between two attempts to claim a GPU."""

M_TRIM_THRESHOLD = -1
"""Option of glibc's mallopt (malloc.h)."""
M_MMAP_MAX = -4
"""Option of glibc's mallopt (malloc.h)."""

TRIM_THRESHOLD_BYTES = (1 << 31) - 1
"""Free memory at the top of the heap above which glibc returns it to the system."""

_claimed: dict[str, FileLock] = {}
"""Locks that this process holds until it ends, by UUID of the GPU."""


def find_device(name: str) -> torch.device:
    """Return the device of a name without claiming it.

    "auto" is a GPU if there is one, else the CPU. A CUDA device has no number yet if any of several may be taken.

    Raises:
        WsiMilError: the device does not exist.
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
    """Return the device of a name, and claim a GPU for this process until it ends.

    Jobs of one user on one machine therefore never share a GPU. Of several GPUs the first free one is taken; if none is
    free, this waits. Torch sees only the GPUs in CUDA_VISIBLE_DEVICES, so a mask set by a cluster or a user applies.

    Raises:
        WsiMilError: the device does not exist.
    """
    device = find_device(name)
    if device.type != "cuda":
        return device
    number_of = {str(torch.cuda.get_device_properties(number).uuid): number for number in _cuda_numbers(device)}
    claimed = torch.device("cuda", number_of[claim(list(number_of))])
    torch.cuda.set_device(claimed)
    return claimed


def claim(uuids: Sequence[str]) -> str:
    """Claim the first of several GPUs that no other process holds; wait if all are held.

    The lock belongs to the operating system, which releases it when the process ends for whatever reason.

    Args:
        uuids: identities of the GPUs, the same for all processes on this machine.

    Returns:
        UUID of the claimed GPU; of one that this process holds already, if it is among them.
    """
    held = next((uuid for uuid in uuids if uuid in _claimed), None)
    if held is not None:
        return held
    is_waiting = False
    while True:
        for uuid in uuids:
            lock = FileLock(Path(tempfile.gettempdir()) / f"wsi_mil-{os.getuid()}-{uuid}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _claimed[uuid] = lock
            return uuid
        if not is_waiting:
            log.warning("other processes use %s; waiting until one of them ends", ", ".join(uuids))
            is_waiting = True
        time.sleep(RETRY_SECONDS)


def describe(device: torch.device) -> str:
    """Return a description of a device: name and memory of each GPU that may be taken."""
    if device.type == "cuda":
        gpus = [(number, torch.cuda.get_device_properties(number)) for number in _cuda_numbers(device)]
        return ", ".join(f"cuda:{number}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for number, gpu in gpus)
    return f"no GPU: {device.type}" if device.type == "cpu" else device.type


def memory_bytes(device: torch.device) -> int | None:
    """The memory of a device, of the machine for a CPU; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def fast_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a name; "auto" is bfloat16 if the device (each that may be taken) computes in it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        is_native = all(torch.cuda.get_device_capability(number) >= (BFLOAT16_MAJOR, 0) for number in _cuda_numbers(device))
    else:
        is_native = device.type == "cpu" and cpu_format() == "bfloat16"
    return torch.bfloat16 if is_native else torch.float32


def set_threads(threads: int) -> None:
    """Limit torch to `threads` CPU threads, and have cuDNN choose its algorithms without timing them."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False


def reading_threads(device: torch.device, threads: int) -> int:
    """Return how many of `threads` read tiles while the device computes.

    On a CPU, reading competes with computing: a quarter of the threads is enough.
    """
    return max(1, threads // 4) if device.type == "cpu" else threads


def keep_freed_memory() -> None:
    """Make this process reuse freed memory for its next arrays, for computations on a CPU with many large arrays.

    The C library of Linux (glibc) maps memory for each array above some megabytes and returns it when it is freed. A
    network allocates such arrays at every layer, and the kernel zeroes each of them: over half of the time on a CPU. Peak
    memory does not change; between peaks less is returned. On other systems (musl, macOS) this does nothing.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def make_deterministic() -> None:
    """Make torch use deterministic algorithms, on GPUs too; it warns about operations that have none.

    Must run before the first CUDA call. New tensors are not filled: no code here reads uninitialised memory.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _cuda_numbers(device: torch.device) -> Sequence[int]:
    """Return the numbers of the CUDA devices that may be taken for `device`."""
    return range(torch.cuda.device_count()) if device.index is None else [device.index]
