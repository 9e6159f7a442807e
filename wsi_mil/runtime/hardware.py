"""The number format in which this machine computes fast, asked of the system without importing torch."""

import ctypes
import sys
from pathlib import Path
from typing import Any, Literal

NumberFormat = Literal["float32", "bfloat16"]

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Instructions for bfloat16 of a CPU; without them it is slower than float32."""

BFLOAT16_MAJOR = 8
"""Compute capability from which NVIDIA's GPUs compute in bfloat16: Ampere."""

GPU_FILES = ("nvidia*", "dxg", "nvhost*", "nvmap", "kfd")
"""Files in /dev through which a GPU of NVIDIA (Linux, Windows' Linux, Jetson) or AMD is reached; torch needs one of them."""

_SUCCESS, _NO_DEVICE, _MAJOR = 0, 100, 75
"""CUDA_SUCCESS, CUDA_ERROR_NO_DEVICE, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR (cuda.h)."""


def fast_format(device: str) -> NumberFormat | None:
    """Return the number format that `devices.fast_dtype` chooses by "auto", as far as that is known without torch.

    Asks NVIDIA's driver, which a process must not do before it forks others that use the GPU.

    Args:
        device: name of the device, as for `devices.find_device`.

    Returns:
        None if only torch can tell. A GPU that the driver has and torch cannot use counts, so the answer is no more than
        likely where there is one.
    """
    if device == "cpu" or (sys.platform == "darwin" and device in ("auto", "mps")):
        return cpu_format()
    if device != "auto" or sys.platform != "linux":
        return None
    if not any(file for pattern in GPU_FILES for file in Path("/dev").glob(pattern)):
        return cpu_format()
    try:
        majors = nvidia_majors(ctypes.CDLL("libcuda.so.1"))
    except (OSError, AttributeError):  # AMD's GPU, or no driver
        return None
    if majors is None:
        return None
    return ("bfloat16" if min(majors) >= BFLOAT16_MAJOR else "float32") if majors else cpu_format()


def cpu_format() -> NumberFormat:
    """Return the number format in which the CPU computes fast."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return "float32"
    return "bfloat16" if BFLOAT16_FLAGS & set(flags) else "float32"


def nvidia_majors(driver: Any) -> list[int] | None:
    """Return the major compute capability of each GPU that this process may use (CUDA_VISIBLE_DEVICES applies).

    Args:
        driver: NVIDIA's driver library, libcuda.

    Returns:
        None if the driver answers with an error.
    """
    started = driver.cuInit(0)
    if started == _NO_DEVICE:
        return []
    count, device, major = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    codes, majors = [started, driver.cuDeviceGetCount(ctypes.byref(count))], []
    for number in range(count.value):
        codes.append(driver.cuDeviceGet(ctypes.byref(device), number))
        codes.append(driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device))
        majors.append(major.value)
    return None if any(code != _SUCCESS for code in codes) else majors
