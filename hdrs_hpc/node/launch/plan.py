"""The two files between agent and launcher: the plan it is given, and the report it leaves.  No key in either.

The launcher belongs to the workload's side of the wall, so the agent believes nothing in a report beyond its
form (see :mod:`hdrs_hpc.node.verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hdrs_hpc.catalogue.workloads.plan import Plan
from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count, Pattern

PLAN_NAME = "plan.json"
REPORT_NAME = "report.json"
SOCKET_NAME = "data.sock"
MAX_REPORT_BYTES = 8192
EXIT_EXCEPTION = 1
EXIT_ALONE = 71
"""The process that decides was left by those that it needs."""


@dataclass(frozen=True)
class Launch:
    """What the launcher executes: the plan of the workload's kind, and what every workload has."""

    plan: Plan
    most_threads: Count
    """Processes and threads together; 0: not limited, since only in a user namespace the limit counts it alone."""
    inputs: tuple[str, ...]
    files: dict[str, str]
    """Name to the path of a file under ``inputs:``, which nobody changes."""
    outputs: dict[str, str]
    """Name to path below ``out``."""
    out: str
    bundle: str
    folder: str
    """Where this file lies, and the plan's own files beside it."""
    report: str
    tmp: str


class Cause(StrEnum):
    """Why the workload ended badly, as its own side tells; of several ranks, what befell the first one."""

    EXCEPTION = "exception"
    """One left the entry."""
    NO_NETWORK = "no-network"
    """As well, and it was about an address that a sandbox does not reach."""
    PROCESS_KILLED = "process-killed"
    """A signal ended a rank."""
    PROCESS_EXITED = "process-exited"
    """A rank ended its own process, without an exception and without coming back from the entry."""
    PROCESS_ENDED_EARLY = "process-ended-early"
    """A rank came back from the entry, and others then waited for it."""
    PROCESS_NOT_JOINED = "process-not-joined"
    """A rank did not come to the rendezvous in time."""
    PROGRAM_NOT_RUN = "program-not-run"
    """The kernel does not run the program: not there, of another machine, or no program."""
    MATERIALISED_TOO_LARGE = "materialised-too-large"
    """What the program needs as files is larger than the spec says or memory holds."""


@dataclass(frozen=True)
class CrashReport:
    """Where an exception left the workload.  Type and place only: a message could hold what was computed."""

    exception_type: Annotated[str, Pattern(r"[A-Za-z_][A-Za-z0-9_]{0,79}")] | None
    file: Annotated[str, Between(1, 200)] | None
    """Relative to the bundle."""
    line: Annotated[int, Between(1, 1_000_000)] | None
    cause: Cause = Cause.EXCEPTION
    signal: Annotated[int, Between(1, 64)] | None = None
    """Of a rank that was killed."""


def parse_report(raw: bytes) -> CrashReport:
    """Raises BadDocumentError."""
    return wire.from_bytes(CrashReport, raw, MAX_REPORT_BYTES)
