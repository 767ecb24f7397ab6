"""The ranks of a ``torch`` workload: torchrun without its command line, and what each rank does.

torchrun runs in this process, so its ranks are forked from one that has imported PyTorch already.  Each rank is two
processes: one that torchrun watches and that only waits, and one that runs the workload's code.  The first sees how
the second ended, and of all that befalls the ranks the first thing is told (:func:`write_first`): what the others
then meet in a collective says nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
)
from torch.distributed.launcher.api import (
    LaunchConfig,
    elastic_launch,
)

from hdrs_hpc.catalogue.workloads.plan import Process
from hdrs_hpc.catalogue.workloads.torch import TorchTold
from hdrs_hpc.core import wire
from hdrs_hpc.node.launch.crash import report, write_first, write_report
from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION, Cause, CrashReport, Launch
from hdrs_hpc.workloads import entry
from hdrs_hpc.workloads.context import Context
from imaging.reading.torch_loading import ResumableLoader

MONITOR_S = 0.1
SHUTDOWN_S = 5
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
_EXITING = 0x4
"""PF_EXITING in the flags of ``/proc/<pid>/stat``: sockets may be closed already, the end not yet told."""
_TORCHRUNS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class TorchContext(Context):
    """The context of one rank, whose process group is up: ``rank`` of ``world_size``, on ``device``."""

    def __init__(self, launch: Launch, told: TorchTold) -> None:
        super().__init__(launch, told.parameters)
        self.rank = distributed.get_rank()
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.world_size = distributed.get_world_size()
        self.device = _device(told)

    def loader(self, dataset: Any, batch_size: int, **options: Any) -> ResumableLoader:
        """Batches of a map-style data set for this rank, in an order that all ranks share: a DataLoader, whose
        ``options`` they are, with ``state_dict()`` and ``load_state_dict()`` (``docs/training.md``)."""
        return ResumableLoader(dataset, batch_size, rank=self.rank, world_size=self.world_size, **options)


class Stage(IntEnum):
    """How far a rank is."""

    NOT_BEGUN = 0
    BEGUN = 1
    RAISED = 2
    CAME_BACK = 3


class Stages:
    """What each rank is doing, in memory that all of them share."""

    _SLOT = struct.Struct("=II")

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._memory = mmap.mmap(-1, ranks * self._SLOT.size)

    def put(self, rank: int, stage: Stage) -> None:
        self._SLOT.pack_into(self._memory, rank * self._SLOT.size, stage, os.getpid())

    def stage(self, rank: int) -> Stage:
        return Stage(self._at(rank)[0])

    def others(self, rank: int) -> list[tuple[Stage, int]]:
        """Stage and process of every other rank that has begun."""
        found = [self._at(other) for other in range(self._ranks) if other != rank]
        return [(Stage(stage), pid) for stage, pid in found if stage]

    def _at(self, rank: int) -> tuple[int, int]:
        stage, pid = self._SLOT.unpack_from(self._memory, rank * self._SLOT.size)
        return int(stage), int(pid)


def run(launch: Launch, process: Process) -> int:
    """Be torchrun until the training's end; gives its exit code."""
    told = wire.from_value(TorchTold, launch.plan.told)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=told.ranks,
        run_id="job",
        rdzv_backend="static",
        rdzv_endpoint=f"{told.address}:{told.port}",
        rdzv_configs={"rank": 0, "timeout": told.join_timeout_s},
        local_addr=told.address,
        max_restarts=0,
        monitor_interval=MONITOR_S,
        start_method="fork",
        shutdown_timeout=SHUTDOWN_S,
    )
    try:
        elastic_launch(config, _watched)(launch, told, Stages(told.ranks))
    except ChildFailedError:
        return EXIT_EXCEPTION
    return 0


def _watched(launch: Launch, told: TorchTold, stages: Stages) -> None:
    """The process of a rank that torchrun knows: waits for the one that runs the workload's code."""
    for number in _TORCHRUNS_SIGNALS:
        signal.signal(
            number, signal.SIG_DFL
        )  # torchrun's handlers came along, and would not end this process
    rank = int(os.environ["RANK"])
    pid = os.fork()
    if pid == 0:
        _be(launch, told, stages, rank)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 0 and stages.stage(rank) is Stage.CAME_BACK:
        return
    if stages.stage(rank) is not Stage.RAISED:
        write_first(Path(launch.report), _ended(code, stages, rank))
    os._exit(EXIT_EXCEPTION)


