"""A tiny cohort that is submitted to a cluster with the profile that is shipped."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml

from tests.cluster.slurm import Slurm, wait_for
from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.dag import BIN, CONFIG, INSTALLED, ROOT

ROLES = ("train", "train", "val", "val", "test", "test")
SETTINGS = {**CONFIG, "cohort": "cohort.csv", "slides_per_job": 3}
TARGETS = ["results/metrics/tumour/tiny/abmil.json", "heatmaps"]
"""Every kind of job that the profile says something of; the rest is left for this machine."""
ASKED = [
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=1",
    "--latency-wait=5",
]
ASKED += ["--seconds-between-status-checks=1"]

COMMAND = """#!/bin/sh
[ "$1" = extract ] && exec '{real}' "$@"
exec '{forking}' "$@"
"""
"""`extract` is to be killed, so it has a process of its own; the others are spared their start-up."""


class Submission:
    """A folder with a cohort of six slides, from which snakemake submits to a cluster, or runs here."""

    def __init__(self, folder: Path, cluster: Slurm, forking: Path):
        """`forking`: the program of tests.forks."""
        self.folder, self.cluster, rows = folder, cluster, []
        for number, role in enumerate(ROLES):
            write_aperio(folder / f"s{number}.svs", tissue_image(640, 448, seed=number))
            label = ("normal", "tumour")[number % 2]
            rows.append({"slide_id": f"s{number}", "path": f"s{number}.svs", "label": label, "split": role})
        write_cohort(folder, rows)
        (folder / "c.yaml").write_text(yaml.safe_dump(SETTINGS))
        command = folder / "bin" / "wsi-mil"
        command.parent.mkdir()
        command.write_text(COMMAND.format(real=INSTALLED, forking=forking))
        command.chmod(0o755)

    def submit(self) -> subprocess.Popen[str]:
        return self._start("slurm", *ASKED, *TARGETS)

    def _start(self, profile: str, *args: str) -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}:{BIN}:{self.cluster.env['PATH']}"
        env = {**self.cluster.env, "PATH": path, "WSI_MIL_DEVICE": "auto"}
        command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / profile), "--cores=2"]
        command += [*args, "--configfile", "c.yaml"]
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def extracting(self, process: subprocess.Popen[str]) -> dict[str, str]:
        """A job of `extract` whose command is at work."""
        logs = self.folder / "logs/extract/tiny"
        wait_for(lambda: any(logs.glob("*.log")) or process.poll() is not None, 300, "the log of an extraction")
        assert process.poll() is None, process.communicate()[0][-3000:]
        found = self.cluster.running("extract")
        assert found, self.cluster.jobs()
        return found

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for the end of a run; what it said."""
        said, _ = process.communicate(timeout=3600)
        assert process.returncode == 0, said[-3000:] + self.slurm_logs()
        return said

    def slurm_logs(self) -> str:
        logs = sorted((self.folder / ".snakemake/slurm_logs").rglob("*.log"))
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs) + self.cluster.logs()

    def run_here(self, *targets: str) -> None:
        self.finish(self._start("default", *targets))

    def planned_here(self) -> Counter[str]:
        """How many jobs of each rule would run on this machine, with its own profile."""
        said = self.finish(self._start("default", "--dry-run"))
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)})

    def tree(self, folder: str) -> dict[str, bytes]:
        """Every file below a folder of the results, by its path."""
        top = self.folder / "results" / folder
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
