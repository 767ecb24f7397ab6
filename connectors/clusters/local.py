"""The embedded default: jobs on this machine, each under a detached supervisor that outlives the broker.

Submission is exactly-once by the file system: a job's folder is prepared aside and renamed to its name, which
fails if the name exists.  A folder whose supervisor never started is started by the next :meth:`find`.
The wall-clock limit holds; memory is held by a cgroup where this account may make one (``local_memory.py``), and
elsewhere watched by the node's agent.  A broker under systemd needs ``KillMode=process``, or its end
takes the jobs along.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from connectors.clusters import local_memory, local_supervisor
from connectors.clusters.commands import CommandTimeoutError, HereRunner
from connectors.clusters.files import DirectoryFiles
from connectors.clusters.port import (
    MAX_STDIN_BYTES,
    Check,
    ClusterJob,
    JobPhase,
    JobRequest,
    Lookup,
    RuntimeEnding,
    StepFailedError,
    StepRefusedError,
    SubmissionRefusedError,
    check_job_id,
    check_job_name,
    check_parts,
    digest_hex,
    step_lines,
)
from connectors.clusters.settings import ClusterSettings
from hdrs_hpc.core import clock, die_with_parent
from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.sealing.objects import OBJECT_STORES, ObjectStore, Reach

MIN_FREE_BYTES = 1 << 30
DRIVERS_GPUS = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU that NVIDIA's driver has."""


class LocalCluster:
    """``Cluster`` on this machine; a job's id is its name."""

    settle_s: ClassVar[float] = 0.0

    def __init__(self, settings: ClusterSettings, project: str) -> None:
        if settings.local is None:
            raise InternalError("a local cluster without [local]")
        (project,) = check_parts([project])
        self.name = settings.name
        self._store = settings.store
        root = Path(settings.local.root)
        scratch = settings.account_of(project).scratch
        self._jobs = root / "jobs" / project
        self._scratch = Path(scratch) if scratch else root / "scratch" / project
        for folder in (self._jobs, self._scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files = DirectoryFiles(self._scratch)
        self._children: list[subprocess.Popen[bytes]] = []

    def submit(self, request: JobRequest) -> str:
        if request.nodes != 1:
            raise InternalError("a job of several nodes reached a local cluster")
        (here,) = self.capacity().kinds
        if request.mem_mb > here.mem_mb or (request.gres and not here.gives(request.gres)):
            raise SubmissionRefusedError("more memory or GPUs than this machine has")
        folder = self._jobs / request.name
        aside = self._jobs / f".new-{secrets.token_hex(8)}"
        aside.mkdir(mode=0o700)
        try:
            _write_durably(aside / "script", request.script)
            _write_durably(aside / "request.json", json.dumps(self._describe(request)).encode())
            aside.rename(folder)
        except OSError as error:
            shutil.rmtree(aside)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync_folder(self._jobs)
        self._supervise(folder)
        return request.name

    def _describe(self, request: JobRequest) -> dict[str, Any]:
        return {
            "submitted": datetime.now(UTC).isoformat(timespec="microseconds"),
            "time_s": request.time_s,
            "mem_mb": request.mem_mb,
            "environment": {
                "SLURM_CLUSTER_NAME": self.name,
                "SLURM_JOB_ID": request.name,
                "SLURM_JOB_NAME": request.name,
                "SLURM_JOB_NUM_NODES": "1",
                "SLURM_NNODES": "1",
                "SLURM_NODEID": "0",
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
                "SLURM_NTASKS": "1",
                "SLURM_CPUS_PER_TASK": str(request.cpus_per_task),
                "SLURM_RESTART_COUNT": "0",
                "SLURMD_NODENAME": platform.node(),
            },
        }

    def _supervise(self, folder: Path) -> None:
        """Start a supervisor unless one has ever taken the job on; one too many goes away by itself."""
        self._children = [child for child in self._children if child.poll() is None]
        if (folder / "started.json").exists():
            return
        self._children.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    local_supervisor.__file__,
                    str(folder),
                    die_with_parent.__file__,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        )

    def find(self, names: Sequence[str]) -> Lookup:
        return Lookup({name: self._look(check_job_name(name)) for name in names}, absence_proven=True)

    def _look(self, name: str) -> list[ClusterJob]:
        folder = self._jobs / name
        request = _read_json(folder / "request.json")
        if request is None:
            return []
        started = _read_json(folder / "started.json")
        if started is None:
            self._supervise(folder)
        elif not _is_alive(started) and not (folder / "ended.json").exists():
            _kill_leftovers(folder, name)
            local_memory.forget(name)
            local_supervisor.end(folder, "NODE_FAIL", None)
        ended = _read_json(folder / "ended.json")
        if ended is not None:
            phase, state = JobPhase.ENDED, str(ended["state"])
        elif (folder / "cancelled").exists():
            phase, state = JobPhase.COMPLETING, "COMPLETING"
        elif started is None:
            phase, state = JobPhase.PENDING, "PENDING"
        else:
            phase, state = JobPhase.RUNNING, "RUNNING"
        return [
            ClusterJob(
                job_id=name,
                name=name,
                phase=phase,
                raw_state=state,
                exit_code=None if ended is None else ended["exit_code"],
                submit_time=str(request["submitted"]),
                restarts=0,
                nodes=(str(request["environment"]["SLURMD_NODENAME"]),),
                reason="",
            )
        ]

    def cancel(self, job_id: str) -> None:
        folder = self._jobs / check_job_id(job_id)
        if not folder.is_dir():
            return
        # The mark first: a supervisor that starts now sees it, one that runs gets the signal as well.
        local_supervisor.write_once(folder / "cancelled", {"at": clock.to_text(clock.now())})
        started = _read_json(folder / "started.json")
        if started is None:
            self._supervise(folder)
        elif _is_alive(started):
            with suppress(ProcessLookupError):
                os.kill(int(started["pid"]), signal.SIGTERM)

    def launch_prefix(self, request: JobRequest) -> tuple[str, ...]:
        return ()

    def run_in_job(
        self,
        job_id: str,
        argv: Sequence[str],
        stdin: bytes,
        nodes: int,
        timeout_s: float,
        node: str | None = None,
    ) -> list[bytes]:
        if nodes != 1 or len(stdin) > MAX_STDIN_BYTES:
            raise InternalError("a step on several nodes, or with too much to say, on a local cluster")
        found = self._look(check_job_name(job_id))
        if not found or found[0].phase is not JobPhase.RUNNING:
            raise StepRefusedError("the job is not running")
        request = _read_json(self._jobs / job_id / "request.json")
        assert request is not None
        try:
            done = HereRunner(request["environment"]).run(argv, stdin=stdin, timeout_s=timeout_s)
        except CommandTimeoutError:
            raise StepFailedError(f"no answer within {timeout_s:g} s") from None
        if done.returncode != 0:
            raise StepFailedError(f"the step ended with exit code {done.returncode}")
        return step_lines(done.stdout.splitlines(keepends=True), nodes)

    def objects(self, *parts: str) -> ObjectStore:
        path = str(self._scratch.joinpath(*check_parts(parts)))
        return OBJECT_STORES[self._store].open(Reach(path))

    def read_file(self, *parts: str, max_bytes: int) -> bytes | None:
        return self._files.read(check_parts(parts), max_bytes)

    def remove_tree(self, *parts: str) -> int:
        return self._files.remove_tree(check_parts(parts))

    def measure_tree(self, *parts: str) -> tuple[int, int]:
        return self._files.measure_tree(check_parts(parts))

    def list_tree(self, *parts: str) -> list[str]:
        return self._files.list_tree(check_parts(parts))

    def scratch_path(self, *parts: str) -> str:
        return str(self._scratch.joinpath(*check_parts(parts)))

    def install_runtime(self, file: Path, digest: str, ending: RuntimeEnding = "tar") -> None:
        hexes = digest_hex(digest)
        self._files.install(file, ("hdrs-hpc", "runtime", f"{hexes}.{ending}"), hexes)

    def capacity(self) -> Capacity:
        memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        gpus = len(list(DRIVERS_GPUS.glob("*")))
        return Capacity(
            (NodeKind(1, os.cpu_count() or 1, memory_mb, (f"gpu:{gpus}",) if gpus else ()),), max_nodes=1
        )

    def doctor(self) -> list[Check]:
        checks = []
        mode = self._scratch.stat().st_mode & 0o777
        checks.append(
            Check("scratch-mode", True, "scratch is 0700")
            if mode == 0o700
            else Check("scratch-mode", False, f"scratch is {mode:04o}", f"Run: chmod 0700 {self._scratch}")
        )
        checks.append(_memory_check())
        free = shutil.disk_usage(self._scratch).free
        checks.append(
            Check("scratch-room", True, f"{free >> 20} MiB free")
            if free >= MIN_FREE_BYTES
            else Check("scratch-room", False, f"only {free >> 20} MiB free", "Make room on scratch.")
        )
        return checks

    def close(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]


