"""Slurm's commands as objects: each builds its argv and understands its own output.

All run with an empty environment, by absolute path, and under ``timeout``, so that none outlives the broker's
interest even if the connection dies.  No user's value gets here unchecked, and none is read by a shell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.clusters.commands import Completed
from connectors.clusters.port import (
    ClusterJob,
    JobPhase,
    JobRequest,
    SiteCommandError,
    StepFailedError,
    StepRefusedError,
    SubmissionRefusedError,
    SubmissionUncertainError,
    check_job_id,
    check_job_name,
    check_node_name,
)
from connectors.clusters.states import expand_hosts, phase_of, state_word

QUERY_LIMIT_S = 60
SUBMIT_LIMIT_S = 45
KILL_AFTER_S = 5
TIMED_OUT = 124
"""``timeout``'s exit status; 125–127 mean that the command never ran."""
NEVER_RAN = (125, 126, 127)
SEPARATOR = "|"
_ID_LINE = re.compile(r"([0-9]+)(;[A-Za-z0-9_-]+)?")
_LABEL = re.compile(rb" *([0-9]+): (.*)", re.DOTALL)
MIN_CHUNK_BYTES = 512
"""slurmstepd cuts long lines into chunks of equal size (1,024 bytes in 22.05)."""

_REFUSALS = (
    "invalid account",
    "invalid partition",
    "invalid qos",
    "invalid generic resource",
    "requested node configuration is not available",
    "requested time limit is invalid",
    "requested partition configuration not available",
    "violates accounting/qos policy",
    "node count specification invalid",
    "more processors requested than permitted",
    "memory specification can not be satisfied",
    "cpu count per node can not be satisfied",
    "user's group not permitted",
    "access/permission denied",
    "unrecognized option",
    "invalid option",
    "is not a batch script",
)
"""What slurmctld answers, or sbatch finds by itself, when it surely made no job."""

_STEP_REFUSALS = (
    "access/permission denied",
    "has expired",
    "invalid job id",
    "expired or invalid job",
    "job has already finished",
    "already completing or completed",
    "unable to confirm allocation",
)


@dataclass(frozen=True)
class SlurmSite:
    """Which Slurm, and as whom."""

    bin: str
    conf: str | None
    partition: str | None
    qos: str | None
    account: str | None
    user: str
    lookback_days: int

    def argv(self, limit_s: float, program: str, *words: str) -> tuple[str, ...]:
        environment = (f"SLURM_CONF={self.conf}",) if self.conf else ()
        bound = ("/usr/bin/timeout", f"--kill-after={KILL_AFTER_S}", f"{limit_s:g}")
        return ("/usr/bin/env", "-i", *environment, *bound, f"{self.bin}/{program}", *words)


@dataclass(frozen=True)
class SbatchCommand:
    site: SlurmSite
    request: JobRequest
    only_test: bool = False

    def argv(self) -> tuple[str, ...]:
        site, request = self.site, self.request
        optional = {
            "partition": site.partition,
            "qos": site.qos,
            "account": site.account,
            "gres": request.gres,
        }
        return site.argv(
            SUBMIT_LIMIT_S,
            "sbatch",
            "--parsable",
            f"--job-name={request.name}",
            f"--nodes={request.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={request.cpus_per_task}",
            f"--mem={request.mem_mb}M",
            f"--time={slurm_time(request.time_s)}",
            *(f"--{option}={value}" for option, value in optional.items() if value is not None),
            "--exclusive",
            "--no-requeue",
            # The environment is empty already.  NONE, and NIL or a list of names on Slurm before 22.05's
            # successors, would make slurmd build the user's login environment on the node.
            "--export=ALL",
            "--chdir=/",
            "--output=/dev/null",
            "--error=/dev/null",
            *(("--test-only",) if self.only_test else ()),
        )

    def stdin(self) -> bytes:
        """The script inside a brace group, which a shell runs only once it has read the closing brace.

        A connection that breaks while the script is on its way ends sbatch's stdin early, and sbatch submits
        what it has: half a script must then do nothing.  Nor does sbatch see #SBATCH lines past the brace.
        """
        return b"#!/bin/sh\n{\n" + self.request.script + b"\n}\n"

    def parse(self, done: Completed) -> str:
        """The job's id.  Raises SubmissionRefusedError or SubmissionUncertainError."""
        if done.returncode in NEVER_RAN:
            raise SiteCommandError(f"sbatch can't be run: {done.complaint}")
        for line in done.stdout.decode("ascii", "replace").splitlines():
            found = _ID_LINE.fullmatch(line.strip())
            if found is not None:
                return found.group(1)
        complaint = done.complaint
        if done.returncode != TIMED_OUT and any(word in complaint.lower() for word in _REFUSALS):
            raise SubmissionRefusedError(complaint)
        raise SubmissionUncertainError(complaint or f"sbatch ended with exit code {done.returncode}")


