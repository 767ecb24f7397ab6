"""The processes of a ``dask`` workload: scheduler, client and workers, by dask-jobqueue's runner.

Role and address come from the plan (``catalogue/workloads/dask.py``), never from Slurm's variables or a shared
file.  All talk is TLS with this node's own certificate of the attempt, also on loopback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import dask
from dask_jobqueue.runner import BaseRunner, Role
from distributed import Client, Security

from hdrs_hpc.catalogue.workloads.dask import TLS_CA, TLS_CERT, TLS_KEY, DaskTold
from hdrs_hpc.catalogue.workloads.plan import Process
from hdrs_hpc.core import wire
from hdrs_hpc.node.launch.crash import write_report
from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION, Launch
from hdrs_hpc.workloads import entry
from hdrs_hpc.workloads.context import Context


class DaskContext(Context):
    """``client`` is connected to as many workers as the allocation holds."""

    def __init__(self, launch: Launch, parameters: dict[str, Any], client: Any) -> None:
        super().__init__(launch, parameters)
        self.client = client


class PlannedRunner(BaseRunner):
    """A runner whose role and scheduler address are known beforehand."""

    def __init__(self, told: DaskTold, process: Process, **options: Any) -> None:
        self._told = told
        self._process = process
        super().__init__(**options)

    async def get_role(self) -> Any:  # the runner compares it with Role, whatever its annotation says
        return Role[self._process.role]

    async def get_scheduler_address(self) -> str:
        return self._told.scheduler

    async def set_scheduler_address(self, scheduler: Any) -> None:
        return None

    async def get_worker_name(self) -> str:
        return f"{self._told.address}-{self._process.number}"


def run(launch: Launch, process: Process) -> int:
    """Be one process of the plan until its end; gives its exit code."""
    told = wire.from_value(DaskTold, launch.plan.told)
    _configure(launch, told)
    entry.prepare_imports(Path(launch.bundle))  # the scheduler unpickles graphs too
    if process.role == "client":
        return _run_client(launch, told)
    asyncio.run(_run_server(launch, told, process))
    return 0


def _configure(launch: Launch, told: DaskTold) -> None:
    folder = Path(launch.folder)
    # On a node nobody reads what they say; in `hdrs-hpc try` it would bury what the bundle prints.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    dask.config.set(
        {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": str(folder / TLS_CA),
            **{
                f"distributed.comm.tls.{role}.{part}": str(folder / name)
                for role in ("scheduler", "worker", "client")
                for part, name in (("cert", TLS_CERT), ("key", TLS_KEY))
            },
            "distributed.comm.timeouts.connect": f"{told.connect_timeout_s}s",
            "distributed.scheduler.dashboard.status.task-stream-length": 100,
            # Everything lies in memory already, so spilling would only copy it.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": 0.85,
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.gil.enabled": False,
            "temporary-directory": launch.tmp,
        }
    )


async def _run_server(launch: Launch, told: DaskTold, process: Process) -> None:
    host, port = told.scheduler.removeprefix("tls://").rsplit(":", 1)
    # The runner ends its process with SIGINT so that an event loop can close; here that is simply the end.
    signal.signal(signal.SIGINT, _leave)
    security = _security()
    options: dict[str, Any] = (
        {
            "scheduler_options": {
                "host": host,
                "port": int(port),
                "protocol": "tls",
                "security": security,
                "dashboard": False,
                "dashboard_address": None,
            }
        }
        if process.role == "scheduler"
        else {
            "worker_options": {
                "host": told.address,
                "protocol": "tls",
                "security": security,
                "nthreads": told.threads,
                "memory_limit": told.worker_memory_bytes,
                "local_directory": launch.tmp,
                "dashboard": False,
                "dashboard_address": None,
                "death_timeout": told.connect_timeout_s,
            }
        }
    )
    await PlannedRunner(told, process, asynchronous=True, **options)


def _security() -> Security:
    """From Dask's configuration, where :func:`_configure` put the attempt's certificate."""
    return Security()  # type: ignore[no-untyped-call]


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _run_client(launch: Launch, told: DaskTold) -> int:
    options = {"security": _security(), "set_as_default": True}
    with Client(told.scheduler, **options) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(told.workers_in_all, timeout=told.connect_timeout_s)
        code = _run_entry(launch, told, DaskContext(launch, told.parameters, client))
        if told.nodes > 1:
            client.shutdown()  # workers of other nodes end with their scheduler
    return code


def _run_entry(launch: Launch, told: DaskTold, context: DaskContext) -> int:
    try:
        entry.load(told.builtin, told.entry, Path(launch.bundle))(context)
    except BaseException as error:  # whatever leaves the workload's code is its crash, SystemExit included
        write_report(Path(launch.report), error, Path(launch.bundle))
        if isinstance(error, SystemExit) and error.code in (0, None):
            return 0
        return EXIT_EXCEPTION
    return 0
