"""Which processes run on which node of an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from hdrs_hpc.protocol.wire import Between, NodeName


@dataclass(frozen=True)
class NodeRanks:
    """The first node also runs the scheduler and the client, which are nearly idle while workers work."""

    node: NodeName
    first: bool
    workers: Annotated[int, Between(1, 512)]
    threads: Annotated[int, Between(1, 512)]
    """Threads per worker."""


def plan_ranks(nodes: Sequence[str], cpus: int) -> tuple[NodeRanks, ...]:
    """Ranks for ``nodes`` (in the broker's order) of ``cpus`` each.

    Up to eight CPUs one single-threaded worker each: Python's own work between numpy calls then scales.
    Beyond that four threads a worker, since every process costs some 150 MB and connections to all others.
    """
    threads = 1 if cpus <= 8 else 4
    workers = max(1, cpus // threads)
    return tuple(NodeRanks(node, index == 0, workers, threads) for index, node in enumerate(nodes))
