"""One attempt on one node, from the opened order to the sealed closing list."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.node import collect, verdict
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.dataserver import DataServer
from hdrs_hpc.node.launch import plan as launch
from hdrs_hpc.node.launch.plan import LaunchPlan
from hdrs_hpc.node.memory import Cgroup, Watch
from hdrs_hpc.node.meter import Meter, replace
from hdrs_hpc.node.network import Place
from hdrs_hpc.node.private_memory import PrivateMemory
from hdrs_hpc.node.sandbox import Limits, Places, Running, Sandbox, SandboxFailedError
from hdrs_hpc.protocol import bundle, layout, wire
from hdrs_hpc.protocol.handover import LaunchOrder, SealedInput
from hdrs_hpc.protocol.outputs import ClosingList, ClosingPointer, MemoryTaken, WorkloadExit
from hdrs_hpc.protocol.progress import Phase, Stop
from hdrs_hpc.protocol.ranks import NodeRanks
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects import ObjectReads
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.objects.layered import LayeredReads
from hdrs_hpc.sealing.reader import SealedCopy

POLL_S = 0.05
SPARE_THREADS, THREADS_A_CPU = 512, 64
"""How many processes and threads a workload may have on a node: libraries start one or two a CPU each."""
CONNECT_TIMEOUT_S = 120


@dataclass(frozen=True)
class Ran:
    """How the launcher ended: by itself with ``code``, or by us for one of the other reasons."""

    code: int = 0
    late: bool = False
    memory: MemoryTaken | None = None
    crowded: bool = False


class StoppedEarly(Exception):
    """The attempt ends without sealed outputs."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


@dataclass(frozen=True)
class AttemptFolders:
    """All folders of an attempt on a node; all but the runtime are in private memory."""

    places: Places
    journal: Path

    @classmethod
    def make(cls, memory: PrivateMemory, runtime: Path) -> AttemptFolders:
        places = Places(
            runtime=runtime,
            out=memory.make("files", "out"),
            data=memory.make("data"),
            bundle=memory.make("bundle"),
            plan=memory.make("plan"),
            report=memory.make("report"),
            tmp=memory.make("files", "tmp"),
            shm=memory.make("files", "shm"),
        )
        return cls(places, memory.make("journal"))


def run(
    order: LaunchOrder,
    given: AgentArguments,
    folders: AttemptFolders,
    sandbox: Sandbox,
    place: Place,
    meter: Meter,
    reason: Callable[[], Stop | None],
) -> None:
    """Run the order's workload and seal what it leaves.  ``reason`` says whether to stop now, and why.

    Raises StoppedEarly, and what sealing, bundle and sandbox raise.
    """
    ranks = next(ranks for ranks in order.ranks if ranks.node == given.node)
    meter.phase = Phase.OPENING
    inputs = {name: _open(order, given.scratch, sealed) for name, sealed in order.inputs.items()}
    meter.items_total = sum(len(copy.items()) for copy in inputs.values())
    code = _fetch_bundle(order, given.scratch, folders.places.bundle)
    server = DataServer(folders.places.data / launch.SOCKET_NAME, inputs, meter)
    try:
        ran = _run_workload(order, given, ranks, folders, sandbox, place, meter, reason)
    finally:
        server.close()
        for copy in inputs.values():
            copy.close()
    if ranks.first:
        meter.phase = Phase.COLLECTING
        report = folders.places.report
        ended = verdict.judge(ran.code, ran.late, report, code, memory=ran.memory, crowded=ran.crowded)
        _seal_outputs(order, given, folders, ended, meter)


def _open(order: LaunchOrder, scratch: Path, sealed: SealedInput) -> SealedCopy:
    objects: ObjectReads = DirectoryStore(scratch.joinpath(*sealed.parts))
    if sealed.added is not None:
        objects = LayeredReads(objects, DirectoryStore(scratch.joinpath(*sealed.added)))
    return SealedCopy.open(
        objects, sealed.key, sealed.role, order.project, sealed.holder, sealed.manifest_digest
    )


def _fetch_bundle(order: LaunchOrder, scratch: Path, folder: Path) -> dict[str, bytes]:
    """Open, check and unpack the researcher's code; empty for a built-in workload."""
    ordered = order.workload.bundle
    if ordered is None:
        return {}
    copy = _open(order, scratch, ordered.sealed)
    checked = bundle.read(copy.read(layout.BUNDLE_PATH), ordered.digest)
    copy.close()
    bundle.write(checked, folder)
    return checked.files


