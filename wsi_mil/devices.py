"""Which device computes, and in which number format it is fast."""

import os
from pathlib import Path

import torch

from wsi_mil.errors import WsiMilError


def create_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one.

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
    return device


def describe(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"{device}: {about.name}, {about.total_memory / 2**30:.0f} GiB"
    return f"no GPU: {device.type}" if device.type == "cpu" else device.type


def fast_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; "auto" is bfloat16 where the device has instructions for it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def set_threads(threads: int) -> None:
    """Hold torch to `threads`, and let it pick the same algorithms each time."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False


def make_deterministic() -> None:
    """Let torch pick algorithms that give the same sums each time, on GPUs too; it warns where there is none.

    Must run before the first CUDA call. Fresh memory is not filled: nothing here reads what was not written.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (avx512_bf16 or AMX); emulated it is slower than float32."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
