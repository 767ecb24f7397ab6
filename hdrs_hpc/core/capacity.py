"""What a cluster has for one job: its kinds of nodes, and the limits of the partition that jobs go to.

The cluster tells it, the broker keeps it, and rules compare with it what a spec asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def _split(gres: str) -> tuple[str, str, int]:
    """Name, type (may be empty) and count of ``gpu:4`` or ``gpu:a100:4``."""
    name, _, rest = gres.partition(":")
    kind, _, count = rest.rpartition(":")
    return name, kind.lower(), int(count)


@dataclass(frozen=True)
class NodeKind:
    """Nodes that are alike; memory is what Slurm calls MB, ``gres`` are its words, such as ``gpu:a100:4``."""

    nodes: int
    cpus: int
    mem_mb: int
    gres: tuple[str, ...] = ()

    def gives(self, asked: str) -> bool:
        """Whether a node has the generic resources asked for.  One whose type it does not tell may be any."""
        name, kind, count = _split(asked)
        had = (_split(gres) for gres in self.gres)
        return count <= sum(has for found, of, has in had if found == name and kind in ("", of or kind))

    @property
    def gpus(self) -> int:
        return sum(count for name, _, count in map(_split, self.gres) if name == "gpu")

    def as_dict(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "cpus": self.cpus, "mem-mb": self.mem_mb, "gres": list(self.gres)}


@dataclass(frozen=True)
class Capacity:
    """``max_nodes`` and ``max_time_s`` are what one job may have at most; None: no limit but the nodes."""

    kinds: tuple[NodeKind, ...]
    max_nodes: int | None = None
    max_time_s: int | None = None
    whole_nodes: bool = False
    """Whether a job gets whole nodes, with all GPUs that they have, and is charged for them."""

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Capacity:
        kinds = tuple(
            NodeKind(kind["nodes"], kind["cpus"], kind["mem-mb"], tuple(kind["gres"]))
            for kind in value["kinds"]
        )
        return cls(kinds, value["max-nodes"], value["max-time-s"], value.get("whole-nodes", False))

    def as_dict(self) -> dict[str, Any]:
        return {
            "kinds": [kind.as_dict() for kind in self.kinds],
            "max-nodes": self.max_nodes,
            "max-time-s": self.max_time_s,
            "whole-nodes": self.whole_nodes,
        }

    @property
    def most_cpus(self) -> int:
        return max((kind.cpus for kind in self.kinds), default=0)

    @property
    def most_mem_mb(self) -> int:
        return max((kind.mem_mb for kind in self.kinds), default=0)

    @property
    def gres(self) -> tuple[str, ...]:
        """What generic resources there are on any node, each once."""
        return tuple(dict.fromkeys(gres for kind in self.kinds for gres in kind.gres))

    def gpus_charged(self, asked: int, fits: Callable[[NodeKind], bool]) -> int:
        """GPUs of one node that a job is charged for which asks for so many, on a node that fits: of unlike nodes the
        one that has most, since nobody knows which it will get."""
        if not self.whole_nodes:
            return asked
        return max((kind.gpus for kind in self.kinds if fits(kind)), default=asked)

    def nodes_where(self, fits: Callable[[NodeKind], bool]) -> int:
        """How many nodes of those that fit one job may have."""
        fitting = sum(kind.nodes for kind in self.kinds if fits(kind))
        return fitting if self.max_nodes is None else min(fitting, self.max_nodes)
