"""What Snakemake prints, as version 9.27 printed it, and what is made of it."""

from wsi_mil.workflow import FailedJob, Messages

START = """Assuming unrestricted shared filesystem usage.

SNAKEMAKE
=========
  Date: 2026-11-30 12:06:30
  Config file(s): [PosixPath('/tmp/my study/my.yaml')]

Building DAG of jobs...
Provided cores: 2
Job stats:
job        count
-------  -------
predict        1
total          1

Select jobs to execute...
"""

JOB = """
[Mon Nov 30 12:23:26 2026]
rule predict:
    input: results/splits/tumour.csv
    output: results/predictions/tumour/tiny/abmil.csv
    log: logs/predict/tumour/tiny/abmil.log
    jobid: 1
"""

ERROR = """
RuleException:
CalledProcessError in file "/w/rules/predict.smk", line 37:
Command 'set -euo pipefail;  wsi-mil predict' returned non-zero exit status 2.
[Mon Nov 30 12:23:40 2026]
Error in rule predict:
    message: None
    jobid: 1
    input: results/splits/tumour.csv
    log: logs/predict/tumour/tiny/abmil.log (check log file(s) for error details)
    shell:
        wsi-mil predict 2> logs/predict/tumour/tiny/abmil.log
        (command exited with non-zero exit code)
"""

AGAIN = "Trying to restart job 1.\n"
DONE = "[Mon Nov 30 12:23:50 2026]\nFinished jobid: 1 (Rule: predict)\n1 of 1 steps (100%) done\n"
END = "Exiting because a job execution failed. Look below for error messages\n"
FAILED = "WorkflowError:\nAt least one job did not complete successfully.\n"


def read(*parts: str) -> tuple[Messages, list[str]]:
    messages = Messages()
    shown = [messages.read(line) for line in "".join(parts).splitlines(keepends=True)]
    return messages, [line for line in shown if line]


def test_of_a_job_that_succeeds_its_rule_is_shown_beside_the_progress() -> None:
    messages, shown = read(START, JOB, DONE)
    table = ["Job stats:", "job        count", "-------  -------", "predict        1", "total          1"]
    assert shown == [*table, "1 of 1 steps (100%) done: predict"]
    assert messages.is_complete and not messages.failed


def test_a_job_that_fails_twice_and_is_repeated_at_the_end_is_one_failure_with_its_log() -> None:
    messages, shown = read(JOB, ERROR, AGAIN, JOB, ERROR, END, ERROR, FAILED)
    assert shown == ["predict failed, see logs/predict/tumour/tiny/abmil.log", "predict is tried again"]
    assert messages.failed == [FailedJob("predict", "1", ("logs/predict/tumour/tiny/abmil.log",))]
    assert not messages.is_complete


def test_a_job_that_succeeds_when_it_is_tried_again_is_no_failure() -> None:
    messages, _ = read(JOB, ERROR, AGAIN, JOB, DONE)
    assert not messages.failed and messages.is_complete


def test_two_jobs_of_a_rule_are_two_failures() -> None:
    other = ERROR.replace("jobid: 1", "jobid: 7").replace("abmil.log", "mhim.log")
    messages, shown = read(ERROR, other)
    assert [job.logs[0].rpartition("/")[2] for job in messages.failed] == ["abmil.log", "mhim.log"]
    assert len(shown) == 2


def test_what_else_snakemake_says_is_shown_and_its_faults_on_one_line() -> None:
    said = "warning: model abmil: few slides\nWorkflowError:\nProfile yaml is invalid.\n  at line 3\n"
    assert read(said)[1] == ["warning: model abmil: few slides", "WorkflowError: Profile yaml is invalid.", "  at line 3"]


def test_a_locked_folder_is_noticed_and_snakemakes_advice_left_out() -> None:
    messages, shown = read("LockException:\nError: Directory cannot be locked. Please make sure\n/tmp/a study\nIf you are sure\n")
    assert messages.is_locked and not shown
