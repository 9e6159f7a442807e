"""State from which an interrupted training resumes: one safetensors file, rewritten after each epoch, without pickle."""

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

STATE_FILE = "last.safetensors"
JSON_KEY = "wsi_mil"
"""Key of the JSON in the file's header: in one file, weights and JSON are replaced by one rename."""
DIGEST_KEY = "sha256"
"""Key of the digest of JSON and tensors in the file's header."""


@dataclass(frozen=True)
class Snapshot:
    """State of a training after an epoch.

    Attributes:
        history: epochs so far, each a mapping.
        best: index of the best epoch.
        best_weights: weights of the deployed model at that epoch.
        rng_state: state of the generator that shuffles bags and samples instances.
    """

    history: list[dict[str, Any]]
    best: int
    best_weights: dict[str, Tensor]
    rng_state: dict[str, Any]


class TrainingState:
    """File with the state of one training and the fingerprint of everything that determines its result.

    With `folder=None` no file is written or read.
    """

    def __init__(self, folder: Path | None, fingerprint: str = ""):
        self.path = folder / STATE_FILE if folder is not None else None
        self.fingerprint = fingerprint

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, snapshot: Snapshot) -> None:
        """Write the state to a temporary file and rename it."""
        if self.path is None:
            return
        tensors, groups = _flat_optimizer(optimizer)
        tensors |= {f"model/{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in snapshot.best_weights.items()}
        tensors |= {f"random/{name}": value for name, value in _random_states(_device(model)).items()}
        copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        content = {"fingerprint": self.fingerprint, "optimizer": groups, "history": snapshot.history, "best": snapshot.best}
        text = json.dumps({**content, "order": snapshot.rng_state})
        # not `save_file`: on a full disk it raises an error of safetensors instead of OSError
        write_bytes(self.path, save(copies, metadata={JSON_KEY: text, DIGEST_KEY: _digest(text, copies)}))

    def load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Snapshot | None:
        """Restore model, optimiser and random generators from the file.

        Returns:
            The snapshot, or None if there is no file, it is damaged, or it belongs to other settings.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            text = header[JSON_KEY]
            is_intact = header[DIGEST_KEY] == _digest(text, tensors)
        except (SafetensorError, KeyError, TypeError):
            return None
        content: dict[str, Any] = json.loads(text) if is_intact else {}
        if content.get("fingerprint") != self.fingerprint:
            return None
        model.load_state_dict(_with_prefix("model", tensors))
        _load_optimizer(optimizer, _with_prefix("optimizer", tensors), content["optimizer"])
        _set_random_states(_with_prefix("random", tensors), _device(model))
        return Snapshot(content["history"], content["best"], _with_prefix("best", tensors), content["order"])

    def remove(self) -> None:
        """Delete the file, once the trained model is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def generator_from(state: Mapping[str, Any] | None, seed: int) -> np.random.Generator:
    """Return a random generator in a saved state, or a new one from `seed`."""
    rng = np.random.default_rng(seed)
    if state is not None:
        rng.bit_generator.state = dict(state)
    return rng


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of JSON and tensors."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flat_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the optimiser's tensors by name, and the values of its parameter groups."""
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
    """Return the states of the random generators of the CPU and of the device."""
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


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
