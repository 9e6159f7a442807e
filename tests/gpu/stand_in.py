"""A stand-in for CUDA on machines without it: tensors in the memory of the CPU that claim to be on `cuda:0`.

Every call of torch is checked as CUDA checks it: tensors of both places in one call are an error, as is `.numpy()` of a tensor
on the GPU. Values are computed on the CPU. What it does not show: kernels, streams, autocast on CUDA, memory, speed.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda:0")
MAY_MIX = {"copy_", "__getitem__", "__setitem__", "to", "cpu", "cuda", "type_as", "__set__", "_has_compatible_shallow_copy_type"}
"""Calls that take tensors of both places: copies, and indices from the CPU."""
NEED_CPU = {"numpy", "__array__"}


class StandIn(TorchFunctionMode):
    """While it is entered, `device="cuda"` gives tensors that are marked as being there."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__" and isinstance(args[0], Tensor):
            owner = getattr(func, "__self__", None)
            if owner in (Tensor.device, Tensor.is_cuda) and is_there(args[0]):
                return CUDA if owner is Tensor.device else True
        inputs = list(tensors((args, kwargs)))
        places = {is_there(t) for t in inputs if t.ndim}
        if len(places) == 2 and name not in MAY_MIX:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {name}")
        if name in NEED_CPU and is_there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        asked, args, kwargs = without_device(name, args, kwargs)
        kwargs.pop("pin_memory", None)
        result = func(*args, **kwargs)
        if name == "__set__" and len(inputs) == 2:
            args[0].is_there = is_there(inputs[1])
        there = is_there(inputs[0] if name in MAY_MIX else None) or any(map(is_there, inputs)) if asked is None else asked
        return marked(result, inputs, there=there)


def is_there(tensor: Tensor | None) -> bool:
    """Whether a tensor claims to be on the GPU."""
    return bool(getattr(tensor, "is_there", False))


def tensors(value: object) -> Iterator[Tensor]:
    """Yield all tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def marked(result: Any, inputs: list[Tensor], *, there: bool) -> Any:
    """Mark the tensors of a result; a result that is one of the inputs keeps its place, and a copy to another is a new one."""
    if isinstance(result, Tensor):
        if any(result is one for one in inputs):
            if is_there(result) == there:
                return result
            result = result.view_as(result) if result.requires_grad or there else result.detach()
        result.is_there = there
        return result
    if isinstance(result, list | tuple) and any(True for _ in tensors(result)):
        for item in tensors(result):
            if not any(item is one for one in inputs):
                item.is_there = there
    return result


def without_device(name: str, args: tuple, kwargs: dict) -> tuple[bool | None, tuple, dict]:
    """Return whether a call asks for the GPU (None: for no device), and its arguments with the CPU in its place."""
    asked: bool | None = {"cpu": False, "cuda": True}.get(name)

    def replaced(value: object) -> object:
        nonlocal asked
        if isinstance(value, torch.device) or (value in ("cpu", "cuda", "cuda:0") if isinstance(value, str) else False):
            asked = torch.device(value).type == "cuda"
            return torch.device("cpu")
        return value

    if name == "to" or ("device" in kwargs and name != "_parse_to"):  # of Module.to, which calls Tensor.to afterwards
        args = tuple(replaced(value) for value in args)
        kwargs = {key: replaced(value) if key == "device" else value for key, value in kwargs.items()}
    return asked, args, kwargs


class Event:
    """torch.cuda.Event, by the clock."""

    def __init__(self, *, enable_timing: bool):
        assert enable_timing
        self.at: float | None = None
        self.is_over = False

    def record(self, stream: object) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at is not None
        self.is_over = True

    def elapsed_time(self, end: "Event") -> float:
        assert self.at is not None and end.at is not None and end.is_over
        return 1000 * (end.at - self.at)


@contextmanager
def stand_in(monkeypatch: pytest.MonkeyPatch, *, capability: tuple[int, int] = (9, 0), n: int = 2) -> Iterator[None]:
    """Make torch believe in `n` CUDA devices of 80 GB while the context lasts."""
    states = {0: torch.arange(16, dtype=torch.uint8), 1: torch.arange(16, dtype=torch.uint8)}
    patches = {
        "is_available": lambda: True,
        "device_count": lambda: n,
        "get_device_capability": lambda number=None: capability,
        "get_device_properties": lambda number: SimpleNamespace(
            uuid=f"GPU-{torch.device(number).index if isinstance(number, torch.device) else number}",
            name="Stand-in",
            total_memory=80 << 30,
            major=capability[0],
            minor=capability[1],
        ),
        "mem_get_info": lambda number: ((60 + number) << 30, 80 << 30),
        "synchronize": lambda device: None,
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: 3_000_000_000,
        "max_memory_reserved": lambda device: 4_000_000_000,
        "set_device": lambda device: None,
        "empty_cache": lambda: None,
        "current_stream": lambda device: None,
        "is_current_stream_capturing": lambda: False,
        "Event": Event,
        "get_rng_state": lambda device: states[device.index or 0].clone(),
        "set_rng_state": lambda state, device: states.__setitem__(device.index or 0, state),
    }
    with monkeypatch.context() as patch, StandIn():
        for name, value in patches.items():
            patch.setattr(torch.cuda, name, value)
        yield
