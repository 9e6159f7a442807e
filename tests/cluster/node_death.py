"""A node that loses its power in the middle of a job, and comes back.

make faults, or python -c "from tests.cluster.node_death import main; main()"

The node's daemon, its job managers and all processes of its jobs are killed at once while slides are extracted. SLURM takes
the node for dead, gives the job back to the queue, and starts it again once the node is there. Features must be those of an
undisturbed run, byte for byte.
"""

import json
import tempfile
import time
from pathlib import Path

from tests.cluster.slurm import missing, slurm_cluster, wait_for
from tests.cluster.submission import Submission
from tests.forks import forking_command


def kill_and_bring_back(folder: Path) -> dict[str, int]:
    """Figures of the one fault."""
    with forking_command() as forking, slurm_cluster() as cluster:
        submission = Submission(folder / "submitted", cluster, forking)
        process = submission.submit()
        try:
            victim = submission.extracting(process)
            start, n = time.monotonic(), len(cluster.node_processes())
            cluster.kill_node()
            print(f"job {victim['id']} was running; {n} processes of the node killed", flush=True)
            wait_for(lambda: cluster.node_state() == "down", 120, "the controller's taking the node for dead")
            print(f"{time.monotonic() - start:.0f} s later the controller takes the node for dead", flush=True)
            cluster.start_node()
            submission.finish(process)
        finally:
            process.kill()
        print(*cluster.jobs(), sep="\n", flush=True)
        undisturbed = Submission(folder / "undisturbed", cluster, forking)
        undisturbed.run_here("features")
        assert submission.tree("features") == undisturbed.tree("features")
    return {"node_deaths": 1, "seconds_to_the_end": round(time.monotonic() - start)}


def main() -> None:
    if reason := missing():
        print(f"node death: did not run, no SLURM: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(kill_and_bring_back(Path(folder))))
