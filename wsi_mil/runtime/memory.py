"""Memory that this process may still take: on the machine, within its control groups, and within its SLURM job."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from wsi_mil.runtime.threads import usable_cores

MIB = 2**20
RECLAIMED = ("inactive_file", "active_file")
"""Parts of a control group's memory, in its `memory.stat`, that are copies of files: the system drops them if need be."""


def free_bytes(*, root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """Return the bytes of memory that this process may still take: the least that anything that bounds it leaves.

    What the system keeps of files that were read counts as free. Where the system does not say what is free (macOS), it is
    half of the memory.

    Args:
        root: where /proc and /sys are.
        environ: environment of the process, with what SLURM has granted.
    """
    left = [*_left_on_machine(root), *_left_in_groups(root), *_left_in_slurm_job(root, environ)]
    return max(0, min(left)) if left else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def processes_at_once(threads: int, *, environ: Mapping[str, str] = os.environ) -> int:
    """Return how many processes of that many threads have room on the cores of this machine, or of this SLURM job."""
    granted = _number(environ.get("SLURM_CPUS_ON_NODE", ""))
    cores = usable_cores()
    return max(1, min(cores, granted or cores) // threads)


def _left_on_machine(root: Path) -> Iterator[int]:
    available = _table(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        yield available * 1024


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what the process's control groups and their parents leave, of version 2 (one hierarchy) and 1 (one for memory)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, top = ("memory.max", "memory.current", ""), root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"), root / "sys/fs/cgroup/memory"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            yield from _left_in_group(folder, *names)


def _left_in_group(folder: Path, limit_file: str, used_file: str, prefix: str) -> Iterator[int]:
    limit, used = (_number(_text(folder / name)) for name in (limit_file, used_file))
    if limit is not None and used is not None:
        parts = _table(folder / "memory.stat")
        yield limit - used + sum(parts.get(prefix + name, 0) for name in RECLAIMED)


def _left_in_slurm_job(root: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """Yield what a SLURM job was granted, less what this process has; the job's other processes are not known here."""
    per_node, per_cpu, cpus = (
        _number(environ.get(f"SLURM_{name}", "")) for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
    )
    granted = per_node or (per_cpu or 0) * (cpus or 0)  # SLURM writes 0 for the whole node
    if granted:
        yield granted * MIB - _table(root / "proc/self/status").get("VmRSS:", 0) * 1024


def _table(path: Path) -> dict[str, int]:
    """Numbers of a file with a name and a number in each line."""
    lines = [line.split() for line in _text(path).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """Whole number, or None for anything else, such as `max`."""
    return int(text) if text.strip().isdigit() else None