def _memory_check() -> Check:
    """Made and removed, rather than read from settings."""
    bound = local_memory.make(f"hdrs-doctor-{secrets.token_hex(4)}", 64)
    bound.remove()
    told = {
        "cgroup": "the kernel holds each job to its memory, by a cgroup of its own",
        "scope": "systemd holds each job to its memory, by a scope of its own",
        "watched": "memory is only watched: nothing but the agent's look, ten times a second, holds a job to it. "
        "For more, run the broker where its account has a delegated cgroup, or systemd's user manager",
    }
    return Check("memory", True, told[bound.kind])


def _is_alive(started: dict[str, Any]) -> bool:
    """Whether that very process lives: pids are re-used, pid and start time within one boot are not."""
    return bool(
        started["boot"] == local_supervisor.boot_id()
        and local_supervisor.start_time(int(started["pid"])) == started["start"]
    )


def _kill_leftovers(folder: Path, name: str) -> None:
    """A supervisor that was itself killed leaves orphans: find them by session and by environment."""
    script = _read_json(folder / "script.json")
    mark = f"SLURM_JOB_ID={name}".encode()
    while True:
        left = [pid for pid in _own_pids() if _belongs(pid, script, mark)]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _own_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _belongs(pid: int, script: dict[str, Any] | None, mark: bytes) -> bool:
    started = local_supervisor.start_time(pid)
    if started is None or pid == os.getpid():
        return False
    if script is not None and local_supervisor.session_of(pid) == script["pid"]:
        leader = local_supervisor.start_time(int(script["pid"]))
        return leader in (None, script["start"])  # another leader means that the id was re-used
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return value


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
