"""Slurm's words for a job's state, and what each means for us.

From slurm.h's ``job_states`` and state flags, as squeue and sacct print them; what is not here is UNKNOWN,
which keeps a job alive.
"""

from __future__ import annotations

import re

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

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

_NO_NODES = ("", "None assigned", "(null)", "None")
_GROUP = re.compile(r"(?:[A-Za-z0-9._-]|\[[0-9,-]+\])+")
"""One node or one folded range: names and numbers only, since ClusterShell also knows @groups and operators."""
_BETWEEN_GROUPS = re.compile(r",(?![^\[]*\])")
_BRACKET = re.compile(r"\[([0-9,-]+)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MAX_HOSTS = 100_000


def phase_of(state: str) -> JobPhase:
    return PHASES.get(state, JobPhase.UNKNOWN)


def state_word(text: str) -> str:
    """``CANCELLED by 1000`` and ``CANCELLED+`` are both CANCELLED."""
    return text.split(" ", 1)[0].rstrip("+").upper()


def expand_hosts(text: str) -> tuple[str, ...]:
    """``n[1-2,07],m`` as n1, n2, n07, m; () for Slurm's ways of saying none, or what can't be understood.

    Dimensions multiply: ``x[0-1]c[0-3]`` is eight nodes.  What a list would unfold to is counted first, since
    ClusterShell unfolds at once, and ``n[1-99999999]`` would cost minutes and gigabytes.
    """
    text = text.strip()
    if text in _NO_NODES:
        return ()
    groups = _BETWEEN_GROUPS.split(text)
    if not all(map(_GROUP.fullmatch, groups)) or sum(map(_count, groups)) > MAX_HOSTS:
        return ()
    try:
        # Group by group, so that the order stays Slurm's.  Groups of nodes are never looked up on this machine.
        unfolded = [NodeSet(group, resolver=RESOLVER_NOGROUP) for group in groups]
    except NodeSetException:
        return ()
    return tuple(dict.fromkeys(host for nodes in unfolded for host in nodes))


def _count(group: str) -> int:
    """At most how many names one group unfolds to; more than MAX_HOSTS for a range that is none."""
    count = 1
    for ranges in _BRACKET.findall(group):
        found = [_RANGE.fullmatch(piece) for piece in ranges.split(",")]
        count *= sum(
            max(int(one[2] or one[1]) - int(one[1]) + 1, 0) if one is not None else MAX_HOSTS + 1
            for one in found
        )
    return count
