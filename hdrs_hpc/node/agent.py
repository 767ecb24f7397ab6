"""The node agent: holds the keys of one attempt on one node, and lets a workload see data but never a key.

Story: private memory → not dumpable → begin to read the flavour → probe the sandbox → key pair, courier socket →
wait for the answer → show the flavour → open inputs, serve them → start the workload → wait for its end, for the
time, or for a stop → kill all of it → seal the declared outputs and the closing list → end.  Until the sandbox
stands, nothing is imported but the standard library, ``cryptography`` and ours.
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType

from hdrs_hpc.catalogue.workloads import WorkloadKindError
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import BadDocumentError, HdrsError, NotFoundError, SiteError
from hdrs_hpc.node import arguments, attempt, hardening, keyless, meter, network, private_memory
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.attempt import AttemptFolders
from hdrs_hpc.node.flavour import Flavour
from hdrs_hpc.node.handover import CourierSocket, Handover
from hdrs_hpc.node.memory import Watch
from hdrs_hpc.node.private_memory import PrivateMemory
from hdrs_hpc.node.probe import probe
from hdrs_hpc.node.sandbox import Sandbox
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.bundle import BundleDigestError
from hdrs_hpc.protocol.handover import LaunchOrder, NodeList, satisfies
from hdrs_hpc.protocol.progress import Phase, Progress, Stop
from hdrs_hpc.protocol.wheel_lock import LockDigestError

WAIT_S = 0.05
EX_STOPPED = 75
STOPS: tuple[tuple[tuple[type[Exception], ...], Stop], ...] = (
    ((SandboxFailedError,), Stop.ISOLATION),
    ((BundleDigestError, LockDigestError), Stop.BUNDLE_MISMATCH),
    ((WorkloadKindError,), Stop.KEYS_REFUSED),
    ((BadDocumentError, NotFoundError), Stop.INPUT_UNREADABLE),
    ((SiteError, OSError), Stop.SCRATCH),
    ((HdrsError,), Stop.BUG),
)
"""How an attempt ends that met such an error; the first that fits counts."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: list[str]) -> int:
    """0 where the outputs were sealed, however the workload ended; 75 where the agent had to stop."""
    os.umask(0o077)
    given = arguments.parse(argv)
    private = private_memory.enter(given.private, given.memory_mb // 2)
    not_dumpable = hardening.harden()
    hardening.adopt_orphans()
    return Agent(given, private, not_dumpable=not_dumpable).run()


class Agent:
    def __init__(self, given: AgentArguments, private: PrivateMemory, *, not_dumpable: bool) -> None:
        self._given = given
        self._memory = private
        self._deadline = time.monotonic() + given.lifetime_s
        self._not_after: datetime | None = None
        # No threading.Event: a second signal in the middle of its set() would wait for the first for ever.
        self._signalled = False
        self._parent = os.getppid()
        for number in ENDING:
            signal.signal(number, self._on_signal)
        self._folders = AttemptFolders.make(private)
        self._flavour = Flavour(given.scratch, private, given.memory_mb, given.flavour)
        self._sandbox = Sandbox(given.isolation)
        self._meter = meter.Meter()
        self._place = network.PeerAddress.find(given)
        self._handover = self._prepare(not_dumpable=not_dumpable)
        self._file: meter.ProgressFile | None = self._progress_file() if given.nodes == 1 else None

    def run(self) -> int:
        couriers = CourierSocket(self._given.private / layout.SOCKET_NAME, self._handover)
        try:
            order, nodes = self._wait_for_order()
            if nodes.nodes[0].node == self._given.node and self._file is None:
                self._file = self._progress_file()
            parts = (self._folders, self._sandbox, self._flavour.take, self._place, self._meter, self._reason)
            attempt.Attempt(order, nodes, self._given, *parts).run()
        except StoppedEarly as ended:
            self._meter.stop = ended.stop
        except (HdrsError, OSError) as error:
            self._meter.stop = next(stop for kinds, stop in STOPS if isinstance(error, kinds))
        finally:
            self._meter.phase = Phase.DONE if self._meter.stop is Stop.NONE else Phase.STOPPED
            self._handover.close()
            self._flavour.close()
            couriers.close()
            self._memory.forget()
            if self._file is not None:
                self._file.close()
        # What comes now must not change the exit code: the interpreter drops our handler.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        return 0 if self._meter.stop is Stop.NONE else EX_STOPPED

    def _prepare(self, *, not_dumpable: bool) -> Handover:
        given = self._given
        watch = Watch(given.memory_mb, 0, *self._folders.filled)
        watch.close()
        named = keyless.start("gpus").communicate()[0] if given.gpus else b""
        found = probe(
            given.isolation,
            self._sandbox,
            replace(self._folders.places, runtime=given.private / layout.RUNTIME_FOLDER),
            _secret_paths(given),
            private_memory=self._memory.private,
            not_dumpable=not_dumpable,
            gpus=len(given.gpus.split(",")) if given.gpus else 0,
            memory_wall=watch.wall,
            gpu_models=tuple(named.decode("ascii").splitlines()),
        )
        return Handover(given, found, self._place)

    def _wait_for_order(self) -> tuple[LaunchOrder, NodeList]:
        """The order and the list of nodes, once a courier brought a good answer.  Raises StoppedEarly."""
        while True:
            self._handover.changed.wait(WAIT_S)
            order, nodes = self._handover.order, self._handover.nodes
            if order is not None and nodes is not None:
                self._not_after = clock.from_text(order.not_after)
                if not satisfies(self._handover.hello.probe, order.isolation):
                    raise StoppedEarly(Stop.ISOLATION)
                return order, nodes
            reason = self._reason()
            if reason is not None:
                raise StoppedEarly(Stop.NO_KEYS if reason is Stop.NOT_AFTER else reason)

    def _reason(self) -> Stop | None:
        """Why the agent must stop now, if it must."""
        orphaned = os.getppid() != self._parent  # the batch script is gone, and nobody will clean up but we
        if self._signalled or self._handover.stop_asked or orphaned:
            return Stop.SIGNAL
        late = self._not_after is not None and clock.now() >= self._not_after
        return Stop.NOT_AFTER if late or time.monotonic() >= self._deadline else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _progress_file(self) -> meter.ProgressFile:
        path = self._given.scratch.joinpath(*layout.progress_parts(self._given.project, self._given.attempt))
        return meter.ProgressFile(path, self._snapshot)

    def _snapshot(self) -> Progress:
        return self._meter.snapshot(self._handover.alarms)


def _secret_paths(given: AgentArguments) -> tuple[Path, ...]:
    """What a sandboxed workload must not find: scratch, the agent's folder, the account's home."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    paths = (given.scratch, given.private, *([home] if len(home.parts) > 1 else []))
    return tuple(path for path in paths if path.exists())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
