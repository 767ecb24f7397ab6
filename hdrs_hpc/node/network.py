"""Where other nodes of the same job reach this one."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from hdrs_hpc.catalogue.isolation import is_contained
from hdrs_hpc.node.arguments import AgentArguments

LOOPBACK = "127.0.0.1"
SANDBOX_PORT = 8786
"""Inside a network namespace of one's own every port is free."""


@dataclass
class PeerAddress:
    """An address of this node and a port kept free on it until :meth:`release`."""

    address: str
    port: int
    held: socket.socket | None

    @classmethod
    def find(cls, given: AgentArguments) -> PeerAddress:
        """Loopback for a single node; else the address by which this node talks to the job's first one."""
        if is_contained(given.isolation):
            return cls(LOOPBACK, SANDBOX_PORT, None)
        address = LOOPBACK if given.nodes == 1 else _address_towards(given.launch_address or given.node)
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.bind((address, 0))
        return cls(address, int(held.getsockname()[1]), held)

    def release(self) -> None:
        """Let a process of the workload bind the port.  Another could be quicker, without a certificate."""
        if self.held is not None:
            self.held.close()
            self.held = None


def _address_towards(other: str) -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))  # a datagram socket sends nothing by connecting
        return str(probe.getsockname()[0])
    return LOOPBACK
