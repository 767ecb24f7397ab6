"""What is said to Slurm's commands, and what is understood of their answers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from connectors.clusters.commands import Completed
from connectors.clusters.port import (
    JobPhase,
    JobRequest,
    SiteCommandError,
    StepFailedError,
    StepRefusedError,
    SubmissionRefusedError,
    SubmissionUncertainError,
)
from connectors.clusters.slurm import merge
from connectors.clusters.slurm_commands import (
    SacctCommand,
    SbatchCommand,
    ScancelCommand,
    SdiagCommand,
    SlurmSite,
    SqueueCommand,
    SrunStepCommand,
    launch_argv,
    slurm_time,
)
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.documents.models.job_spec import JobSpec, Resources
from tests.support.party import SPEC

SITE = SlurmSite(
    bin="/usr/bin",
    conf="/etc/slurm/other.conf",
    partition="gpu",
    qos=None,
    account="lung",
    user="hdrs-p1",
    lookback_days=30,
)
REQUEST = JobRequest("hdrs-abc", b"echo hello\n", 2, 16, 64_000, "gpu:4", 7_200)


def said(stdout: bytes = b"", stderr: bytes = b"", code: int = 0) -> Completed:
    return Completed(code, stdout, stderr)


def test_sizes_are_taken_as_a_signed_spec_gives_them() -> None:
    """They remember how a person wrote them."""
    asked = JobSpec.from_value(SPEC).resources
    request = JobRequest("hdrs-abc", b"echo", asked.nodes, asked.cpus_per_task, asked.mem, None, asked.time)
    assert {"--mem=16384M", "--time=2:00:00"} <= set(SbatchCommand(SITE, request).argv())


@pytest.mark.parametrize("size", [0, -1, True, 2.5])
def test_a_size_that_is_none_is_our_mistake(size: Any) -> None:
    with pytest.raises(InternalError):
        replace(REQUEST, mem_mb=size)


def test_sbatch_states_every_limit_and_leaves_nothing_to_the_environment() -> None:
    argv = SbatchCommand(SITE, REQUEST).argv()
    assert argv[:3] == ("/usr/bin/env", "-i", "SLURM_CONF=/etc/slurm/other.conf")
    assert argv[3] == "/usr/bin/timeout"
    assert "/usr/bin/sbatch" in argv
    for word in (
        *("--parsable", "--job-name=hdrs-abc", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=16"),
        *("--mem=64000M", "--gres=gpu:4", "--time=2:00:00", "--no-requeue", "--exclusive"),
        *("--output=/dev/null", "--error=/dev/null", "--chdir=/", "--partition=gpu", "--account=lung"),
    ):
        assert word in argv


@pytest.mark.parametrize("cut", [0, 10, 13, 25, 60, 99])
def test_a_script_cut_short_runs_nothing(cut: int, tmp_path: object) -> None:
    script = b"echo one\ncat <<'END'\ntext }\nEND\necho two\n" + b"# padding\n" * 10
    whole = SbatchCommand(SITE, JobRequest("hdrs-abc", script, 1, 1, 1, None, 60)).stdin()
    for shell in (["/bin/sh"], ["/bin/bash"]):
        assert b"one" in subprocess.run(shell, input=whole, capture_output=True).stdout
        assert b"one" not in subprocess.run(shell, input=whole[:cut], capture_output=True).stdout
        assert b"one" not in subprocess.run(shell, input=whole[:-3], capture_output=True).stdout


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (b"4711\n", b""),
        (b"4711;isambard\n", b""),
        (b"4711\n", b"sbatch: warning: can't honor --ntasks-per-node\n"),
        (b"Welcome to the login node\n4711\n", b""),
    ],
)
def test_the_job_id_is_found_beside_noise(stdout: bytes, stderr: bytes) -> None:
    assert SbatchCommand(SITE, REQUEST).parse(said(stdout, stderr)) == "4711"


def test_a_job_id_beside_an_error_is_still_a_job() -> None:
    assert SbatchCommand(SITE, REQUEST).parse(said(b"4711\n", b"sbatch: error: plugin\n", 1)) == "4711"


@pytest.mark.parametrize(
    "complaint",
    [
        b"sbatch: error: Batch job submission failed: Invalid account or account/partition combination\n",
        b"sbatch: error: Batch job submission failed: Requested node configuration is not available\n",
        b"sbatch: error: invalid partition specified: gpu\n",
    ],
)
def test_a_plain_no_is_a_refusal(complaint: bytes) -> None:
    with pytest.raises(SubmissionRefusedError):
        SbatchCommand(SITE, REQUEST).parse(said(b"", complaint, 1))


@pytest.mark.parametrize(
    ("complaint", "code"),
    [
        (b"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", 1),
        (b"sbatch: error: Batch job submission failed: Unable to contact slurm controller\n", 1),
        (b"sbatch: error: invalid partition", 124),
        (b"", 124),
        (b"", 137),
        (b"", 0),
    ],
)
def test_every_other_failure_leaves_it_uncertain(complaint: bytes, code: int) -> None:
    with pytest.raises(SubmissionUncertainError):
        SbatchCommand(SITE, REQUEST).parse(said(b"", complaint, code))


def test_a_missing_sbatch_submitted_nothing() -> None:
    with pytest.raises(SiteCommandError):
        SbatchCommand(SITE, REQUEST).parse(said(b"", b"timeout: no such file", 127))


def test_squeue_lines_become_jobs() -> None:
    lines = (
        b"12|hdrs-abc|RUNNING|2026-11-22T00:27:17|1|0|n[1-2]|None|\n"
        b"13|hdrs-def|FAILED|2026-11-22T00:27:18|0|1792|n1|NonZeroExitCode|\n"
        b"14|hdrs-ghi|CANCELLED|2026-11-22T00:27:18|0|15|n1|None|\n"
    )
    running, failed, cancelled = SqueueCommand(SITE, ("hdrs-abc",)).parse(said(lines))
    assert (running.phase, running.restarts, running.nodes) == (JobPhase.RUNNING, 1, ("n1", "n2"))
    assert running.exit_code is None
    assert (failed.phase, failed.exit_code, failed.reason) == (JobPhase.ENDED, 7, "NonZeroExitCode")
    assert cancelled.exit_code == 143


def test_sacct_lines_become_jobs() -> None:
    lines = (
        b"12|hdrs-abc|CANCELLED by 1000|2026-11-22T00:27:17|0:15|n[1-2]\n"
        b"13|hdrs-def|FAILED|2026-11-22T00:27:18|7:0|None assigned\n"
    )
    cancelled, failed = SacctCommand(SITE, ("hdrs-abc",)).parse(said(lines))
    assert (cancelled.raw_state, cancelled.exit_code) == ("CANCELLED", 143)
    assert (failed.exit_code, failed.nodes) == (7, ())


@pytest.mark.parametrize("line", [b"12|hdrs-abc\n", b"a|b|c|d|e|f|g|h|i|j|\n", b"slurm_load_jobs error\n"])
def test_lines_of_another_shape_are_an_error_not_an_absence(line: bytes) -> None:
    for command in (SqueueCommand(SITE, ("hdrs-abc",)), SacctCommand(SITE, ("hdrs-abc",))):
        with pytest.raises(SiteCommandError):
            command.parse(said(line))


def test_queries_are_bounded_to_this_account_and_these_names() -> None:
    for argv in (
        SqueueCommand(SITE, ("hdrs-abc", "hdrs-def")).argv(),
        SacctCommand(SITE, ("hdrs-abc", "hdrs-def")).argv(),
    ):
        assert "--user=hdrs-p1" in argv
        assert "--name=hdrs-abc,hdrs-def" in argv
    assert "--starttime=now-30days" in SacctCommand(SITE, ("hdrs-abc",)).argv()


def test_a_name_with_a_comma_never_becomes_two_names() -> None:
    with pytest.raises(InternalError):
        SqueueCommand(SITE, ("hdrs-abc,hdrs-def",)).argv()


def test_what_slurmctld_owes_accounting_is_read() -> None:
    assert SdiagCommand(SITE).parse(said(b"Agent queue size:     0\nDBD Agent queue size: 17\n")) == 17
    with pytest.raises(SiteCommandError):
        SdiagCommand(SITE).parse(said(b"nothing of the kind\n"))


def test_cancelling_what_is_gone_is_no_error() -> None:
    gone = b"scancel: error: Kill job error on job id 12: Invalid job id specified\n"
    ScancelCommand(SITE, "12").parse(said(b"", gone, 1))
    with pytest.raises(SiteCommandError):
        ScancelCommand(SITE, "12").parse(said(b"", b"scancel: error: Unable to contact controller", 1))
    with pytest.raises(InternalError):
        ScancelCommand(SITE, "--state=running").argv()


class TestStep:
    command = SrunStepCommand(SITE, "12", 2, ("/bin/cat",), 30)

    def test_lines_come_in_the_order_of_nodes(self) -> None:
        assert (
            self.command.parse(said(b"1: second\n0: first: with colon\n"))
            == [
                b"second",
                b"first: with colon",
            ][::-1]
        )

    def test_chunks_of_long_lines_are_put_together_again(self) -> None:
        chunk = b"x" * 1024
        stdout = b"0: %s\n1: %s\n1: end\n0: %s\n0: tail\n" % (chunk, chunk, chunk)
        assert self.command.parse(said(stdout)) == [chunk + chunk + b"tail", chunk + b"end"]

    @pytest.mark.parametrize(
        "stdout",
        [
            b"",
            b"0: only one\n",
            b"0: a\n1: b\n2: c\n",
            b"0: a\n0: b\n1: c\n",
            b"0: " + b"x" * 1024 + b"\n0: " + b"x" * 1025 + b"\n1: c\n",
            b"no label\n1: b\n",
        ],
    )
    def test_anything_but_one_line_a_node_fails(self, stdout: bytes) -> None:
        with pytest.raises(StepFailedError):
            self.command.parse(said(stdout))

    @pytest.mark.parametrize(
        "complaint",
        [
            b"srun: error: Unable to create step for job 12: Access/permission denied\n",
            b"srun: error: Slurm job 12 has expired\n",
            b"srun: error: Unable to confirm allocation for job 12: Invalid job id specified\n",
        ],
    )
    def test_slurms_no_is_a_refusal(self, complaint: bytes) -> None:
        with pytest.raises(StepRefusedError):
            self.command.parse(said(b"", complaint, 1))

    def test_the_tasks_own_stderr_is_dropped_on_the_site(self) -> None:
        assert "--error=none" in self.command.argv()


def test_the_launch_line_needs_no_quoting() -> None:
    line = launch_argv(SITE, REQUEST)
    assert line[0] == "/usr/bin/srun"
    assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyzALMU0123456789/-=:_.") for word in line)
    assert "--cpus-per-task=16" in line


@pytest.mark.parametrize(("seconds", "text"), [(1, "0:00:01"), (90, "0:01:30"), (360_000, "100:00:00")])
def test_times_are_written_as_slurm_reads_them(seconds: int, text: str) -> None:
    assert slurm_time(seconds) == text


def test_a_job_only_accounting_knows_as_running_is_unknown_not_over() -> None:
    recorded = SacctCommand(SITE, ("hdrs-abc",)).parse(said(b"12|hdrs-abc|RUNNING|t|0:0|n1\n"))
    (job,) = merge([], recorded)
    assert job.phase is JobPhase.UNKNOWN


def test_slurmctlds_word_wins_while_it_remembers_the_job() -> None:
    live = SqueueCommand(SITE, ("hdrs-abc",)).parse(said(b"12|hdrs-abc|COMPLETING|t|0|0|n1|None|\n"))
    recorded = SacctCommand(SITE, ("hdrs-abc",)).parse(said(b"12|hdrs-abc|COMPLETED|t|0:0|n1\n"))
    (job,) = merge(live, recorded)
    assert job.phase is JobPhase.COMPLETING
    (job,) = merge([], recorded)
    assert (job.phase, job.exit_code) == (JobPhase.ENDED, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": "a;reboot"},
        {"gres": "gpu:2 --uid=0"},
        {"gres": "gpu"},
        {"nodes": 0},
        {"time_s": 1.5},
        {"mem_mb": True},
        {"script": b""},
        {"script": b"a\0b"},
    ],
)
def test_a_request_that_could_say_something_else_is_our_bug(change: dict[str, object]) -> None:
    good = {
        "name": "hdrs-abc",
        "script": b"x",
        "nodes": 1,
        "cpus_per_task": 1,
        "mem_mb": 1,
        "gres": None,
        "time_s": 60,
    }
    with pytest.raises(InternalError):
        JobRequest(**(good | change))  # type: ignore[arg-type]


def test_a_specs_own_quantities_are_taken_and_said_as_numbers() -> None:
    asked = Resources.model_validate({"nodes": 1, "cpus-per-task": 2, "mem": "2G", "time": "00:10:00"})
    request = JobRequest("hdrs-abc", b"x\n", asked.nodes, asked.cpus_per_task, asked.mem, None, asked.time)
    argv = SbatchCommand(SITE, request).argv()
    assert "--mem=2048M" in argv and "--time=0:10:00" in argv
