"""One attempt on one node, from the opened order to the sealed closing list."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.catalogue.isolation import is_contained
from hdrs_hpc.catalogue.workloads.plan import Given, Peer, Plan
from hdrs_hpc.confined.running import Running, SandboxFailedError
from hdrs_hpc.core import clock, wire
from hdrs_hpc.node import collect, inputs, keyless, wheels
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.dataserver import DataServer
from hdrs_hpc.node.launch import plan as launch
from hdrs_hpc.node.launch.plan import Launch
from hdrs_hpc.node.memory import Watch
from hdrs_hpc.node.meter import Meter, replace
from hdrs_hpc.node.network import PeerAddress
from hdrs_hpc.node.private_memory import PrivateMemory
from hdrs_hpc.node.sandbox import Places, Sandbox
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol import bundle, layout, wheel_lock
from hdrs_hpc.protocol.certificates import make_certificate
from hdrs_hpc.protocol.handover import FlavourOrder, LaunchOrder, NodeList, SealedInput
from hdrs_hpc.protocol.outputs import ClosingList, ClosingPointer, CollectedOutput, Ending, WorkloadExit
from hdrs_hpc.protocol.progress import Phase, Stop
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects import ObjectReads, on_node
from hdrs_hpc.sealing.objects.layered import LayeredReads
from hdrs_hpc.sealing.reader import SealedCopy

POLL_S = 0.05
UNJUDGED = WorkloadExit(Ending.CRASHED, 1, None, None, None)
"""An end about which nothing can be told."""
SPARE_THREADS, THREADS_A_CPU = 512, 64
"""How many processes and threads a workload may have on a node: libraries start one or two a CPU each."""


@dataclass(frozen=True)
class AttemptFolders:
    """All folders of an attempt on a node, in private memory."""

    places: Places
    journal: Path
    filled: tuple[Path, ...]
    """What the watch counts."""

    @classmethod
    def make(cls, memory: PrivateMemory, runtime: Path | None = None) -> AttemptFolders:
        places = Places(
            runtime=runtime or memory.flavour,
            out=memory.make("files", "out"),
            data=memory.make("data"),
            inputs=memory.make("files", "inputs"),
            bundle=memory.make("bundle"),
            wheels=memory.make("files", "wheels"),
            plan=memory.make("plan"),
            report=memory.make("report"),
            tmp=memory.make("files", "tmp"),
            shm=memory.make("files", "shm"),
        )
        return cls(places, memory.make("journal"), memory.filled)


@dataclass(frozen=True)
class Attempt:
    order: LaunchOrder
    nodes: NodeList
    given: AgentArguments
    folders: AttemptFolders
    sandbox: Sandbox
    show: Callable[[FlavourOrder], None]
    """Shows what the sandbox runs on, or raises StoppedEarly."""
    place: PeerAddress
    meter: Meter
    reason: Callable[[], Stop | None]
    """Whether to stop now, and why."""

    def run(self) -> None:
        """Run the order's workload and seal what it leaves.

        Raises StoppedEarly, and what sealing, bundle, sandbox and watch raise.
        """
        order, meter = self.order, self.meter
        meter.phase = Phase.OPENING
        plan = self._plan()
        self.show(order.flavour)
        copies = {name: self._open(sealed) for name, sealed in order.inputs.items()}
        meter.items_total = sum(len(copy.items()) for copy in copies.values())
        code = self._fetch_bundle()
        inputs.take_in(order.files, self._open, self.sandbox, self.folders.places, self.reason)
        server = DataServer(self.folders.places.data / launch.SOCKET_NAME, copies, meter)
        try:
            ended = self._run_workload(plan)
        finally:
            server.close()
            for copy in copies.values():
                copy.close()
        if self.nodes.nodes[0].node == self.given.node:  # the first one collects
            meter.phase = Phase.COLLECTING
            if not isinstance(ended, WorkloadExit):
                ended = self._judged(ended, code)
            self._seal_outputs(ended)

    def _plan(self) -> Plan:
        """What the signed spec's kind of workload makes of this node: nobody but this node's own code decides it."""
        order, workload = self.order, self.order.workload
        kind = workloads.of(workload)
        until = clock.from_text(order.not_after)
        given = Given(
            node=self.given.node,
            nodes=tuple(Peer(listed.node, listed.address) for listed in self.nodes.nodes),
            first_told=self.nodes.first_told,
            cpus=order.cpus,
            memory_mb=order.mem_mb,
            gpus=len(self.given.gpus.split(",")) if self.given.gpus else 0,
            certificate=make_certificate(order.shared_secret, order.attempt, clock.now(), until),
        )
        return kind.plan(kind.read(workload), given)

    def _open(self, sealed: SealedInput) -> SealedCopy:
        scratch = self.given.scratch
        objects: ObjectReads = on_node(scratch.joinpath(*sealed.parts))
        if sealed.added is not None:
            objects = LayeredReads(objects, on_node(scratch.joinpath(*sealed.added)))
        return SealedCopy.open(
            objects, sealed.key, sealed.role, self.order.project, sealed.holder, sealed.manifest_digest
        )

    def _fetch_bundle(self) -> bytes:
        """Open, check and unpack the researcher's code; gives it packed, nothing for a built-in workload."""
        ordered = self.order.bundle
        if ordered is None:
            return b""
        copy = self._open(ordered.sealed)
        packed = copy.read(layout.BUNDLE_PATH)
        checked = bundle.read(packed, ordered.digest)
        bundle.write(checked, self.folders.places.bundle)
        if lock := wheel_lock.of_bundle(checked.files, ordered.lock):
            wheels.unpack(copy, lock, self.folders.places)
        copy.close()
        return packed

    def _run_workload(self, plan: Plan) -> int | WorkloadExit:
        """The launcher's exit code, or the end that was made for it; the workload is dead after this."""
        order, places, meter = self.order, self.folders.places, self.meter
        inside = self.sandbox.inside(places)
        most_threads = SPARE_THREADS + THREADS_A_CPU * order.cpus
        self._write_launch(plan, inside, most_threads)
        self.place.release()
        python = inside.runtime / "bin/python3"
        argv = (str(python), "-I", "-B", "-m", "hdrs_hpc.node.launch", str(inside.plan / launch.PLAN_NAME))
        watch = Watch(order.mem_mb, most_threads, *self.folders.filled)
        try:
            running = self._start(argv, _environment(inside, self.given) | plan.environment)
            meter.pids = running.pids
            meter.processes_planned = 1 + len(plan.processes)  # the launcher
            meter.phase = Phase.RUNNING
            meter.workload_started()
            try:
                return self._wait(running, watch)
            finally:
                self.sandbox.end(running)
                meter.workload_ended()
                meter.pids = list
        finally:
            watch.close()

    def _write_launch(self, plan: Plan, inside: Places, most_threads: int) -> None:
        order, folder = self.order, self.folders.places.plan
        written = Launch(
            plan=dataclasses.replace(plan, files={}),
            most_threads=most_threads if is_contained(order.isolation) else 0,
            inputs=tuple(sorted(order.inputs)),
            files={name: str(inside.inputs / name) for name in sorted(order.files)},
            outputs={output.name: output.path for output in order.outputs},
            out=str(inside.out),
            bundle=str(inside.bundle),
            folder=str(inside.plan),
            report=str(inside.report),
            tmp=str(inside.tmp),
        )
        for name, text in plan.files.items():
            (folder / name).write_text(text, "ascii")
        (folder / launch.PLAN_NAME).write_bytes(wire.to_bytes(written))

    def _start(self, argv: tuple[str, ...], env: dict[str, str]) -> Running:
        """A sandbox that held when it was probed is tried once more before the attempt is given up."""
        places, gpus = self.folders.places, self.given.gpus
        try:
            return self.sandbox.start(argv, env, places, gpus)
        except SandboxFailedError:
            return self.sandbox.start(argv, env, places, gpus)

    def _wait(self, running: Running, watch: Watch) -> int | WorkloadExit:
        deadline = time.monotonic() + self.order.time_s
        while (code := running.poll()) is None:
            stop = self.reason()
            if stop is not None:
                raise StoppedEarly(stop)
            if time.monotonic() >= deadline:
                return WorkloadExit(Ending.OUT_OF_TIME, None, None, None, None)
            if (ended := watch.look(POLL_S)) is not None:
                return ended
        noticed = watch.end()
        return noticed if noticed is not None and code != 0 else code

    def _judged(self, code: int, packed: bytes) -> WorkloadExit:
        """What may be told of the end.  Who judges it reads what the workload wrote, so it holds no key."""
        ordered = self.order.bundle
        words = (self.folders.places.report, code, ordered.digest if ordered else "")
        said, _ = keyless.start("verdict", *words).communicate(packed)
        return wire.from_bytes(WorkloadExit, said) if said else UNJUDGED

    def _seal_outputs(self, ended: WorkloadExit) -> None:
        """Seal what was declared, then the closing list, then the manifest; at last say where that is."""
        order, scratch, out = self.order, self.given.scratch, self.folders.places.out
        target = scratch.joinpath(*layout.outputs_parts(order.project, order.attempt))
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        builder = CopyBuilder(
            on_node(target),
            order.output_key,
            "output",
            order.project,
            order.attempt,
            self.folders.journal,
        )
        out.chmod(0o700)  # the workload may have changed the folder itself
        leaving = tuple(output for output in order.outputs if output.kept is None)
        outputs = [*collect.collect(out, leaving, builder), *self._keep(ended)]
        items_read, bytes_read = self.meter.totals
        closing = ClosingList(
            attempt=order.attempt,
            project=order.project,
            node=self.given.node,
            workload=ended,
            outputs=tuple(outputs),
            undeclared=int(collect.has_undeclared(out, order.outputs)),
            items_read=items_read,
            bytes_read=bytes_read,
            running_s=self.meter.running_s,
        )
        builder.put(layout.CLOSING_LIST_PATH, wire.to_bytes(closing))
        sealed = builder.seal()
        pointer = ClosingPointer(order.attempt, sealed.manifest_name, sealed.manifest_digest)
        attempt_folder = scratch.joinpath(*layout.attempt_parts(order.project, order.attempt))
        replace(attempt_folder / layout.CLOSING_NAME, wire.to_bytes(pointer))

    def _keep(self, ended: WorkloadExit) -> list[CollectedOutput]:
        """Seal what stays in the project, each under its own key; nothing does of a workload that ended badly."""
        order, found = self.order, list[CollectedOutput]()
        if (ended.ending, ended.exit_code) != (Ending.EXITED, 0):
            return found
        for output in order.outputs:
            if (kept := output.kept) is not None:
                target = self.given.scratch.joinpath(*kept.parts)
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
                journal = self.folders.journal / kept.holder
                builder = CopyBuilder(on_node(target), kept.key, "copy", order.project, kept.holder, journal)
                found.append(collect.keep(self.folders.places.out, output, builder))
        return found


def _environment(inside: Places, given: AgentArguments) -> dict[str, str]:
    """What every workload has; its kind adds to it, and there is nothing else."""
    tmp = str(inside.tmp)
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": tmp,
        "TMPDIR": tmp,
        "XDG_CACHE_HOME": f"{tmp}/cache",
        "MPLCONFIGDIR": f"{tmp}/matplotlib",
        "MPLBACKEND": "agg",
        "LD_LIBRARY_PATH": str(inside.runtime / "lib"),
        "HDRS_DATA_SOCKET": str(inside.data / launch.SOCKET_NAME),
        "HDRS_WHEELS": str(inside.wheels),
        **({"CUDA_VISIBLE_DEVICES": given.gpus} if given.gpus else {}),
    }
