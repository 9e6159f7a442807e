"""The DAG through a real SLURM of one node, with the profile that is shipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, missing, slurm_cluster
from tests.cluster.submission import Submission
from tests.forks import forking_command

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def cluster() -> Iterator[Slurm]:
    if reason := missing():
        pytest.skip(f"no SLURM: {reason}")
    with slurm_cluster() as found:
        yield found


@pytest.fixture
def forking() -> Iterator[Path]:
    with forking_command() as found:
        yield found


def rules(jobs: list[dict[str, str]]) -> set[str]:
    return {job["comment"].removeprefix("rule_").split("_wildcards")[0] for job in jobs}


def test_a_job_cancelled_in_the_middle_is_run_again_and_the_run_completes(cluster: Slurm, forking: Path, tmp_path: Path) -> None:
    submission = Submission(tmp_path / "submitted", cluster, forking)
    process = submission.submit()
    victim = submission.extracting(process)
    cluster.cancel(victim)
    said = submission.finish(process)
    assert f"SLURM-job '{victim['id']}' failed, SLURM status is: 'CANCELLED'" in said and "Trying to restart job" in said

    jobs = cluster.jobs()
    assert {job["id"]: job["state"] for job in jobs if job["state"] != "COMPLETED"} == {victim["id"]: "CANCELLED"}
    n_single = len(["cohort", "split", "train", "predict", "explain_validation", "trust"])
    assert len(jobs) == 9 + n_single, "two jobs of three slides in each of four stages, one of them twice"
    extracts = [job for job in jobs if "rule_extract" in job["comment"]]
    assert sorted(job["mb"] for job in extracts) == ["12000M", "6000M", "6000M"], "the second attempt asks for more"
    assert sorted(job["limit"] for job in extracts) == ["16:00", "16:00", "32:00"]
    on_gpu = [job for job in jobs if job["gpus"] == "gres:gpu:1"]
    assert rules(on_gpu) == {"extract", "train"} and {job["partition"] for job in on_gpu} == {"gpu"}
    others = [job for job in jobs if job not in on_gpu]
    assert rules(others) == {"tile", "cohort", "split", "predict", "explain", "explain_validation", "trust", "heatmap"}
    assert {job["partition"] for job in others} == {"cpu"}

    left = {"evaluate": 1, "statistics": 1, "report": 1}
    assert submission.planned_here() == {**left, "all": 1, "total": 4}, "what the cluster did is not done again here"
    undisturbed = Submission(tmp_path / "undisturbed", cluster, forking)
    undisturbed.run_here("features")
    assert submission.tree("features") == undisturbed.tree("features")
