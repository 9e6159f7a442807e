"""The DAG through a real SLURM of one node, with the profile that is shipped."""

import csv
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.slurm import Slurm, missing, slurm_cluster, wait_for
from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.forks import forking_command
from tests.test_workflow import BIN, CONFIG, INSTALLED, ROOT

pytestmark = pytest.mark.slow

ROLES = ("train", "train", "val", "val", "test", "test")
SETTINGS = {**CONFIG, "cohort": "cohort.csv", "slides_per_job": 3}
COMMAND = """#!/bin/sh
[ "$1" = extract ] && exec '{real}' "$@"
exec '{forking}' "$@"
"""
"""`extract` is to be killed, so it has a process of its own; the others are spared their start-up."""

ASKED = ["--configfile", "c.yaml", "--slurm-status-command", "squeue", "--slurm-no-account", "--latency-wait", "5"]
ASKED += ["--slurm-init-seconds-before-status-checks", "4", "--seconds-between-status-checks", "1"]


class Submission:
    """A folder with a cohort, from which snakemake submits to a cluster."""

    def __init__(self, folder: Path, cluster: Slurm, forking: Path):
        self.folder, self.cluster = folder, cluster
        rows = []
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

    def snakemake(self, profile: str, *args: str) -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}:{BIN}:{self.cluster.env['PATH']}"
        env = {**self.cluster.env, "PATH": path, "WSI_MIL_DEVICE": "cpu"}
        command = [
            "snakemake",
            "-s",
            str(ROOT / "Snakefile"),
            "--profile",
            str(ROOT / "profiles" / profile),
            "--cores",
            "2",
            *args,
        ]
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    if reason := missing():
        pytest.skip(f"no SLURM: {reason}")
    with slurm_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def forking() -> Iterator[Path]:
    with forking_command() as found:
        yield found


def test_a_job_cancelled_in_the_middle_is_run_again_and_the_run_completes(cluster: Slurm, forking: Path, tmp_path: Path) -> None:
    submission = Submission(tmp_path, cluster, forking)
    process = submission.snakemake("slurm", *ASKED)
    wait_for(lambda: cluster.running("extract") is not None or process.poll() is not None, 120, "a job of extract")
    victim = cluster.running("extract")
    assert victim, process.communicate()[0]
    cluster.cancel(victim)
    output, _ = process.communicate(timeout=300)
    print(output)
    print(*cluster.jobs(), sep="\n")
