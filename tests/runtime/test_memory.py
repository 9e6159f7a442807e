from pathlib import Path

import pytest

from wsi_mil.runtime.memory import free_bytes, processes_at_once
from wsi_mil.runtime.threads import usable_cores

MIB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    """Write what /proc and /sys would show: 4,000 MiB of 8,000 are available, unless `files` differ."""
    shown = {"proc/meminfo": f"MemTotal: {8000 * 1024} kB\nMemFree: 7 kB\nMemAvailable: {4000 * 1024} kB\nHugePages_Total: 0\n"}
    for name, text in {**shown, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: str, used_mib: int, inactive_mib: int, active_mib: int) -> dict[str, str]:
    """Files of a control group of version 2."""
    stat = f"anon 1\ninactive_file {inactive_mib * MIB}\nactive_file {active_mib * MIB}\nfile 9\n"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used_mib * MIB}\n",
        f"{folder}/memory.stat": stat,
    }


def test_without_any_bound_what_the_machine_has_available_is_free(tmp_path: Path) -> None:
    assert free_bytes(root=system(tmp_path, {}), environ={}) == 4000 * MIB


def test_in_a_container_its_limit_counts_and_copies_of_files_are_free(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", str(1000 * MIB), 700, 150, 50)}
    assert free_bytes(root=system(tmp_path, files), environ={}) == (1000 - 700 + 150 + 50) * MIB


def test_the_narrowest_of_a_group_and_its_parents_counts(tmp_path: Path) -> None:
    inner, outer = "sys/fs/cgroup/slurm/job_7/step_0", "sys/fs/cgroup/slurm/job_7"
    files = {"proc/self/cgroup": "0::/slurm/job_7/step_0\n", **group(inner, "max", 300, 0, 0)}
    assert free_bytes(root=system(tmp_path, {**files, **group(outer, str(900 * MIB), 400, 30, 0)}), environ={}) == 530 * MIB
    narrower = {**files, **group(inner, str(350 * MIB), 300, 0, 20), **group(outer, str(900 * MIB), 400, 30, 0)}
    assert free_bytes(root=system(tmp_path, narrower), environ={}) == 70 * MIB


@pytest.mark.parametrize("own", ["/docker/abc", "/"])
def test_the_limit_of_a_group_of_version_1_counts_also_where_its_own_folder_is_not_shown(tmp_path: Path, own: str) -> None:
    top = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": f"5:devices:/\n4:cpu,memory:{own}\n0::/\n",
        f"{top}/memory.limit_in_bytes": f"{600 * MIB}\n",
        f"{top}/memory.usage_in_bytes": f"{500 * MIB}\n",
        f"{top}/memory.stat": f"inactive_file 5\ntotal_inactive_file {40 * MIB}\ntotal_active_file {60 * MIB}\n",
    }
    assert free_bytes(root=system(tmp_path, files), environ={}) == 200 * MIB


def test_a_slurm_job_has_what_it_was_granted_less_what_the_process_takes(tmp_path: Path) -> None:
    root = system(tmp_path, {"proc/self/status": f"Name:\tpython\nVmRSS:\t{500 * 1024} kB\n"})
    assert free_bytes(root=root, environ={"SLURM_MEM_PER_NODE": "1603"}) == 1103 * MIB
    assert free_bytes(root=root, environ={"SLURM_MEM_PER_CPU": "700", "SLURM_CPUS_ON_NODE": "3"}) == 1600 * MIB
    assert free_bytes(root=root, environ={"SLURM_MEM_PER_NODE": "0"}) == 4000 * MIB, "0 is the whole node"
    assert free_bytes(root=root, environ={"SLURM_MEM_PER_NODE": "16000"}) == 4000 * MIB, "the machine has no more"


def test_nothing_is_free_where_more_is_taken_than_granted(tmp_path: Path) -> None:
    root = system(tmp_path, {"proc/self/status": f"VmRSS:\t{500 * 1024} kB\n"})
    assert free_bytes(root=root, environ={"SLURM_MEM_PER_NODE": "400"}) == 0


def test_a_system_that_says_nothing_leaves_half_of_its_memory(tmp_path: Path) -> None:
    assert free_bytes(root=tmp_path, environ={}) > 2**28


def test_this_machine_has_memory_left() -> None:
    assert 0 < free_bytes() < 2**50


def test_a_slurm_jobs_cores_bound_its_processes() -> None:
    cores = usable_cores()
    assert processes_at_once(1, environ={}) == cores
    assert processes_at_once(1, environ={"SLURM_CPUS_ON_NODE": "1"}) == 1
    assert processes_at_once(1, environ={"SLURM_CPUS_ON_NODE": str(cores + 9)}) == cores
    assert processes_at_once(cores + 1, environ={}) == 1
