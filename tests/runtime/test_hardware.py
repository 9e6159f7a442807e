import ctypes
import sys
from collections.abc import Sequence

import pytest
import torch

from wsi_mil.devices import fast_dtype, find_device
from wsi_mil.runtime.hardware import fast_format, nvidia_majors


class Driver:
    """NVIDIA's driver as far as it is asked: GPUs by compute capability, or the error code with which it starts."""

    def __init__(self, capabilities: Sequence[tuple[int, int]], code: int = 0):
        self.capabilities, self.code = capabilities, code

    def cuInit(self, flags: int) -> int:  # noqa: N802 (the driver's name)
        return self.code

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = len(self.capabilities)
        return self.code

    def cuDeviceGet(self, device: object, number: int) -> int:  # noqa: N802
        device._obj.value = 10 + number  # a handle is not a number
        return 0

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        value._obj.value = self.capabilities[device.value - 10][attribute - 75]  # 75: major, 76: minor (cuda.h)
        return 0


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_machine_says_what_torch_would_say(device: str) -> None:
    said = fast_format(device)
    assert said in (None, str(fast_dtype("auto", find_device(device))).removeprefix("torch."))
    assert said is not None or (device == "auto" and torch.version.hip is not None)


@pytest.mark.skipif(sys.platform != "linux", reason="on a Mac mps is known, too")
def test_a_device_that_only_torch_knows_is_left_to_torch() -> None:
    assert [fast_format(name) for name in ("cuda", "cuda:1", "mps", "nonsense")] == [None] * 4


def test_the_driver_says_the_major_capability_of_each_gpu() -> None:
    assert nvidia_majors(Driver([(9, 0), (7, 5)])) == [9, 7]


def test_a_driver_without_a_gpu_is_no_error_and_any_other_code_is() -> None:
    assert nvidia_majors(Driver([], code=100)) == [] and nvidia_majors(Driver([(8, 0)], code=999)) is None
