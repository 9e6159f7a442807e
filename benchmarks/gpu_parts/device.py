"""Find the CUDA device that `make gpu` uses. The last line is JSON: the device, or the reason why there is none."""

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from wsi_mil.devices import fast_dtype
from wsi_mil.encoders.encoder import OUT_OF_MEMORY
from wsi_mil.runtime.threads import usable_cores

GIB = 1 << 30
NOT_KNOWN = "not known"
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


def torch_device(name: str) -> torch.device:
    """Return a device for measurements, as the current one.

    It is not claimed as by the stages: if another process holds it, figures suffer, but nothing waits.
    """
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def finish(device: torch.device) -> None:
    """Wait until a CUDA device has done its work; other devices have done it already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Return unused memory of a CUDA device, and count its peak from now on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> tuple[float, float]:
    """Return the peak of the memory in tensors, and of the memory that torch reserved for them, in GB.

    On a CPU both are the peak of the process since its start, with everything that it holds.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9, torch.cuda.max_memory_reserved(device) / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return peak, peak


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means too little memory of a device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or any(words in text for words in OUT_OF_MEMORY)


def most_free(free_bytes: Sequence[int]) -> int:
    """Return the number of the device with the most free memory, the first of several."""
    return max(range(len(free_bytes)), key=lambda number: (free_bytes[number], -number))


def driver_version(file: Path = KERNEL_DRIVER) -> str:
    """Return the version of the NVIDIA driver, from the kernel's file or from nvidia-smi; neither need exist."""
    if file.is_file():
        first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        version = next((word for word in first.split() if word[:1].isdigit() and "." in word), None)
        if version:
            return version
    return _said_by_nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader") or NOT_KNOWN


def hidden_gpu() -> str:
    """Return what shows that the machine has a GPU that torch should see, or an empty text."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return ""  # hidden on purpose
    return _said_by_nvidia_smi("--list-gpus")


def _said_by_nvidia_smi(*options: str) -> str:
    """First line that nvidia-smi prints, or an empty text."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *options], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def software() -> dict[str, object]:
    """Return versions and cores, which do not depend on the device."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "python": platform.python_version(),
        "cores": usable_cores(),
        "float32_products": torch.get_float32_matmul_precision(),
    }


def describe_cpu() -> dict[str, object]:
    device = torch.device("cpu")
    about = {"device": "cpu", "name": platform.processor() or platform.machine(), "driver": "none"}
    return {**about, **software(), "dtype": str(fast_dtype("auto", device)).removeprefix("torch.")}


def describe_cuda() -> dict[str, object]:
    """Return the device with the most free memory, after a first computation on it.

    Raises:
        RuntimeError: the device cannot be used: too old for this torch, held by another process in exclusive mode, …
    """
    free = [torch.cuda.mem_get_info(number) for number in range(torch.cuda.device_count())]
    number = most_free([bytes_[0] for bytes_ in free])
    device = torch_device(f"cuda:{number}")
    total = (torch.ones(4, device=device) * 2).sum().item()
    if total != 8:
        raise RuntimeError(f"four times two is {total} on it")
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": str(device),
        "name": properties.name,
        "memory_gib": round(properties.total_memory / GIB, 1),
        "free_gib": round(free[number][0] / GIB, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver_version(),
        **software(),
        "dtype": str(fast_dtype("auto", device)).removeprefix("torch."),
    }


def find() -> dict[str, object]:
    """Return the CUDA device, or why there is none: `absent`, or `fault` if there is one that cannot be used."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if not is_there:
        said = "; ".join(str(warning.message).partition("\n")[0] for warning in caught)
        sees_none = f"torch {torch.__version__} sees no CUDA device"
        if gpu := hidden_gpu():
            return {"fault": f"nvidia-smi lists {gpu}, but {sees_none} ({said or 'no reason given'})"}
        return {"absent": f"{sees_none} here"}
    try:
        return describe_cuda()
    except RuntimeError as error:
        return {"fault": f"the CUDA device cannot be used: {str(error).partition(chr(10))[0]}"}


if __name__ == "__main__":
    print(json.dumps(describe_cpu() if sys.argv[1:] == ["cpu"] else find()))
