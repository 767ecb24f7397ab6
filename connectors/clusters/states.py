"""Slurm's words for a job's state, what each means for us, and how a job ended.

From slurm.h's ``job_states`` and state flags, as squeue and sacct print them; what is not here is UNKNOWN,
which keeps a job alive.
"""

from __future__ import annotations

import re
from enum import StrEnum

from connectors.clusters.port import JobPhase

PHASES: dict[str, JobPhase] = {
    "PENDING": JobPhase.PENDING,
    "CONFIGURING": JobPhase.PENDING,
    "REQUEUED": JobPhase.PENDING,
    "REQUEUE_FED": JobPhase.PENDING,
    "REQUEUE_HOLD": JobPhase.PENDING,
    "RESV_DEL_HOLD": JobPhase.PENDING,
    "SPECIAL_EXIT": JobPhase.PENDING,
    "RUNNING": JobPhase.RUNNING,
    "RESIZING": JobPhase.RUNNING,
    "SIGNALING": JobPhase.RUNNING,
    # Its processes exist and may go on, with keys in their memory.
    "SUSPENDED": JobPhase.RUNNING,
    "STOPPED": JobPhase.RUNNING,
    "COMPLETING": JobPhase.COMPLETING,
    "STAGE_OUT": JobPhase.COMPLETING,
    "BOOT_FAIL": JobPhase.ENDED,
    "CANCELLED": JobPhase.ENDED,
    "COMPLETED": JobPhase.ENDED,
    "DEADLINE": JobPhase.ENDED,
    "FAILED": JobPhase.ENDED,
    "LAUNCH_FAILED": JobPhase.ENDED,
    "NODE_FAIL": JobPhase.ENDED,
    "OUT_OF_MEMORY": JobPhase.ENDED,
    "PREEMPTED": JobPhase.ENDED,
    "REVOKED": JobPhase.ENDED,
    "TIMEOUT": JobPhase.ENDED,
}


class SiteEnd(StrEnum):
    """How the cluster itself ended a job; its own code, or ours, ended it where none of these holds."""

    NODE_LOST = "node-lost"
    """A node, or Slurm on it, died."""
    PREEMPTED = "preempted"
    CANCELLED = "cancelled-at-site"
    """By an admin, or with the project's account there: not through the broker."""
    TIME_LIMIT = "time-limit"
    OUT_OF_MEMORY = "out-of-memory"


_ENDS: dict[str, SiteEnd] = {
    "BOOT_FAIL": SiteEnd.NODE_LOST,
    "LAUNCH_FAILED": SiteEnd.NODE_LOST,
    "NODE_FAIL": SiteEnd.NODE_LOST,
    "PREEMPTED": SiteEnd.PREEMPTED,
    "CANCELLED": SiteEnd.CANCELLED,
    "REVOKED": SiteEnd.CANCELLED,
    "DEADLINE": SiteEnd.TIME_LIMIT,
    "TIMEOUT": SiteEnd.TIME_LIMIT,
    "OUT_OF_MEMORY": SiteEnd.OUT_OF_MEMORY,
}


def site_end(state: str) -> SiteEnd | None:
    """How the cluster ended a job that is in ``state``; None where it did not."""
    return _ENDS.get(state_word(state)) if state else None


_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_GROUP = re.compile(r"([^\[\],]*)\[([0-9,-]+)\]([^\[\],]*)|([^\[\],]+)")
MAX_HOSTS = 100_000


def phase_of(state: str) -> JobPhase:
    return PHASES.get(state, JobPhase.UNKNOWN)


def state_word(text: str) -> str:
    """``CANCELLED by 1000`` and ``CANCELLED+`` are both CANCELLED."""
    return text.split(" ", 1)[0].rstrip("+").upper()


def expand_hosts(text: str) -> tuple[str, ...]:
    """``n[1-2,07],m`` as n1, n2, n07, m; () for Slurm's ways of saying none, or what can't be understood."""
    if text.strip() in ("", "None assigned", "(null)", "None"):
        return ()
    hosts: list[str] = []
    for before, ranges, after, plain in _GROUP.findall(text.strip()):
        if plain:
            hosts.append(plain)
            continue
        for piece in ranges.split(","):
            found = _RANGE.fullmatch(piece)
            if found is None:
                return ()
            first, last = found.group(1), found.group(2) or found.group(1)
            if len(hosts) + int(last) - int(first) > MAX_HOSTS:
                return ()
            hosts += [
                f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)
            ]
    return tuple(hosts)
