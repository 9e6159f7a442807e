"""Training curves for programs that show them while training goes on. The only importer of TensorBoard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from wsi_mil.config import CurveLog
from wsi_mil.errors import ConfigError
from wsi_mil.runtime.extras import tensorboard_fault
from wsi_mil.train.epochs import Epoch

EVENTS_FOLDER = "tensorboard"
"""Name of the folder with the event files in that of a fold."""
EVENT_FILES = "events.out.tfevents.*"


class Curve(Protocol):
    """Where the epochs of a training are shown as they end."""

    def __call__(self, epochs: Sequence[Epoch], /) -> None:
        """Add epochs."""


def not_shown(_: Sequence[Epoch], /) -> None:
    """Show the epochs nowhere."""


def columns(figure_name: str) -> list[str]:
    """Return the names of an epoch's values, in the order of its fields.

    Args:
        figure_name: name of the figure of the validation bags, such as "auroc".
    """
    return [name.replace("figure", figure_name) for name in Epoch.__annotations__]


@contextmanager
def open_curve(folder: Path, log: CurveLog, names: list[str]) -> Iterator[Curve]:
    """Show the curve of the training in `folder`; what earlier trainings left there is removed.

    A resumed training adds the epochs that are done first, so that its files have each epoch once.

    Args:
        folder: folder of the fold.
        log: where curves are shown.
        names: as of `columns`.

    Raises:
        ConfigError: the package is not installed.
    """
    if log == "tensorboard" and (fault := tensorboard_fault()):
        raise ConfigError([fault])
    events = folder / EVENTS_FOLDER
    _remove_events(events)
    if log == "none":
        yield not_shown
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(events), purge_step=1) as writer:  # 1: all that was shown before

        def show(epochs: Sequence[Epoch], /) -> None:
            for epoch in epochs:
                for name, value in zip(names[1:], list(vars(epoch).values())[1:], strict=True):
                    writer.add_scalar(name, value, epoch.epoch)
            writer.flush()

        yield show


def _remove_events(folder: Path) -> None:
    """Remove the event files of a folder, and the folder unless it has something else."""
    for file in folder.glob(EVENT_FILES):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # not there; or not empty: NFS keeps a file that a TensorBoard has open
        folder.rmdir()