@dataclass(frozen=True)
class SqueueCommand:
    """All of this account's jobs of these names that slurmctld still remembers."""

    site: SlurmSite
    names: tuple[str, ...]

    FIELDS = ("JobID", "Name", "State", "SubmitTime", "RestartCnt", "exit_code", "NodeList", "Reason")

    def argv(self) -> tuple[str, ...]:
        # A suffix without a size leaves the fields unpadded and whole.
        fields = ",".join(f"{field}:{SEPARATOR}" for field in self.FIELDS)
        return self.site.argv(
            QUERY_LIMIT_S,
            "squeue",
            "--noheader",
            "--states=all",
            f"--user={self.site.user}",
            f"--name={_joined(self.names)}",
            f"--Format={fields}",
        )

    def parse(self, done: Completed) -> list[ClusterJob]:
        if done.returncode != 0:
            raise SiteCommandError(f"squeue: {done.complaint or done.returncode}")
        jobs = []
        for line in _lines(done.stdout):
            job_id, name, state, submitted, restarts, status, nodes, reason = _fields(
                line, len(self.FIELDS), trailing=True
            )
            phase = phase_of(state_word(state))
            jobs.append(
                ClusterJob(
                    job_id=job_id,
                    name=name,
                    phase=phase,
                    raw_state=state_word(state),
                    exit_code=_wait_status(status) if phase is JobPhase.ENDED else None,
                    submit_time=submitted,
                    restarts=int(restarts) if restarts.isdigit() else 0,
                    nodes=expand_hosts(nodes),
                    reason="" if reason == "None" else reason,
                )
            )
        return jobs


@dataclass(frozen=True)
class SacctCommand:
    """What accounting knows of these names; lags behind slurmctld, and remembers longer."""

    site: SlurmSite
    names: tuple[str, ...]

    FIELDS = ("JobIDRaw", "JobName", "State", "Submit", "ExitCode", "NodeList")

    def argv(self) -> tuple[str, ...]:
        return self.site.argv(
            QUERY_LIMIT_S,
            "sacct",
            "--allocations",
            "--parsable2",
            "--noheader",
            f"--user={self.site.user}",
            f"--name={_joined(self.names)}",
            f"--starttime=now-{self.site.lookback_days}days",
            f"--format={','.join(self.FIELDS)}",
        )

    def parse(self, done: Completed) -> list[ClusterJob]:
        if done.returncode != 0:
            raise SiteCommandError(f"sacct: {done.complaint or done.returncode}")
        jobs = []
        for line in _lines(done.stdout):
            job_id, name, state, submitted, code, nodes = _fields(line, len(self.FIELDS))
            phase = phase_of(state_word(state))
            jobs.append(
                ClusterJob(
                    job_id=job_id,
                    name=name,
                    phase=phase,
                    raw_state=state_word(state),
                    exit_code=_code_and_signal(code) if phase is JobPhase.ENDED else None,
                    submit_time=submitted,
                    restarts=0,
                    nodes=expand_hosts(nodes),
                    reason="",
                )
            )
        return jobs


@dataclass(frozen=True)
class SdiagCommand:
    """How many records slurmctld still owes slurmdbd: while any are due, sacct does not know everything."""

    site: SlurmSite

    def argv(self) -> tuple[str, ...]:
        return self.site.argv(QUERY_LIMIT_S, "sdiag")

    def parse(self, done: Completed) -> int:
        found = re.search(rb"DBD Agent queue size: *([0-9]+)", done.stdout)
        if done.returncode != 0 or found is None:
            raise SiteCommandError(f"sdiag: {done.complaint or done.returncode}")
        return int(found.group(1))


@dataclass(frozen=True)
class ScancelCommand:
    site: SlurmSite
    job_id: str

    def argv(self) -> tuple[str, ...]:
        return self.site.argv(QUERY_LIMIT_S, "scancel", f"--user={self.site.user}", check_job_id(self.job_id))

    def parse(self, done: Completed) -> None:
        gone = ("invalid job id", "already completing or completed", "already finished")
        if done.returncode != 0 and not any(word in done.complaint.lower() for word in gone):
            raise SiteCommandError(f"scancel: {done.complaint or done.returncode}")


