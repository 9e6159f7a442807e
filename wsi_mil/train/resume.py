"""What an interrupted training goes on from: one safetensors file, rewritten after each epoch, no pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wsi_mil.files import write_bytes

FILE = "last.safetensors"
ABOUT = "wsi_mil"
"""Key of the header under which the JSON lies, so that weights and JSON are replaced in one rename."""
DIGEST = "sha256"
"""Key of the header with the digest of JSON and tensors."""


@dataclass(frozen=True)
class Snapshot:
    """Training after an epoch.

    Attributes:
        history: the epochs so far, a mapping each.
        best: index of the best one.
        best_weights: weights of the model to keep at that epoch.
        order: state of the generator that orders bags and draws instances.
    """

    history: list[dict[str, Any]]
    best: int
    best_weights: dict[str, Tensor]
    order: dict[str, Any]


class TrainingState:
    """The file of one training, which holds the fingerprint of everything that decides the result.

    With `folder=None` nothing is kept.
    """

    def __init__(self, folder: Path | None, fingerprint: str = ""):
        self.path = folder / FILE if folder is not None else None
        self.fingerprint = fingerprint

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, snapshot: Snapshot) -> None:
        """Write aside, then rename."""
        if self.path is None:
            return
        tensors, plain = _flat_optimizer(optimizer)
        tensors |= {f"model/{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in snapshot.best_weights.items()}
        tensors |= {f"random/{name}": value for name, value in _random_states(_device(model)).items()}
        about = {"fingerprint": self.fingerprint, "optimizer": plain, "history": snapshot.history, "best": snapshot.best}
        copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        text = json.dumps({**about, "order": snapshot.order})
        # save_file of safetensors tells of a full disk by an error of its own
        write_bytes(self.path, save(copies, metadata={ABOUT: text, DIGEST: _digest(text, copies)}))

    def load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Snapshot | None:
        """Put model, optimiser and random generators where the file has them; None where there is none, or it is damaged."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            text = header[ABOUT]
            is_whole = header[DIGEST] == _digest(text, tensors)
        except (SafetensorError, KeyError, TypeError):
            return None
        about: dict[str, Any] = json.loads(text) if is_whole else {}
        if about.get("fingerprint") != self.fingerprint:
            return None
        model.load_state_dict(_under("model", tensors))
        _load_optimizer(optimizer, _under("optimizer", tensors), about["optimizer"])
        _set_random_states(_under("random", tensors), _device(model))
        return Snapshot(about["history"], about["best"], _under("best", tensors), about["order"])

    def remove(self) -> None:
        """Once the model is written there is nothing to go on with."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def generator_from(state: Mapping[str, Any] | None, seed: int) -> np.random.Generator:
    """A generator in a state that was kept, or fresh."""
    rng = np.random.default_rng(seed)
    if state is not None:
        rng.bit_generator.state = dict(state)
    return rng


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 over all that a file holds."""
    found = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _flat_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by name, and the groups' plain values."""
    state = optimizer.state_dict()
    tensors = {f"optimizer/{i}/{name}": value for i, entries in state["state"].items() for name, value in entries.items()}
    return tensors, state["param_groups"]


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """Of the CPU's generator, and of the device's own."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
