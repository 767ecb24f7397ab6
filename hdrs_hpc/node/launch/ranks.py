"""The ranks of a Dask workload: scheduler, client and workers, by dask-jobqueue's runner.

Role and address come from the plan, never from Slurm's variables or a shared file.  All talk is TLS with the
attempt's own certificate, also on loopback.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import dask
from dask_jobqueue.runner import BaseRunner, Role
from distributed import Client, Security

from hdrs_hpc.node.launch.crash import write_report
from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION, TLS_CA, TLS_CERT, TLS_KEY, LaunchPlan
from hdrs_hpc.workloads import entry
from hdrs_hpc.workloads.context import Context


class PlannedRunner(BaseRunner):
    """A runner whose role and scheduler address are known beforehand."""

    def __init__(self, plan: LaunchPlan, role: Role, number: int, **options: Any) -> None:
        self._plan = plan
        self._planned_role = role
        self._number = number
        super().__init__(**options)

    async def get_role(self) -> Any:  # the runner compares it with Role, whatever its annotation says
        return self._planned_role

    async def get_scheduler_address(self) -> str:
        return self._plan.scheduler

    async def set_scheduler_address(self, scheduler: Any) -> None:
        return None

    async def get_worker_name(self) -> str:
        return f"{self._plan.address}-{self._number}"


def run(plan: LaunchPlan, role: str, number: int) -> NoReturn:
    """Be one rank until its end.  Ends the process, without handlers that the launcher might have set."""
    code = EXIT_EXCEPTION
    try:
        _configure(plan)
        entry.prepare_imports(Path(plan.bundle))  # the scheduler unpickles graphs too
        if role == "client":
            code = _run_client(plan)
        else:
            asyncio.run(_run_server(plan, role, number))
            code = 0
    finally:
        os._exit(code)


def _configure(plan: LaunchPlan) -> None:
    folder = Path(plan.plan)
    dask.config.set(
        {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": str(folder / TLS_CA),
            **{
                f"distributed.comm.tls.{role}.{part}": str(folder / name)
                for role in ("scheduler", "worker", "client")
                for part, name in (("cert", TLS_CERT), ("key", TLS_KEY))
            },
            "distributed.comm.timeouts.connect": f"{plan.connect_timeout_s}s",
            "distributed.scheduler.dashboard.status.task-stream-length": 100,
            # Everything lies in memory already, so spilling would only copy it.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": 0.85,
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.gil.enabled": False,
            "temporary-directory": plan.tmp,
        }
    )


async def _run_server(plan: LaunchPlan, role: str, number: int) -> None:
    host, port = plan.scheduler.removeprefix("tls://").rsplit(":", 1)
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
        if role == "scheduler"
        else {
            "worker_options": {
                "host": plan.address,
                "protocol": "tls",
                "security": security,
                "nthreads": plan.threads,
                "memory_limit": (plan.memory_mb << 20) * 4 // 5 // max(1, plan.workers),
                "local_directory": plan.tmp,
                "dashboard": False,
                "dashboard_address": None,
                "death_timeout": plan.connect_timeout_s,
            }
        }
    )
    await PlannedRunner(plan, Role[role], number, asynchronous=True, **options)


def _security() -> Security:
    """From Dask's configuration, where :func:`_configure` put the attempt's certificate."""
    return Security()  # type: ignore[no-untyped-call]


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _run_client(plan: LaunchPlan) -> int:
    options = {"security": _security(), "set_as_default": True}
    with Client(plan.scheduler, **options) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(plan.workers_in_all, timeout=plan.connect_timeout_s)
        context = Context(
            client=client,
            parameters=plan.parameters,
            inputs=plan.inputs,
            outputs={name: Path(plan.out, path) for name, path in plan.outputs.items()},
        )
        code = _run_entry(plan, context)
        if plan.nodes > 1:
            client.shutdown()  # workers of other nodes end with their scheduler
    return code


def _run_entry(plan: LaunchPlan, context: Context) -> int:
    try:
        entry.load(plan.builtin, plan.entry, Path(plan.bundle))(context)
    except BaseException as error:  # whatever leaves the workload's code is its crash, SystemExit included
        write_report(Path(plan.report), error, Path(plan.bundle))
        if isinstance(error, SystemExit) and error.code in (0, None):
            return 0
        return EXIT_EXCEPTION
    return 0
