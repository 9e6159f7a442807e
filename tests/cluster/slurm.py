"""A SLURM cluster of one node in a folder: munge, a controller and a node, with keys, ports and logs of their own.

Needs Debian's packages munge, slurmctld, slurmd and slurm-client. No accounting, no control groups, no systemd. The node
says that it has more cores and memory than the machine, and a GPU that is none: what is tried out is who gets which job.
"""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "setpriv")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODE_MARK = "WSI_MIL_TEST_NODE"

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=5
MinJobAge=600
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=600 State=UP
PartitionName=gpu Nodes={host} MaxTime=600 State=UP
"""
"""A node that has not answered for 10 s is down; one that comes back is taken in again; ended jobs are listed for 10 min."""


def missing() -> str:
    """What is not there of all that a cluster needs, or ""."""
    if sys.platform != "linux":
        return "SLURM runs on Linux"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if absent:
        return f"{', '.join(absent)} not found; on Debian: apt-get install munge slurmctld slurmd slurm-client"
    if not find_spec("snakemake_executor_plugin_slurm"):
        return "the extra wsi_mil[slurm] is not installed"
    return ""


def wait_for(happened: Callable[[], bool], seconds: float, what: str) -> None:
    """Until something has happened; TimeoutError after so many seconds."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


class Slurm:
    """The cluster in a folder; `env` is the environment for its commands."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, dict[str, subprocess.Popen[bytes]]()
        self.env = {**os.environ, "PATH": f"{folder}/bin:{PATH}", "SLURM_CONF": str(folder / "slurm.conf")}
        host = socket.gethostname().split(".")[0]
        ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
        text = CONFIG.format(folder=folder, user=getpass.getuser(), host=host, **ports)
        (folder / "slurm.conf").write_text(text)
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        srun = folder / "bin" / "srun"  # the plugin clears all variables of SLURM's before it calls srun
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.env["SLURM_CONF"]} exec {shutil.which("srun", path=PATH)} "$@"\n')
        srun.chmod(0o755)

    def start(self) -> None:
        paths = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
        options = [f"--{name}={self.folder / path}" for name, path in {**paths, "log-file": "munged.log"}.items()]
        # --force: the folder is nobody else's to enter, which munged would refuse
        self._start("munged", "--foreground", "--force", "--num-threads=10", *options)
        wait_for((self.folder / "munge.socket").exists, 120, "munged's socket")
        self._start("slurmctld", "-D", "-f", self.env["SLURM_CONF"])
        self.start_node()

    def start_node(self) -> None:
        """Until it is there for jobs."""
        self._start("slurmd", "-D", "-f", self.env["SLURM_CONF"], **{NODE_MARK: str(self.folder)})
        wait_for(lambda: self.node_state() in ("idle", "mix", "alloc"), 300, f"the node; {self.folder}/slurmd.log")

    def _start(self, *command: str, **env: str) -> None:
        """A daemon, which ends with the tests, even if they are killed."""
        with (self.folder / f"{command[0]}.out").open("ab") as out:
            settings = {"env": {**self.env, **env}, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            self.processes[command[0]] = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], **settings)

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, text=True, capture_output=True, timeout=120)
        return done.stdout.strip()

    def node_state(self) -> str:
        """idle, mix, alloc, down and so on, without marks; "" while the controller does not answer."""
        return self.ask("sinfo", "--noheader", "--partition=cpu", "--format=%t").rstrip("*~#!%$@^-")

    def jobs(self) -> list[dict[str, str]]:
        """All jobs, also those that have ended, in the order of their submission."""
        fields = {"id": "JobID", "state": "State", "partition": "Partition", "gpus": "tres-per-job", "limit": "TimeLimit"}
        fields |= {"mb": "MinMemory", "comment": "Comment"}
        asked = ",".join(f"{field}:{'|' if name != 'comment' else 200}" for name, field in fields.items())
        lines = self.ask("squeue", "--noheader", "--states=all", "--sort=i", f"--Format={asked}").splitlines()
        return [dict(zip(fields, (cell.strip() for cell in line.split("|", len(fields) - 1)), strict=True)) for line in lines]

    def running(self, rule: str) -> dict[str, str] | None:
        """A job of a rule that is running, if there is one."""
        return next(
            (job for job in self.jobs() if job["state"] == "RUNNING" and job["comment"].split("_wildcards")[0] == f"rule_{rule}"),
            None,
        )

    def cancel(self, job: dict[str, str]) -> None:
        subprocess.run(["scancel", job["id"]], env=self.env, check=True, timeout=120)

    def node_processes(self) -> list[int]:
        """The node's daemon, its job managers and all processes of jobs: managers first."""
        found, managers = set[int](), set[int]()
        for pid, environment in self._own_processes():
            if NODE_MARK in environment or "SLURM_JOB_ID" in environment:
                found.add(pid)
                managers |= {parent for parent in ancestors(pid) if command_name(parent).startswith("slurmstepd")}
        return [*managers, *sorted(found - managers)]

    def kill_node(self) -> None:
        """As if its power failed."""
        for pid in self.node_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.processes.pop("slurmd").wait()

    def stop(self) -> None:
        """End jobs and daemons, and whatever of them is left."""
        with suppress(subprocess.SubprocessError, OSError, TimeoutError):
            subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=self.env, timeout=20, capture_output=True)
            wait_for(lambda: not self.ask("squeue", "--noheader"), 15, "the end of the jobs")
        left = [*self.node_processes(), *(pid for pid, _ in self._own_processes())]
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.processes:
                self.processes[name].terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.processes[name].wait(10)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait(10)

    def _own_processes(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Processes that were started with this cluster's configuration, and their environment."""
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # ended, or another user's
                pairs = path.read_bytes().decode(errors="replace").split("\0")
                environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                if environment.get("SLURM_CONF") == self.env["SLURM_CONF"]:
                    yield int(path.parent.name), environment

    def logs(self) -> str:
        """The end of what the daemons said."""
        texts = [(path.name, path.read_text(errors="replace")[-2000:]) for path in sorted(self.folder.glob("*.log"))]
        return json.dumps(dict(texts), indent=1).replace("\\n", "\n")


def ancestors(pid: int) -> Iterator[int]:
    """Parents of a process, nearest first, without the first process of the system."""
    with suppress(OSError, ValueError):
        while (pid := int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])) > 1:
            yield pid


def command_name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@contextmanager
def slurm_cluster() -> Iterator[Slurm]:
    """A cluster for as long as the context lasts."""
    with TemporaryDirectory(prefix="slurm") as folder:  # a socket's address must be shorter than pytest's folders are
        cluster = Slurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
