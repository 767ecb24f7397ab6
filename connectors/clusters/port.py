"""The ``Cluster`` port: what the broker may ask of a place where jobs run, and what it gets back.

One object is one cluster seen as one project's account.  Every implementation passes
:mod:`connectors.clusters.contract`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.core.errors import ConflictError, InternalError, NotFoundError, SiteError

if TYPE_CHECKING:
    from hdrs_hpc.sealing.objects import ObjectStore

RuntimeEnding = Literal["tar", "squashfs"]
"""How the name of an installed file ends: what agents run on, or what sandboxes do."""
MAX_STDIN_BYTES = 1 << 20
"""The most that one message to a courier may have."""

_NAME = re.compile(r"[a-z][a-z0-9-]{2,63}", re.ASCII)
_GRES = re.compile(r"[a-z][a-z0-9_]{0,31}(:[A-Za-z0-9_.-]{1,32})?:[1-9][0-9]{0,3}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}", re.ASCII)
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class SubmissionUncertainError(SiteError):
    code = "submission-uncertain"
    meaning = "The cluster may or may not have accepted the job: the answer did not arrive."
    remedy = "Nothing to do: the broker looks for the job by its name before it ever submits again."


class SubmissionRefusedError(ConflictError):
    code = "submission-refused"
    meaning = "The cluster looked at the job and said no; nothing of it ran or will run."
    remedy = "Compare the resources asked for with the partition's limits and the account's associations."


class ClusterUnreachableError(SiteError):
    code = "cluster-unreachable"
    meaning = "The cluster did not answer."
    remedy = "The job waits and goes on by itself; `hdrs-hpc cluster doctor` names what is broken."


class HostKeyMismatchError(ClusterUnreachableError):
    code = "host-key-mismatch"
    meaning = "The server showed another host key than the one pinned in the cluster's settings."
    remedy = "Ask the site's admins by another channel; change `host-key` only if they confirm the new one."
    retry = False


class StepRefusedError(SiteError):
    code = "step-refused"
    meaning = "The cluster did not let a step into that job: it is over, or belongs to another account."
    remedy = "Look at the job's state; a running attempt of this project always admits its own steps."


class StepFailedError(SiteError):
    code = "step-failed"
    meaning = "A step inside the job ended without the answer of every node."
    remedy = "The broker asks again while the job runs; see the job's state if it goes on."


class SiteCommandError(SiteError):
    code = "site-command-failed"
    meaning = "A command on the cluster failed or printed what it never should."
    remedy = "Run `hdrs-hpc cluster doctor`; it tries each command and names the one at fault."


class UnsafePathError(SiteError):
    code = "unsafe-site-path"
    meaning = "A path on the site leads through a link or is not what it should be; it was not followed."
    remedy = "Look at the project's scratch on the site; only folders made by hdrs-hpc belong there."
    retry = False


class NoSuchJobError(NotFoundError):
    code = "no-such-cluster-job"
    meaning = "The cluster knows no such job of this project."
    remedy = "Look the job up by its name; ids are re-used by clusters, names are not."


@dataclass(frozen=True)
class JobRequest:
    """One allocation, in Slurm's words.  ``mem_mb`` is per node, ``time_s`` the wall-clock limit.

    ``script`` is run by ``/bin/sh`` once, on the first node; nothing secret belongs in it, since Slurm
    stores it.  ``name`` is the job's identity: unguessable, and never used twice.
    """

    name: str
    script: bytes
    nodes: int
    cpus_per_task: int
    mem_mb: int
    gres: str | None
    time_s: int

    def __post_init__(self) -> None:
        check_job_name(self.name)
        if self.gres is not None and not _GRES.fullmatch(self.gres):
            raise InternalError("a gres that is not like gpu:2 reached the cluster")
        numbers = (self.nodes, self.cpus_per_task, self.mem_mb, self.time_s)
        # A spec's quantities are whole numbers that remember how they were written.
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers):
            raise InternalError("a job request with a size below one reached the cluster")
        if not self.script or len(self.script) > MAX_STDIN_BYTES or b"\0" in self.script:
            raise InternalError("a batch script that is empty, huge or binary reached the cluster")


class JobPhase(StrEnum):
    """What logic may depend on; ``ClusterJob.raw_state`` informs people."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETING = "completing"
    """Over for us, not for the nodes: some process may still be alive."""
    ENDED = "ended"
    """No process of the job is left on any node."""
    UNKNOWN = "unknown"
    """The cluster says something that proves neither life nor death; treat the job as alive."""


@dataclass(frozen=True)
class ClusterJob:
    """One job as the cluster sees it now.  Identity is cluster + job id + submit time + restarts.

    ``exit_code`` is the batch script's, 128 + n if signal n ended it, None while it is not known.
    ``submit_time`` is the cluster's own text and only good for comparing.
    """

    job_id: str
    name: str
    phase: JobPhase
    raw_state: str
    exit_code: int | None
    submit_time: str
    restarts: int
    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Lookup:
    """The answer of :meth:`Cluster.find`: every name asked for is a key, with what was found under it.

    ``absence_proven``: an empty list means that at the time of looking the cluster had accepted no job of
    that name.  A submission that is still on its way is not excluded: see :attr:`Cluster.settle_s`.
    """

    jobs: dict[str, list[ClusterJob]]
    absence_proven: bool
    doubts: tuple[str, ...] = field(default=())
    """Why absence is not proven, in sentences for the admin."""


@dataclass(frozen=True)
class Check:
    """One finding of :meth:`Cluster.doctor`; ``remedy`` is empty when ``ok``."""

    name: str
    ok: bool
    message: str
    remedy: str = ""


