"""What a node starts for a workload: made by the kind's module, executed by ``node/launch``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count, Name, NodeName

MAX_PROCESSES = 1024
MAX_FILE_CHARS = 16 << 10


@dataclass(frozen=True)
class Rendezvous:
    """What every node tells its peers before it knows what it will run: a port that it keeps free for them."""

    port: Annotated[int, Between(1, 65535)]

    def to_bytes(self) -> bytes:
        return wire.to_bytes(self)

    @classmethod
    def read(cls, raw: bytes) -> Rendezvous:
        """Raises BadDocumentError."""
        return wire.from_bytes(cls, raw)


@dataclass(frozen=True)
class Peer:
    """A node of the attempt, as the broker's signed list names it."""

    node: NodeName
    address: str


class PemCertificate(Protocol):
    """PEM texts (``protocol/certificates.py``): the attempt's own authority, this node's certificate and key."""

    @property
    def ca(self) -> str: ...
    @property
    def cert(self) -> str: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True)
class Given:
    """What a plan may rest on: nothing in it comes from anybody but the signed spec, keyd, and this node."""

    node: NodeName
    nodes: tuple[Peer, ...]
    """All nodes of the attempt in the order of the signed list; the first one collects the outputs."""
    first_told: bytes
    """What the first node told its peers (:class:`Rendezvous`)."""
    cpus: int
    """Of one node, as are ``memory_mb`` and ``gpus``."""
    memory_mb: int
    gpus: int
    certificate: PemCertificate
    """By which the nodes of this attempt know each other."""

    @property
    def is_first(self) -> bool:
        return self.nodes[0].node == self.node

    @property
    def address(self) -> str:
        return next(peer.address for peer in self.nodes if peer.node == self.node)


@dataclass(frozen=True)
class Process:
    """One process of a workload on one node."""

    role: Name
    number: Count
    """Among the processes of the node."""


@dataclass(frozen=True)
class Plan:
    """Which processes run on one node, and when they are over."""

    module: str
    """Imported once inside the sandbox; each process is forked from there and calls ``run(launch, process)``."""
    processes: Annotated[tuple[Process, ...], Between(1, MAX_PROCESSES)]
    told: dict[str, Any]
    """What all of them are told: plain JSON values, which only ``module`` understands."""
    ends_with: Name | None = None
    """The role whose end is the workload's end on this node, with its exit code; None: with the last process."""
    needs: tuple[Name, ...] = ()
    """Roles for which ``ends_with`` works: where no process of one is left, it is soon ended too."""
    environment: dict[str, str] = field(default_factory=dict)
    """Beside what every workload has: no secret, since processes show it."""
    files: dict[str, Annotated[str, Between(0, MAX_FILE_CHARS)]] = field(default_factory=dict)
    """Text files put beside the plan, in private memory: certificates, for instance."""
