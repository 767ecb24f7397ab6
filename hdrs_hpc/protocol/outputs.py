"""How an attempt ends: the sealed closing list, and the small public pointer to the manifest that holds it.

The list is the last object put before the manifest.  It is sealed under the attempt's output key, which only
that attempt was given; that a list opens under it proves who wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count, Digest, Name, NodeName, Pattern

MAX_LIST_BYTES = 256 << 10
MAX_POINTER_BYTES = 4096


class OutputProblem(StrEnum):
    """Why a declared output was not collected; each is a reason code."""

    MISSING = "output-missing"
    NOT_REGULAR = "output-not-regular"
    """A symbolic link, folder, fifo, socket or device."""
    LINKED = "output-linked"
    """More than one hard link."""
    TOO_LARGE = "output-too-large"
    UNREADABLE = "output-unreadable"
    CHANGED = "output-changed"
    """It changed while it was read."""


@dataclass(frozen=True)
class KeptAs:
    """Where an output lies that stays in the project: its own manifest, under its own key."""

    manifest_name: Annotated[str, Between(1, 200)]
    manifest_digest: Digest


@dataclass(frozen=True)
class CollectedOutput:
    """One declared output: sealed (``path``, ``size_bytes``, ``digest``) or left behind (``problem``)."""

    name: Name
    path: Annotated[str, Pattern(r"output/[a-z][a-z0-9-]{0,39}")] | None
    size_bytes: Count
    digest: Digest | None
    problem: OutputProblem | None
    kept: KeptAs | None = None
    """Only of one that stays in the project; ``path`` is then inside a sealed copy of its own."""


class Ending(StrEnum):
    """How the workload ended."""

    EXITED = "exited"
    """By itself, and well."""
    CRASHED = "crashed"
    """An exception left the entry, or a signal ended it."""
    OUT_OF_TIME = "out-of-time"
    OUT_OF_MEMORY = "out-of-memory"
    """It took more than the job's ``mem``."""
    TOO_MANY_PROCESSES = "too-many-processes"
    """It had as many processes and threads as it may have."""
    NOT_STARTED = "not-started"
    """The sandbox or the processes in it did not come up."""
    NO_NETWORK = "no-network"
    """An exception left the entry that was about an address which a sandbox does not reach."""
    PROCESS_KILLED = "process-killed"
    """A signal ended one of several processes that work together."""
    PROCESS_EXITED = "process-exited"
    """One of its processes ended itself, without an exception."""
    PROCESS_ENDED_EARLY = "process-ended-early"
    """One of its processes came back from the entry, and others waited for it."""
    PROCESS_NOT_JOINED = "process-not-joined"
    """One of its processes did not come to the rendezvous in time."""
    PROGRAM_NOT_RUN = "program-not-run"
    """Of a command: the node does not run its program."""
    MATERIALISED_TOO_LARGE = "materialised-too-large"
    """What it needs as files is larger than the spec says or memory holds."""


_OWN_REASONS = {
    "out-of-time": "time-limit",
    "out-of-memory": "out-of-memory",
    "too-many-processes": "too-many-processes",
    "no-network": "no-network",
    "process-killed": "process-killed",
    "process-exited": "process-exited",
    "process-ended-early": "process-ended-early",
    "process-not-joined": "process-not-joined",
    "program-not-run": "program-not-run",
    "materialised-too-large": "materialised-too-large",
}


def reason_of(ending: str) -> str:
    """The reason code of a workload that ended badly: its own reason, or that it failed."""
    return _OWN_REASONS.get(ending, "workload-failed")


@dataclass(frozen=True)
class BundleLine:
    """A line of the researcher's own code, which they wrote themselves; nothing that the run computed."""

    file: Annotated[str, Pattern(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")]
    line: Annotated[int, Between(1, 1_000_000)]


MemoryWall = Literal["cgroup", "watched"]
"""Who holds a workload to its memory: the kernel, by the job's cgroup, or the agent's watch, by looking."""


@dataclass(frozen=True)
class MemoryTaken:
    """Of a workload that took more than it had."""

    had_mb: Count
    """The job's ``mem`` a node."""
    took_mb: Count
    """Full twentieths of ``had_mb``, at most twice as much: a workload can write no more than 5 bits with it."""
    wall: MemoryWall


@dataclass(frozen=True)
class WorkloadExit:
    """What the node says of the end; ``node/verdict.py`` tells how many bits a workload could put in."""

    ending: Ending
    exit_code: Annotated[int, Between(0, 1)] | None
    signal: Annotated[int, Between(1, 64)] | None
    exception_type: Annotated[str, Pattern(r"[A-Za-z_][A-Za-z0-9_]{0,79}")] | None
    """Bare class name: a known one, one of a class that the bundle defines, or ``Exception`` for any other."""
    bundle_line: BundleLine | None
    """Where a statement of the bundle begins."""
    memory: MemoryTaken | None = None
    """Only where it ended out of memory."""


@dataclass(frozen=True)
class ClosingList:
    attempt: str
    project: Name
    node: NodeName
    workload: WorkloadExit
    outputs: tuple[CollectedOutput, ...]
    undeclared: Annotated[int, Between(0, 1)]
    """1 where files lay beside the declared ones; they are never collected."""
    items_read: Count
    """In steps as in a progress report, and so are ``bytes_read``."""
    bytes_read: Count
    running_s: Count
    schema: Literal["hdrs-hpc/closing-list/2"] = "hdrs-hpc/closing-list/2"


@dataclass(frozen=True)
class ClosingPointer:
    """Public: which object is the manifest; believed only because that opens under the output key."""

    attempt: str
    manifest_name: Annotated[str, Between(1, 200)]
    manifest_digest: Digest
    schema: Literal["hdrs-hpc/closing/1"] = "hdrs-hpc/closing/1"


def parse_list(raw: bytes) -> ClosingList:
    """Raises BadDocumentError."""
    return wire.from_bytes(ClosingList, raw, MAX_LIST_BYTES)


def parse_pointer(raw: bytes) -> ClosingPointer:
    """Raises BadDocumentError."""
    return wire.from_bytes(ClosingPointer, raw, MAX_POINTER_BYTES)
