"""How much of a training's features stays in memory between epochs. It changes no result."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from wsi_mil.config import KeepGB
from wsi_mil.runtime.memory import processes_at_once

log = logging.getLogger(__name__)

GB, MB = 10**9, 10**6
STEP_SHARE = 14
"""Most memory that a step takes, in sizes of its bag in float32; jobs ask for as much (`workflow/rules/resources.smk`)."""


@dataclass(frozen=True)
class Keep:
    """What is asked for.

    Attributes:
        gb: GB of features to keep at most, or "auto".
        at_once: trainings that may run on this machine at the same time, this one included.
    """

    gb: KeepGB = "auto"
    at_once: int = 1


@dataclass(frozen=True)
class BagSizes:
    """Sizes of the bags that a training reads in each epoch, from the metadata of their stores.

    Attributes:
        n_bags: their number.
        n_bytes: of all features, in float16.
        largest: bytes of the largest bag.
    """

    n_bags: int
    n_bytes: int
    largest: int

    @classmethod
    def of(cls, n_instances: list[int], dim: int) -> "BagSizes":
        """Return the sizes of bags with these numbers of instances of length `dim`."""
        row = dim * np.dtype(np.float16).itemsize
        return cls(len(n_instances), sum(n_instances) * row, max(n_instances, default=0) * row)

    @property
    def step_bytes(self) -> int:
        """Memory that a step on the largest bag takes at most."""
        return STEP_SHARE * 2 * self.largest


def bytes_to_keep(keep: Keep, sizes: BagSizes, free: int) -> int:
    """Return the bytes of features to keep in memory: never more than is free beside a step on the largest bag.

    "auto" divides what is free among the trainings that run at once, and leaves half of each part to the system, which keeps
    copies of files in what nobody uses. If the features do not fit, a training that is alone keeps as many as fit. Several
    keep none: the system's copies serve all of them, and their own would only displace these.

    Args:
        keep: what is asked for.
        sizes: of the bags.
        free: bytes that this process may still take.
    """
    if keep.gb != "auto":
        return min(round(keep.gb * GB), sizes.n_bytes, max(0, free - sizes.step_bytes))
    room = max(0, free // keep.at_once - sizes.step_bytes) // 2
    if sizes.n_bytes <= room:
        return sizes.n_bytes
    return room if keep.at_once == 1 else 0


def trainings_at_once(device: torch.device, threads: int, planned: int | None) -> int:
    """Return how many trainings may run at once on this machine: one on each GPU, else as many as have room on its cores.

    Args:
        device: device of this training.
        threads: CPU threads of each.
        planned: trainings that the run starts at once, at most, or None if that is not known.
    """
    room = torch.cuda.device_count() if device.type == "cuda" else processes_at_once(threads)
    return max(1, min(room, room if planned is None else planned))


def log_reading(sizes: BagSizes, kept: int, keep: Keep) -> None:
    """Say in the log how much is read, and how much of it stays in memory."""
    asked = 0 if keep.gb == "auto" else min(round(keep.gb * GB), sizes.n_bytes)
    if kept < asked:
        log.warning("keep_gb is %s, but beside a step on the largest bag only %s of memory are free", keep.gb, _amount(kept))
    if kept >= sizes.n_bytes:
        what = "they stay in memory after the first epoch"
    elif kept:
        what = f"{_amount(kept)} stay in memory, the others are read in every epoch"
    else:
        what = "they are read in every epoch"
    log.info("reading the features of %d bags, %s: %s", sizes.n_bags, _amount(sizes.n_bytes), what)


def _amount(n_bytes: int) -> str:
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB else f"{n_bytes / MB:.1f} MB"
