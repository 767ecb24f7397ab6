"""How far a node shuts a workload in: the levels and their order.  No other module names, lists or compares them.

Standard library only, since the agent on a node imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Isolation = Literal["cooperative", "sandboxed", "fenced"]
"""What a grant may ask for."""
GivenIsolation = Literal["cooperative", "sandboxed"]
"""What nodes can give in this version: the levels that are built."""


@dataclass(frozen=True)
class Level:
    name: Isolation
    meaning: str
    """For a person who chooses or reads it."""
    built: bool
    joins_nodes: bool
    """Whether the nodes of one job can talk to each other at this level."""


LEVELS: Final[tuple[Level, ...]] = (
    Level("cooperative", "for trying out, never for patient data", built=True, joins_nodes=True),
    Level("sandboxed", "no network, no keys, no scratch in the sandbox", built=True, joins_nodes=False),
    Level("fenced", "nodes of a job fenced in together by the site", built=False, joins_nodes=True),
)
"""Weakest first: each level gives what those before it give."""

WEAKEST: Final[GivenIsolation] = "cooperative"
SANDBOXED: Final[GivenIsolation] = "sandboxed"
LEAST_FOR_REAL_DATA: Final[GivenIsolation] = SANDBOXED
LEAST_FOR_UNREAD_CODE: Final[GivenIsolation] = SANDBOXED
GIVEN: Final[tuple[GivenIsolation, ...]] = (WEAKEST, SANDBOXED)

_BY_NAME = {level.name: level for level in LEVELS}
_RANK = {level.name: rank for rank, level in enumerate(LEVELS)}


def level(name: Isolation) -> Level:
    return _BY_NAME[name]


def at_least(given: Isolation, needed: Isolation) -> bool:
    """Whether a node that gives ``given`` may run what needs ``needed``."""
    return _RANK[given] >= _RANK[needed]


def strictest(*asked: Isolation) -> Isolation:
    """The one level that satisfies all of them."""
    return max(asked, key=_RANK.__getitem__)


def is_contained(name: Isolation) -> bool:
    """Whether a sandbox keeps the workload from the node, its network and the account's files."""
    return at_least(name, SANDBOXED)


def offered_to(nodes: int, cluster: Isolation) -> Isolation:
    """What a job on so many nodes gets where the site promises ``cluster``: several nodes must be able to talk."""
    if nodes == 1:
        return cluster
    return strictest(*(level.name for level in LEVELS if level.joins_nodes and at_least(cluster, level.name)))
