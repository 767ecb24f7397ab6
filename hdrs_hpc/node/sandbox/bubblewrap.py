"""The workload in namespaces of its own, by bubblewrap: no network but loopback, nothing of the node but /usr.

Mount, PID, IPC, UTS, cgroup, user and network namespaces are new.  What is there is listed here, and everything
else is not: no /run (Slurm's and munge's sockets), no /etc but four synthetic files, no home, no scratch, no
sockets of others, since abstract ones belong to a network namespace.  Outputs, code and plan lie in the agent's
private memory and are bound in one by one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from hdrs_hpc.core import die_with_parent, seccomp
from hdrs_hpc.node.sandbox import Limits, Places, SandboxFailedError, processes

BWRAP = Path("/usr/bin/bwrap")
INSIDE = Places(
    runtime=Path("/opt/hdrs"),
    out=Path("/out"),
    data=Path("/data"),
    bundle=Path("/bundle"),
    plan=Path("/plan"),
    report=Path("/report"),
    tmp=Path("/tmp"),  # noqa: S108  a private tmpfs
    shm=Path("/dev/shm"),  # noqa: S108  the same
)
START_TIMEOUT_S = 120.0
GPU_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")

_ETC = {
    "passwd": "job:x:{uid}:{gid}:job:/tmp:/bin/false\n",
    "group": "job:x:{gid}:\n",
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


class BubblewrapSandbox:
    def inside(self, outside: Places) -> Places:
        return INSIDE

    def start(
        self, argv: tuple[str, ...], env: dict[str, str], places: Places, limits: Limits
    ) -> BubblewrapRun:
        # A workload could lower its limit for core files to 0, and with that bring piped dumps back.
        filter_code = seccomp.program(keep_core_limit=True)
        if filter_code is None:
            raise SandboxFailedError("there is no system call filter for this kind of processor")
        reader, writer = os.pipe()
        files = [
            seccomp.memory_file(text.format(uid=os.getuid(), gid=os.getgid()).encode("ascii"))
            for text in _ETC.values()
        ]
        allowed = seccomp.memory_file(filter_code)
        etc = [
            part
            for fd, name in zip(files, _ETC, strict=True)
            for part in ("--ro-bind-data", str(fd), f"/etc/{name}")
        ]
        command = (
            str(BWRAP),
            *_namespaces(),
            *_system(),
            *etc,
            *_folders(places),
            *_gpus(limits),
            *("--remount-ro", "/dev"),
            *("--remount-ro", "/"),
            *(part for name, value in env.items() for part in ("--setenv", name, value)),
            "--chdir",
            str(INSIDE.out),
            "--info-fd",
            str(writer),
            "--seccomp",
            str(allowed),
            "--",
            *argv,
        )
        try:
            process = subprocess.Popen(
                die_with_parent.guarded(command, namespace=True, clear=True, dispensable=True, tell=writer),
                env=die_with_parent.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writer, allowed, *files),
            )
        except OSError as error:
            os.close(reader)
            raise SandboxFailedError(type(error).__name__) from None
        finally:
            for fd in (writer, allowed, *files):
                os.close(fd)
        return BubblewrapRun(process, _first_pid(process, reader))


class BubblewrapRun:
    def __init__(self, process: subprocess.Popen[bytes], first: int) -> None:
        self._process = process
        # bubblewrap, process 1 of a namespace: the kernel kills all others there before it lets this one end.
        try:
            self._first_fd = os.pidfd_open(first)
        except ProcessLookupError:  # it is over already
            self._first_fd = -1

    def poll(self) -> int | None:
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def pids(self) -> list[int]:
        return processes.descendants(self._process.pid)

    def kill(self) -> None:
        self._process.terminate()  # the guard ends what it started, and then itself
        if self._first_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
            select.select([self._first_fd], [], [])
            os.close(self._first_fd)
            self._first_fd = -1
        self._process.wait()


def _namespaces() -> tuple[str, ...]:
    return (
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--cap-drop",
        "ALL",
        "--hostname",
        "node",
    )


def _system() -> list[str]:
    """A read-only /usr, the links that Debian and Red Hat have at the root, /proc and a minimal /dev."""
    found = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            found += ["--symlink", str(path.readlink()).lstrip("/"), f"/{name}"]
        elif path.is_dir():
            found += ["--ro-bind", str(path), str(path)]
    for name in ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives"):
        found += ["--ro-bind-try", name, name]
    return [*found, "--proc", "/proc", "--dev", "/dev"]


def _folders(places: Places) -> list[str]:
    """All that can be written lies in one bounded tmpfs: bubblewrap's own, ``/`` and ``/dev``, become read-only."""
    return [
        *("--bind", str(places.tmp), str(INSIDE.tmp)),
        *("--bind", str(places.shm), str(INSIDE.shm)),
        *("--ro-bind", str(places.runtime), str(INSIDE.runtime)),
        *("--ro-bind", str(places.data), str(INSIDE.data)),
        *("--ro-bind", str(places.bundle), str(INSIDE.bundle)),
        *("--ro-bind", str(places.plan), str(INSIDE.plan)),
        *("--bind", str(places.report), str(INSIDE.report)),
        *("--bind", str(places.out), str(INSIDE.out)),
    ]


def _gpus(limits: Limits) -> list[str]:
    """Device nodes of NVIDIA GPUs; which of them open is the site's device cgroup's decision."""
    if not limits.gpus:
        return []
    names = [*GPU_DEVICES, *(path.name for path in Path("/dev").glob("nvidia[0-9]*"))]
    found = [part for name in names for part in ("--dev-bind-try", f"/dev/{name}", f"/dev/{name}")]
    return [*found, "--ro-bind-try", "/sys/module/nvidia", "/sys/module/nvidia"]


def _first_pid(process: subprocess.Popen[bytes], reader: int) -> int:
    """The pid of bubblewrap, as the node numbers it, once what it starts is there.

    The guard writes the number as a line, then bubblewrap a JSON text that ends with a bracket.
    """
    raw = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = stream.read(4096)
            if not piece:
                break
            raw += piece
            if raw.rstrip().endswith(b"}"):
                return int(raw.partition(b"\n")[0])
    process.terminate()
    process.wait()
    raise SandboxFailedError()
