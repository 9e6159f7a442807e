"""Where parts of a large piece of work are done: threads of this process, processes of its own, or a Dask cluster. The only
importer of Dask.

The environment says which, so that it is in no job's parameters: it changes no result, and nothing runs again for it.
"""

import atexit
import logging
import os
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from dask.base import compute
from dask.delayed import delayed
from dask.threaded import get as threaded_get

from wsi_mil.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

SCHEDULER_VARIABLE = "WSI_MIL_DASK"
THREADS, LOCAL = "threads", "local"
CONNECT_S = 30
"""After which a cluster counts as out of reach."""


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item], *, threads: int) -> list[Result]:
    """`work` on every item, in the order of the items; which of them are done where and when plays no part.

    Args:
        work: changes nothing but what it returns; travels to other processes by pickle, like items and results.
        items: what it is done on.
        threads: at once, where this process or others of this machine do it.

    Raises:
        ClusterError: the cluster is out of reach, or its workers die.
        Whatever `work` raises.
    """
    client = _client(threads)
    if client is None:
        tasks = [delayed(partial(work, item), traverse=False)() for item in items]
        return list(compute(*tasks, scheduler="threads", num_workers=threads, traverse=False))  # type: ignore[no-untyped-call]
    name = f"{_name_of(work)}-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {(name, n): (partial(_alone, work, item),) for n, item in enumerate(items)}
    return list(_asked(lambda: client.get(graph, list(graph))))


def run_graph(steps: Mapping[Any, tuple[Any, ...]], last: Any, *, threads: int) -> Any:
    """What the last of some steps gives that stand on each other.

    Args:
        steps: by name, a function and its arguments; an argument that is a name stands for what that step gives. A function
            changes no argument, since a step may be done again.
        last: name of the step whose result is wanted.
        threads: as of `parallel_map`, which raises the same.
    """
    client = _client(threads)
    if client is None:
        return threaded_get(dict(steps), last, num_workers=threads)
    own = uuid.uuid4().hex  # other jobs on the same cluster have steps of the same name
    names: dict[Any, Any] = {name: (own, *(name if isinstance(name, tuple) else (name,))) for name in steps}
    renamed = {
        names[name]: (partial(_alone, step[0]), *(names.get(a, a) if isinstance(a, Hashable) else a for a in step[1:]))
        for name, step in steps.items()
    }
    return _asked(lambda: client.get(renamed, names[last]))


def _asked(work: Callable[[], Any]) -> Any:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    try:
        return work()
    except (KilledWorker, FutureCancelledError, CommClosedError) as error:
        raise ClusterError(f"the Dask cluster lost its work ({error}); see its workers' logs, then run again") from error


def _alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """`work` as it is done in this process: with one thread for BLAS, by which the last digits of sums hang."""
    _one_blas_thread()
    return work(*arguments)


@cache
def _one_blas_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _name_of(work: Callable[..., Any]) -> str:
    return getattr(work.func if isinstance(work, partial) else work, "__name__", "work").strip("_<>")


def _client(threads: int) -> Any:
    """Of the cluster that the environment names; None for threads of this process."""
    scheduler = os.environ.get(SCHEDULER_VARIABLE, "") or THREADS
    return None if scheduler == THREADS else _connected(scheduler, threads if scheduler == LOCAL else 0)


@cache
def _connected(scheduler: str, processes: int) -> Any:
    """One connection for all that a process does; it ends with the process."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        mend = "pip install 'wsi_mil[cluster]', or set it to threads"
        raise ClusterError(f"dask.scheduler: {scheduler} needs a package ({error}); {mend}") from error
    try:
        if processes:
            cluster = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=processes, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
            )
            atexit.register(cluster.close)
            client = Client(cluster)  # type: ignore[no-untyped-call]
        elif "://" in scheduler:
            client = Client(scheduler, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
        else:
            _refuse_no_file(Path(scheduler))
            client = Client(scheduler_file=scheduler, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"dask.scheduler: no cluster answers at {scheduler} ({error}); start it, or correct the key"
        ) from error
    atexit.register(client.close)
    log.info("work is done by the Dask cluster %s", scheduler)
    return client


def _refuse_no_file(path: Path) -> None:
    if not path.is_file():
        raise ClusterError(
            f"dask.scheduler: expected threads, local, an address (tcp://host:8786) or a scheduler file, but found no {path}"
        )