def _ended(code: int, stages: Stages, rank: int) -> CrashReport:
    """How a rank ended without a word of its own."""
    left = any(stage is Stage.CAME_BACK for stage, _ in stages.others(rank))
    if code == -signal.SIGABRT and left:  # NCCL gives up so on a collective that nobody answers
        return CrashReport(None, None, None, Cause.PROCESS_ENDED_EARLY)
    if code < 0:
        return CrashReport(None, None, None, Cause.PROCESS_KILLED, -code)
    return CrashReport(None, None, None, Cause.PROCESS_EXITED)


def _be(launch: Launch, told: TorchTold, stages: Stages, rank: int) -> None:
    """One rank until its end, whatever the workload's code leaves behind in it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # when torchrun ends its parent
    code = EXIT_EXCEPTION
    try:
        code = _run_rank(launch, told, stages, rank)
    finally:
        os._exit(code)


def _run_rank(launch: Launch, told: TorchTold, stages: Stages, rank: int) -> int:
    stages.put(rank, Stage.BEGUN)
    folder, bundle = Path(launch.report), Path(launch.bundle)
    try:
        called = entry.load(told.builtin, told.entry, bundle)
        if not _join(told, rank):
            stages.put(rank, Stage.RAISED)
            write_first(folder, CrashReport(None, None, None, Cause.PROCESS_NOT_JOINED))
            return EXIT_EXCEPTION
        called(TorchContext(launch, told))
    except BaseException as error:  # whatever leaves the workload's code is its crash, SystemExit included
        if not (isinstance(error, SystemExit) and error.code in (0, None)):
            _tell(folder, error, bundle, stages, rank)
            return EXIT_EXCEPTION
    stages.put(rank, Stage.CAME_BACK)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return 0


def _tell(folder: Path, error: BaseException, bundle: Path, stages: Stages, rank: int) -> None:
    """Report an exception, unless it is what the death of another rank did to this one."""
    others = stages.others(rank)
    collective = _left_in_torch_distributed(error.__traceback__)
    stages.put(rank, Stage.RAISED)
    if collective and any(stage is Stage.BEGUN and _is_ending(pid) for stage, pid in others):
        return  # the process that watches that one tells how it ended
    if collective and any(stage is Stage.CAME_BACK for stage, _ in others):
        made = report(error, bundle)
        write_first(folder, CrashReport(None, made.file, made.line, Cause.PROCESS_ENDED_EARLY))
        return
    write_report(folder, error, bundle)


def _left_in_torch_distributed(trace: TracebackType | None) -> bool:
    """Whether an exception comes from a collective, or from what calls one in a backward pass."""
    last = None
    while trace is not None:
        last, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return str(last).startswith(("torch.distributed", "torch.autograd", "torch.nn.parallel", "torch._"))


def _is_ending(pid: int) -> bool:
    """Whether a process is gone, a zombie, or on its way there."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return True
    return state in "ZX" or bool(int(fields[5]) & _EXITING)


def _join(told: TorchTold, rank: int) -> bool:
    """Meet the other ranks and make the process group; whether all came in time."""
    if told.gpus:
        torch.cuda.set_device(_device(told))
    timeout = timedelta(seconds=told.join_timeout_s)
    store, rank, ranks = next(distributed.rendezvous("env://", timeout=timeout))
    try:
        store.set(f"here-{rank}", "")
        store.wait([f"here-{other}" for other in range(ranks)], timeout)
    except distributed.DistStoreError:
        return False
    options: dict[str, Any] = {"device_id": _device(told)} if told.gpus else {}
    distributed.init_process_group(_backend(told), store=store, rank=rank, world_size=ranks, **options)
    return True


def _backend(told: TorchTold) -> str:
    """With GPUs gloo as well, for tensors and objects that lie in ordinary memory.  Untried with GPUs."""
    return "cpu:gloo,cuda:nccl" if told.gpus else "gloo"


def _device(told: TorchTold) -> torch.device:
    """Of this rank: the GPU of its number among those that Slurm gave, which CUDA_VISIBLE_DEVICES names."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if told.gpus else torch.device("cpu")