class Cluster(Protocol):
    """A place that runs jobs, seen as one project's account.

    Every method may raise :class:`ClusterUnreachableError`; all are safe to call from several threads.
    Paths are given in parts below the project's scratch; parts hold letters, digits, ``.``, ``_``, ``-``.
    """

    name: str
    settle_s: ClassVar[float]
    """Seconds after which a submission that raised SubmissionUncertainError can no longer arrive."""

    def submit(self, request: JobRequest) -> str:
        """Ask for one allocation; gives the job id.

        Before: the name is written down durably, and either it was never submitted or :meth:`find`, asked
        at least ``settle_s`` after the last try, proved its absence.  Effect: one job.  NOT idempotent in
        general.  Raises SubmissionRefusedError (nothing runs, yet :meth:`find` may show an ENDED record of
        it), ClusterUnreachableError (nothing was sent), SubmissionUncertainError (it may have happened).
        """
        ...

    def find(self, names: Sequence[str]) -> Lookup:
        """Look up jobs by name, this account's only.  No effect.  One batched query for all names."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask for the job's end.  Idempotent; a job that is over or gone is no error.

        Returns before the job is over: look for ``ENDED``.
        """
        ...

    def launch_prefix(self, request: JobRequest) -> tuple[str, ...]:
        """What the batch script puts before a command to run it once on every node; () on one machine."""
        ...

    def run_in_job(
        self,
        job_id: str,
        argv: Sequence[str],
        stdin: bytes,
        nodes: int,
        timeout_s: float,
        node: str | None = None,
    ) -> list[bytes]:
        """Run ``argv`` once on each node of a running job; every process reads all of ``stdin``.

        With ``node`` on that one of them only (``nodes`` is then 1).

        Gives one line (no newline) a node, in the order of the job's nodes.  Each process must print
        exactly one line and exit 0.  What it prints on stderr is dropped: it could hold anything.
        Before: the job is RUNNING.  Idempotent as far as ``argv`` is.
        Raises StepRefusedError, StepFailedError.
        """
        ...

    def objects(self, *parts: str) -> ObjectStore:
        """The sealed objects in a folder; it need not exist before the first put."""
        ...

    def read_file(self, *parts: str, max_bytes: int) -> bytes | None:
        """A small regular file, None if missing.  Links are not followed; raises UnsafePathError when it
        is not a regular file or larger than ``max_bytes``."""
        ...

    def remove_tree(self, *parts: str) -> int:
        """Unlink a folder and all below it; gives the number of files and links removed.

        Idempotent; a missing folder gives 0.  Never follows a link.
        """
        ...

    def measure_tree(self, *parts: str) -> tuple[int, int]:
        """Files and links below a folder, and their bytes; links are not followed.  Missing: (0, 0)."""
        ...

    def list_tree(self, *parts: str) -> list[str]:
        """All that is below a folder, sorted, as relative paths; folders end in ``/``.  Missing: []."""
        ...

    def scratch_path(self, *parts: str) -> str:
        """The absolute path, as the nodes see it, of something below the project's scratch."""
        ...

    def install_runtime(self, file: Path, digest: str, ending: RuntimeEnding = "tar") -> None:
        """Put a runtime, or a flavour, at ``scratch_path("hdrs-hpc", "runtime", "<hex>.<ending>")``.

        Idempotent: a file already there with that digest is left.  Other versions are left too, since jobs
        may be using them.  The digest is computed again where the file has arrived.
        """
        ...

    def capacity(self) -> Capacity:
        """What nodes there are for one job, and its limits.  No effect; at most one remote command.

        All nodes count, also those that are down or busy: what is told may be kept for a while.  A job that asks for
        more is refused by :meth:`submit` (CPUs excepted where jobs share them).  Raises SiteCommandError.
        """
        ...

    def doctor(self) -> list[Check]:
        """Try everything this port needs, change nothing that stays; raises nothing a site can cause."""
        ...

    def close(self) -> None:
        """Give back connections.  Idempotent."""
        ...


def check_job_name(name: str) -> str:
    """Names reach argv and comma-separated lists: nothing but safe characters may get that far."""
    if not _NAME.fullmatch(name):
        raise InternalError("a job name with unsafe characters reached the cluster")
    return name


def check_node_name(node: str) -> str:
    """A name that the cluster itself gave; in argv it must not be an option or a list."""
    if not _NODE.fullmatch(node):
        raise InternalError("a node name with unsafe characters reached the cluster")
    return node


def check_job_id(job_id: str) -> str:
    """Slurm's ids look like 12, 12_3 or 12+0; none begins with a hyphen."""
    if not _JOB_ID.fullmatch(job_id):
        raise InternalError("a job id with unsafe characters reached the cluster")
    return job_id


def check_parts(parts: Sequence[str]) -> tuple[str, ...]:
    """Refuses ``..``, ``/``, hidden names and control characters, wherever the part came from."""
    for part in parts:
        if not _PART.fullmatch(part):
            raise InternalError("a path with unsafe characters reached the cluster")
    return tuple(parts)


def digest_hex(digest: str) -> str:
    """The 64 hex digits of ``sha256:<hex>``."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InternalError("a digest that is not sha256:<64 hex> reached the cluster")
    return found.group(1)


def step_lines(answers: Sequence[bytes], nodes: int) -> list[bytes]:
    """Hold a step to its promise: one line from each node, no more."""
    lines = [answer.removesuffix(b"\n") for answer in answers]
    if len(lines) != nodes or any(not line or b"\n" in line for line in lines):
        raise StepFailedError(f"{len(lines)} answers where each of {nodes} nodes owes one line")
    return lines
