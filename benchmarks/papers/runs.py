"""A run: settings → figures, written as a JSON file, and skipped where that file has the same settings."""

import json
import logging
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import wsi_mil
from wsi_mil.files import exclusive, write_text
from wsi_mil.models import MILModel
from wsi_mil.receipts import fingerprint, receipt_text

HERE = Path(__file__).parent
RESULTS = HERE / "results"
"""The runs' JSON files, committed."""
KEPT = HERE / "runs"
"""Trained models, not committed; a run that needs one that is not there trains it again."""
DIGITS = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One line of work.

    Attributes:
        name: path of its JSON file below `RESULTS`, without suffix; the first part is the experiment.
        settings: everything that decides its figures, plain JSON.
        seed: of weights and of everything drawn.
        work: gives the figures.
    """

    name: str
    settings: Mapping[str, Any]
    seed: int
    work: Callable[[], Mapping[str, Any]]

    def path(self, results: Path) -> Path:
        """Its JSON file."""
        return results / f"{self.name}.json"

    def is_done(self, results: Path) -> bool:
        """Whether its JSON file is there, of the same settings and seed."""
        path = self.path(results)
        if not path.exists():
            return False
        found, wanted = json.loads(path.read_text()), json.loads(receipt_text({"settings": self.settings, "seed": self.seed}))
        return all(found[key] == value for key, value in wanted.items())


def do(runs: Iterable[Run], results: Path = RESULTS) -> int:
    """Do the runs that are not done, one after the other; how many those were."""
    left = [run for run in runs if not run.is_done(results)]
    for run in left:
        start = time.perf_counter()
        figures = _rounded(run.work())
        about = {"run": run.name, "settings": run.settings, "seed": run.seed, "figures": figures, **_machine()}
        write_text(run.path(results), receipt_text({**about, "seconds": round(time.perf_counter() - start, 1)}))
        log.warning("%s: %.0f s", run.name, time.perf_counter() - start)
    return len(left)


def trained(name: str, settings: Mapping[str, Any], model: MILModel, train: Callable[[MILModel], Mapping[str, Any]]) -> dict:
    """Put a model where training brings it, from the kept weights where those are of the same settings.

    A second process that asks for the same model waits, and takes it from there.

    Args:
        name: path below `KEPT`.
        settings: everything that decides the weights, plain JSON.
        model: fresh; left in eval mode, its parameters frozen.
        train: trains it in place and tells of it.

    Returns:
        What `train` told.
    """
    weights, about = KEPT / f"{name}.safetensors", KEPT / f"{name}.json"
    wanted = fingerprint(dict(settings))
    with exclusive(about):
        if about.exists() and (found := json.loads(about.read_text()))["fingerprint"] == wanted:
            model.load_state_dict(load_file(weights))
        else:
            found = {"fingerprint": wanted, "told": dict(train(model))}
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
            write_text(about, receipt_text(found))
    model.requires_grad_(False)
    model.eval()
    return dict(found["told"])


def _rounded(value: Any) -> Any:
    """Figures with as many digits as mean something."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _machine() -> dict[str, Any]:
    """What the run was done with."""
    cpu = platform.processor() or platform.machine()
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    hardware = {"cpu": names[0].partition(":")[2].strip() if names else cpu, "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "wsi_mil": wsi_mil.__version__, "python": platform.python_version()}
    return {"hardware": hardware, "versions": versions, "date": time.strftime("%Y-%m-%d")}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
