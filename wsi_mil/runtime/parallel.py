"""Run work in parallel: in threads of this process, in local processes, or on a Dask cluster. The only importer of Dask,
which takes a tenth of a second and is loaded when there is something to share out.

The scheduler is set in the environment, not in the parameters of a job: it changes no result, so changing it reruns nothing.
"""

import atexit
import logging
import os
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from wsi_mil.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

SCHEDULER_VARIABLE = "WSI_MIL_DASK"
THREADS, LOCAL = "threads", "local"
CONNECT_S = 30
"""Seconds to wait for a cluster before it counts as unreachable."""


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item], *, threads: int) -> list[Result]:
    """Apply `work` to every item. Results come in input order; scheduling does not affect them.

    Args:
        work: a function without side effects; it, the items and the results are pickled for other processes.
        items: arguments of `work`.
        threads: number of threads or local processes; ignored by a cluster.

    Raises:
        ClusterError: the cluster is unreachable, or its workers died.
        Whatever `work` raises.
    """
    client = _client(threads)
    if client is None and min(threads, len(items)) <= 1:
        return [work(item) for item in items]
    if client is None:
        from dask.base import compute
        from dask.delayed import delayed

        tasks = [delayed(partial(work, item), traverse=False)() for item in items]
        return list(compute(*tasks, scheduler="threads", num_workers=threads, traverse=False))  # type: ignore[no-untyped-call]
    name = f"{_name_of(work)}-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {(name, n): (partial(_single_threaded, work, item),) for n, item in enumerate(items)}
    return list(_on_cluster(lambda: client.get(graph, list(graph))))


def run_graph(steps: Mapping[Any, tuple[Any, ...]], last: Any, *, threads: int) -> Any:
    """Run a task graph and return the result of `last`.

    Args:
        steps: for each name a function and its arguments; an argument that is the name of a step is replaced by that step's
            result. Functions must not change their arguments, since a step may be repeated.
        last: name of the step whose result is returned.
        threads: as in `parallel_map`, which raises the same errors.
    """
    client = _client(threads)
    if client is None:
        from dask.threaded import get as threaded_get

        return threaded_get(dict(steps), last, num_workers=threads)
    prefix = uuid.uuid4().hex  # other jobs on the same cluster have steps of the same name
    names: dict[Any, Any] = {name: (prefix, *(name if isinstance(name, tuple) else (name,))) for name in steps}
    renamed = {
        names[name]: (partial(_single_threaded, step[0]), *(names.get(a, a) if isinstance(a, Hashable) else a for a in step[1:]))
        for name, step in steps.items()
    }
    return _on_cluster(lambda: client.get(renamed, names[last]))


def _on_cluster(work: Callable[[], Any]) -> Any:
    """The result of `work`; a lost cluster raises ClusterError."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    try:
        return work()
    except (KilledWorker, FutureCancelledError, CommClosedError) as error:
        raise ClusterError(f"the Dask cluster lost its work ({error}); see its workers' logs, then run again") from error


def _single_threaded(work: Callable[..., Result], *arguments: Any) -> Result:
    """`work` with one BLAS thread, as in this process: the last digits of sums depend on the number of threads."""
    _one_blas_thread()
    return work(*arguments)


@cache
def _one_blas_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _name_of(work: Callable[..., Any]) -> str:
    return getattr(work.func if isinstance(work, partial) else work, "__name__", "work").strip("_<>")


def _client(threads: int) -> Any:
    """Client of the cluster that the environment names; None for threads of this process."""
    scheduler = os.environ.get(SCHEDULER_VARIABLE, "") or THREADS
    return None if scheduler == THREADS else _connected(scheduler, threads if scheduler == LOCAL else 0)


@cache
def _connected(scheduler: str, processes: int) -> Any:
    """One connection per process, closed when the process exits."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        fix = "pip install 'wsi_mil[cluster]', or set it to threads"
        raise ClusterError(f"dask.scheduler: {scheduler} needs a package ({error}); {fix}") from error
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
            _require_file(Path(scheduler))
            client = Client(scheduler_file=scheduler, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"dask.scheduler: no cluster answers at {scheduler} ({error}); start the cluster, or correct the setting"
        ) from error
    atexit.register(client.close)
    log.info("using the Dask cluster %s", scheduler)
    return client


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ClusterError(
            "dask.scheduler: expected threads, local, an address (tcp://host:8786) or a scheduler file,"
            f" but there is no file {path}"
        )
