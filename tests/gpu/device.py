"""The device of the tests in this folder: CUDA, or another one that WSI_MIL_TEST_DEVICE names, to try them without a GPU."""

import os

import pytest
import torch

DEVICE = torch.device(os.environ.get("WSI_MIL_TEST_DEVICE", "cuda"))
is_there = DEVICE.type != "cuda" or torch.cuda.is_available()
needs_device = pytest.mark.skipif(not is_there, reason="needs a CUDA device")
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda" or not is_there, reason="needs a CUDA device")
