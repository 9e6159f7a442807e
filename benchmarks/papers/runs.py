"""Runs: compute figures from settings and write them to a JSON file; a run with such a file is skipped."""

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
"""Folder of the runs' JSON files, committed."""
CACHE = HERE / "runs"
"""Folder of trained models, not committed; a run trains a model that is missing."""
DIGITS = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        name: path of its JSON file in `RESULTS`, without suffix; the first part is the experiment.
        settings: everything that determines its figures, as plain JSON.
        seed: seed of weights and random draws.
        work: function that returns the figures.
    """

    name: str
    settings: Mapping[str, Any]
    seed: int
    work: Callable[[], Mapping[str, Any]]

    def path(self, results: Path) -> Path:
        """Return the path of its JSON file."""
        return results / f"{self.name}.json"

    def is_complete(self, results: Path) -> bool:
        """Return whether its JSON file exists and has the same settings and seed."""
        path = self.path(results)
        if not path.exists():
            return False
        content = json.loads(path.read_text())
        expected = json.loads(receipt_text({"settings": self.settings, "seed": self.seed}))
        return all(content[key] == value for key, value in expected.items())


def execute(runs: Iterable[Run], results: Path = RESULTS) -> int:
    """Execute the runs without results, one after another; return their number."""
    open_runs = [run for run in runs if not run.is_complete(results)]
    for run in open_runs:
        start = time.perf_counter()
        figures = _rounded(run.work())
        content = {"run": run.name, "settings": run.settings, "seed": run.seed, "figures": figures, **_machine()}
        write_text(run.path(results), receipt_text({**content, "seconds": round(time.perf_counter() - start, 1)}))
        log.warning("%s: %.0f s", run.name, time.perf_counter() - start)
    return len(open_runs)


def load_or_train(
    name: str, settings: Mapping[str, Any], model: MILModel, train: Callable[[MILModel], Mapping[str, Any]]
) -> dict[str, Any]:
    """Load the weights of a model from the cache, or train it if they are missing or of other settings.

    A second process that needs the same model waits, and loads it then.

    Args:
        name: path in `CACHE`, without suffix.
        settings: everything that determines the weights, as plain JSON.
        model: untrained model; left in eval mode, its parameters frozen.
        train: function that trains the model in place and returns facts about its training.

    Returns:
        What `train` returned.
    """
    weights = CACHE / f"{name}.safetensors"
    path = CACHE / f"{name}.json"
    expected = fingerprint(dict(settings))
    with exclusive(path):
        if path.exists() and (content := json.loads(path.read_text()))["fingerprint"] == expected:
            model.load_state_dict(load_file(weights))
        else:
            content = {"fingerprint": expected, "told": dict(train(model))}
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
            write_text(path, receipt_text(content))
    model.requires_grad_(False)
    model.eval()
    return dict(content["told"])


def _rounded(value: Any) -> Any:
    """Return figures rounded to their significant digits."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _machine() -> dict[str, Any]:
    """Return hardware, versions and date of a run."""
    cpu = platform.processor() or platform.machine()
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    hardware = {"cpu": names[0].partition(":")[2].strip() if names else cpu, "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "wsi_mil": wsi_mil.__version__, "python": platform.python_version()}
    return {"hardware": hardware, "versions": versions, "date": time.strftime("%Y-%m-%d")}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
