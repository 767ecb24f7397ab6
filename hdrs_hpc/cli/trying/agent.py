"""The process that stands for a node's agent: the attempt as a node runs it, with its output shown.

``python -m hdrs_hpc.cli.trying.agent FOLDER``, with the :class:`Asked` on standard input.  It takes no key from
anybody: those that it is told are made up for this one run.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

from hdrs_hpc.catalogue.workloads.plan import Rendezvous
from hdrs_hpc.cli.trying.sandbox import ShownSandbox
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between
from hdrs_hpc.node import hardening, private_memory
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.attempt import Attempt, AttemptFolders
from hdrs_hpc.node.meter import Meter
from hdrs_hpc.node.network import LOOPBACK, PeerAddress
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol.handover import FlavourOrder, LaunchOrder, ListedNode, NodeList
from hdrs_hpc.protocol.progress import Stop, reason_of

NODE = "here"
SCRATCH, MEMORY = "scratch", "node"
NO_DIGEST = f"sha256:{'0' * 64}"


@dataclass(frozen=True)
class Asked:
    order: LaunchOrder
    runtime: Annotated[str, Between(1, 4096)]
    """The folder of the interpreter."""
    beside: tuple[str, ...]
    gpus: str


class Signals:
    """Whether somebody wants it to stop."""

    def __init__(self) -> None:
        self._told = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._told = True

    def reason(self) -> Stop | None:
        return Stop.SIGNAL if self._told else None


def _shown_already(order: FlavourOrder) -> None:
    """It runs on the interpreter that it was told."""


def main(argv: list[str]) -> int:
    """0 where the outputs were sealed, however the workload ended; else a reason code is in ``stopped``."""
    os.umask(0o077)
    folder = Path(argv[0])
    asked = wire.from_bytes(Asked, sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    order = asked.order
    # Before any thread exists.
    private = private_memory.enter(folder / MEMORY, order.mem_mb // 2)
    hardening.harden()
    hardening.adopt_orphans()
    signals = Signals()
    given = AgentArguments(
        attempt=order.attempt,
        project=order.project,
        audience=NODE,
        scratch=folder / SCRATCH,
        private=folder / MEMORY,
        broker_key="",
        isolation=order.isolation,
        runtime=NO_DIGEST,
        flavour=NO_DIGEST,
        memory_mb=order.mem_mb,
        lifetime_s=order.time_s,
        nodes=1,
        node=NODE,
        launch_address=LOOPBACK,
        gpus=asked.gpus,
    )
    place = PeerAddress.find(given)
    nodes = NodeList(
        order.attempt, (ListedNode(NODE, place.address, NO_DIGEST),), Rendezvous(place.port).to_bytes()
    )
    sandbox = ShownSandbox(order.isolation, beside=tuple(map(Path, asked.beside)))
    folders = AttemptFolders.make(private, Path(asked.runtime))
    stopped = ""
    try:
        Attempt(order, nodes, given, folders, sandbox, _shown_already, place, Meter(), signals.reason).run()
    except StoppedEarly as ended:
        stopped = reason_of(ended.stop)
    except SandboxFailedError as failed:
        stopped = failed.code
    finally:
        private.forget()
    if stopped:
        (folder / "stopped").write_text(stopped, "ascii")
    return 1 if stopped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
