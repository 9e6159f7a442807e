"""Number of usable cores, and one limit for the threads of every library, set on the command line."""

import os

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def limit_threads(threads: int) -> None:
    """Limit OpenMP and BLAS to `threads`; must run before numpy or torch is imported."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