@dataclass(frozen=True)
class SrunStepCommand:
    """One task a node inside a running job, beside whatever runs there."""

    site: SlurmSite
    job_id: str
    nodes: int
    step_argv: tuple[str, ...]
    timeout_s: float
    node: str | None = None
    """The only node that it runs on; then ``nodes`` is 1."""

    def argv(self) -> tuple[str, ...]:
        only = () if self.node is None else (f"--nodelist={check_node_name(self.node)}",)
        return self.site.argv(
            self.timeout_s,
            "srun",
            f"--jobid={check_job_id(self.job_id)}",
            "--overlap",
            *only,
            f"--nodes={self.nodes}",
            f"--ntasks={self.nodes}",
            "--ntasks-per-node=1",
            "--cpus-per-task=1",
            "--input=all",
            # Labels keep apart what several nodes say at once, and put long lines together again.
            "--label",
            # The tasks' stderr could hold anything and is dropped; srun's own still arrives.
            "--error=none",
            "--export=ALL",
            "--chdir=/",
            "--mpi=none",
            "--quiet",
            *self.step_argv,
        )

    def parse(self, done: Completed) -> list[bytes]:
        if done.returncode == TIMED_OUT or done.returncode >= 128:
            raise StepFailedError(f"no answer within {self.timeout_s:g} s")
        if done.returncode != 0:
            if any(word in done.complaint.lower() for word in _STEP_REFUSALS):
                raise StepRefusedError(done.complaint)
            raise StepFailedError(done.complaint or f"the step ended with exit code {done.returncode}")
        chunks: dict[int, list[bytes]] = {}
        for line in done.stdout.removesuffix(b"\n").split(b"\n") if done.stdout else []:
            found = _LABEL.fullmatch(line)
            if found is None:
                raise StepFailedError("srun printed a line without its task's label")
            chunks.setdefault(int(found.group(1)), []).append(found.group(2))
        if sorted(chunks) != list(range(self.nodes)):
            raise StepFailedError(f"{len(chunks)} of {self.nodes} nodes answered")
        return [_one_line(chunks[task]) for task in range(self.nodes)]


def launch_argv(site: SlurmSite, request: JobRequest) -> tuple[str, ...]:
    """srun inside the batch script, once a node; the step's words are explicit, since srun does not inherit
    ``--cpus-per-task`` from 22.05 on."""
    gres = (f"--gres={request.gres}",) if request.gres else ()
    return (
        f"{site.bin}/srun",
        f"--nodes={request.nodes}",
        f"--ntasks={request.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={request.cpus_per_task}",
        f"--mem={request.mem_mb}M",
        *gres,
        "--export=ALL",
        "--chdir=/",
        "--mpi=none",
        "--cpu-bind=none",
        "--kill-on-bad-exit=1",
        "--input=none",
        "--output=none",
        "--error=none",
        "--quiet",
    )


def slurm_time(seconds: int) -> str:
    """``h:mm:ss``; Slurm rounds up to minutes."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _joined(names: Sequence[str]) -> str:
    return ",".join(check_job_name(name) for name in names)


def _lines(stdout: bytes) -> list[str]:
    return [line for line in stdout.decode("utf-8", "replace").splitlines() if line.strip()]


def _fields(line: str, count: int, *, trailing: bool = False) -> list[str]:
    fields = line.removesuffix(SEPARATOR).split(SEPARATOR) if trailing else line.split(SEPARATOR)
    if len(fields) != count:
        raise SiteCommandError(f"a line with {len(fields)} fields where {count} were asked for")
    return [field.strip() for field in fields]


def _wait_status(text: str) -> int | None:
    """squeue prints the raw status of wait(2)."""
    if not text.isdigit():
        return None
    code = os.waitstatus_to_exitcode(int(text))
    return code if code >= 0 else 128 - code


def _code_and_signal(text: str) -> int | None:
    """sacct prints ``code:signal``."""
    code, _, number = text.partition(":")
    if not code.isdigit() or not number.isdigit():
        return None
    return 128 + int(number) if int(number) else int(code)


def _one_line(chunks: list[bytes]) -> bytes:
    """Chunks of one long line are all equal but the last; anything else is several lines."""
    *body, last = chunks
    if body and (len({len(chunk) for chunk in body}) > 1 or not MIN_CHUNK_BYTES <= len(body[0]) >= len(last)):
        raise StepFailedError("a node said more than one line")
    return b"".join(chunks)