def _run_workload(
    order: LaunchOrder,
    given: AgentArguments,
    ranks: NodeRanks,
    folders: AttemptFolders,
    sandbox: Sandbox,
    place: Place,
    meter: Meter,
    reason: Callable[[], Stop | None],
) -> Ran:
    """How the launcher ended; the workload is dead after this."""
    places, inside = folders.places, sandbox.inside(folders.places)
    _write_plan(order, ranks, places, inside, place)
    place.release()
    python = inside.runtime / "bin/python3"
    argv = (str(python), "-I", "-B", "-m", "hdrs_hpc.node.launch", str(inside.plan / launch.PLAN_NAME))
    watch = Watch(order.mem_mb, most_threads(order), places.out, Cgroup.find())
    running = _start(sandbox, argv, _environment(inside, ranks, given), places, Limits(gpus=given.gpus))
    meter.pids = running.pids
    meter.ranks_planned = 1 + (2 if ranks.first else 0) + ranks.workers  # launcher; scheduler and client
    meter.phase = Phase.RUNNING
    meter.workload_started()
    try:
        return _wait(running, time.monotonic() + order.time_s, reason, watch)
    finally:
        running.kill()
        meter.workload_ended()
        meter.pids = list


def _start(
    sandbox: Sandbox, argv: tuple[str, ...], env: dict[str, str], places: Places, limits: Limits
) -> Running:
    """A sandbox that held when it was probed is tried once more before the attempt is given up."""
    try:
        return sandbox.start(argv, env, places, limits)
    except SandboxFailedError:
        return sandbox.start(argv, env, places, limits)


def _wait(running: Running, deadline: float, reason: Callable[[], Stop | None], watch: Watch) -> Ran:
    while (code := running.poll()) is None:
        stop = reason()
        if stop is not None:
            raise StoppedEarly(stop)
        if time.monotonic() >= deadline:
            return Ran(late=True)
        if (taken := watch.look(running.pids)) is not None:
            return Ran(memory=taken)
        if watch.crowded(running.pids()):
            return Ran(crowded=True)
        time.sleep(POLL_S)
    return Ran(code, memory=watch.killed() if code != 0 else None)


def most_threads(order: LaunchOrder) -> int:
    return SPARE_THREADS + THREADS_A_CPU * order.cpus


def _write_plan(order: LaunchOrder, ranks: NodeRanks, places: Places, inside: Places, place: Place) -> None:
    plan = LaunchPlan(
        first=ranks.first,
        nodes=len(order.ranks),
        workers=ranks.workers,
        threads=ranks.threads,
        workers_in_all=sum(node.workers for node in order.ranks),
        memory_mb=order.mem_mb // 2,
        most_threads=most_threads(order) if order.isolation == "sandboxed" else 0,
        address=place.address,
        scheduler=order.scheduler,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        builtin=order.workload.builtin,
        entry=order.workload.entry,
        parameters=order.workload.parameters,
        inputs=tuple(sorted(order.inputs)),
        outputs={output.name: output.path for output in order.outputs},
        out=str(inside.out),
        bundle=str(inside.bundle),
        plan=str(inside.plan),
        report=str(inside.report),
        tmp=str(inside.tmp),
    )
    (places.plan / launch.PLAN_NAME).write_bytes(wire.to_bytes(plan))
    for name, text in (
        (launch.TLS_CA, order.tls.ca),
        (launch.TLS_CERT, order.tls.cert),
        (launch.TLS_KEY, order.tls.key),
    ):
        (places.plan / name).write_text(text, "ascii")


def _environment(inside: Places, ranks: NodeRanks, given: AgentArguments) -> dict[str, str]:
    """The workload's whole environment."""
    threads = str(ranks.threads)
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
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        **({"CUDA_VISIBLE_DEVICES": given.gpus} if given.gpus else {}),
    }


def _seal_outputs(
    order: LaunchOrder, given: AgentArguments, folders: AttemptFolders, ended: WorkloadExit, meter: Meter
) -> None:
    """Seal what was declared, then the closing list, then the manifest; at last say where that is."""
    attempt_folder = given.scratch.joinpath(*layout.attempt_parts(order.project, order.attempt))
    target = given.scratch.joinpath(*layout.outputs_parts(order.project, order.attempt))
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    builder = CopyBuilder(
        DirectoryStore(target), order.output_key, "output", order.project, order.attempt, folders.journal
    )
    folders.places.out.chmod(0o700)  # the workload may have changed the folder itself
    outputs = collect.collect(folders.places.out, order.outputs, builder)
    items_read, bytes_read = meter.totals
    closing = ClosingList(
        attempt=order.attempt,
        project=order.project,
        node=given.node,
        workload=ended,
        outputs=tuple(outputs),
        undeclared=int(collect.has_undeclared(folders.places.out, order.outputs)),
        items_read=items_read,
        bytes_read=bytes_read,
        running_s=meter.running_s,
    )
    builder.put(layout.CLOSING_LIST_PATH, wire.to_bytes(closing))
    sealed = builder.seal()
    pointer = ClosingPointer(order.attempt, sealed.manifest_name, sealed.manifest_digest)
    replace(attempt_folder / layout.CLOSING_NAME, wire.to_bytes(pointer))
