"""What Snakemake prints during a run: what is shown of it, and which jobs failed."""

import re
from dataclasses import dataclass, field

HIDDEN = (
    *("Assuming unrestricted", "host: ", "Building DAG", "Using profile", "Using workflow specific profile", "Using shell"),
    *("Provided ", "Rules claiming", "Select jobs", "Execute ", "Updating checkpoint", "Finished jobid", "Complete log"),
    *(
        "DAG of jobs will be updated",
        "Exiting because a job",
        "None",
        "SNAKEMAKE",
        "=====",
        "Conda environments: ignored",
        "LockException:",
    ),
    *("RuleException:", "CalledProcessError in file", "Command 'set -euo", "At least one job did not complete"),
)
"""Beginnings of lines that say nothing about the run."""

TIME = re.compile(r"\[\w{3} \w{3} .{16}\]$")
JOB = re.compile(r"(?:local)?(?:rule|checkpoint) \w+:$")
ERROR = re.compile(r"Error in (?:rule|checkpoint|group) (\S+):$")
DONE = re.compile(r"Finished jobid: (\d+) \(Rule: (\w+)\)")
STEPS = re.compile(r"\d+ of \d+ steps \(.*%\) done")
HEADER = re.compile(r"  [A-Z][\w ()]+: ")
AGAIN = re.compile(r"Trying to restart job (\d+)")
ERROR_KIND = "WorkflowError:"
COMPLETE = re.compile(r"\d+ of \d+ steps \(100%\) done|Nothing to be done")
LOCKED = "cannot be locked"


@dataclass
class FailedJob:
    """A job that failed, perhaps more than once.

    Attributes:
        rule: name of its rule.
        jobid: Snakemake's number of the job.
        logs: its log files, relative to the folder of the run.
    """

    rule: str
    jobid: str = ""
    logs: tuple[str, ...] = ()


@dataclass
class Messages:
    """What was learned from the lines that Snakemake printed so far.

    Attributes:
        is_locked: whether another run holds the folder, or one that was killed.
        is_complete: whether everything that was asked for is there.
    """

    is_locked: bool = False
    is_complete: bool = False
    _failures: list[FailedJob] = field(default_factory=list)
    _finished: set[str] = field(default_factory=set)
    _block: str = ""
    """Kind of the block that indented lines belong to: job, error, or none."""
    _last: str = ""
    """Rule of the job that finished last."""
    _kind: str = ""
    """Kind of a fault of Snakemake, which it prints a line before the fault."""

    @property
    def failed(self) -> list[FailedJob]:
        """Jobs that failed and did not succeed when they were tried again, each once."""
        lasting = (job for job in self._failures if job.jobid not in self._finished)
        return list({(job.rule, job.logs): job for job in lasting}.values())

    def read(self, line: str) -> str:
        """Take in a line; return what a user is shown of it, without its end, or ""."""
        line = line.rstrip("\n")
        if self._block and line.startswith("    "):
            return self._detail(line.strip()) if self._block == "error" else ""
        self._block = "job" if JOB.match(line) else ""
        if error := ERROR.match(line):
            self._block = "error"
            self._failures.append(FailedJob(error[1]))
        if done := DONE.match(line):
            self._finished.add(done[1])
            self._last = done[2]
        self.is_locked |= LOCKED in line
        self.is_complete |= bool(COMPLETE.match(line))
        return "" if self._block or self.is_locked else self._shown(line)

    def _shown(self, line: str) -> str:
        """What is shown of a line outside of blocks."""
        kind, self._kind = self._kind, line if line == ERROR_KIND else ""
        if self._kind or not line.strip() or line.startswith(HIDDEN) or TIME.match(line) or HEADER.match(line):
            return ""
        if again := AGAIN.match(line):
            rules = [job.rule for job in self._failures if job.jobid == again[1]]
            return f"{rules[-1]} is tried again" if rules else line
        if STEPS.match(line) and self._last:
            return f"{line}: {self._last}"
        return f"{kind} {line}" if kind else line

    def _detail(self, line: str) -> str:
        """A line of an error; once a job's log is known, one line says that it failed."""
        job, (key, _, value) = self._failures[-1], line.partition(": ")
        if key == "jobid":
            job.jobid = value
        elif key == "log":
            job.logs = tuple(value.removesuffix(" (check log file(s) for error details)").split(", "))
            again = sum(other.jobid == job.jobid for other in self._failures) > 1
            return "" if again else f"{job.rule} failed, see {job.logs[0]}"
        return ""
