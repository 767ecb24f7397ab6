"""A command that never outlives the process that started it, whenever and however that one dies.

bubblewrap's ``--die-with-parent`` and ``PR_SET_PDEATHSIG`` (prctl(2)) leave gaps: bubblewrap asks for the signal
only once its child stands, its child waits for ever if bubblewrap is killed before that, and the signal follows
the *thread* that started the process.  So between the two stands a guard, this file run by itself:

1. It watches its parent by a pidfd, which tells of the whole process and can't be lost between two looks.  A
   parent that had died before is told by ``getppid``.
2. With ``namespace`` the command is process 1 of a PID namespace: the kernel ends everything in it with process
   1, and process 1 is ended with the guard.  Where the node allows no such namespace, or without ``namespace``,
   the guard is the reaper of all that the command leaves, and ends it by looking through /proc.

The guard gives the command's exit code, 128 + n for signal n.  SIGTERM ends the command at once, or is passed on
where ``forward`` says so.  SIGKILL ends guard and command, with ``namespace`` everything below it too.

The guard imports nothing of ours, so that no environment can change what it does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

EXIT_NOT_STARTED = 126
"""The command could not be started, or its parent had died before."""
SWEEP_S = 0.01
CORE_LIMIT = 1
"""For RLIMIT_CORE, in bytes: a core file is always larger, so there is none; and where core_pattern is a pipe,
which ignores a limit of 0, the kernel takes exactly 1 for "no dump" (fs/coredump.c; man 5 core)."""
# linux/prctl.h, linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x4000, 0x40000, 2, 4, 8
_OPTIONS = ("namespace", "forward", "clear", "dispensable")


def guarded(
    command: Sequence[str],
    *,
    namespace: bool = False,
    forward: bool = False,
    clear: bool = False,
    dispensable: bool = False,
    tell: int | None = None,
    limits: Mapping[str, int] | None = None,
    parent: int | None = None,
) -> list[str]:
    """``command`` under a guard that is bound to this process, or to ``parent``, which must be the guard's own.

    The command's first word is a path.  ``namespace``: as process 1 of a PID namespace, where that can be had.
    ``clear``: with an empty environment
    (the guard itself may need ``LD_LIBRARY_PATH``).  ``dispensable``: the kernel ends it before others where memory
    is short.  ``tell``: an inherited descriptor to which the guard writes the command's pid as a line.
    ``limits``: hard limits of the command by their names in the module ``resource``; a limit that is lower already
    stays.  With them, even if there are none, the command leaves no core file.
    """
    chosen = {"namespace": namespace, "forward": forward, "clear": clear, "dispensable": dispensable}
    words = [f"--{name}" for name in _OPTIONS if chosen[name]]
    words += [] if tell is None else [f"--tell={tell}"]
    if limits is not None:
        words += [f"--limit={name}:{value}" for name, value in {"RLIMIT_CORE": CORE_LIMIT, **limits}.items()]
    return [sys.executable, "-I", "-S", "-B", __file__, str(parent or os.getpid()), *words, "--", *command]


def environment() -> dict[str, str]:
    """What the guard's interpreter needs of our environment: a relocated one finds its libraries by it."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def main(argv: list[str]) -> int:
    at = argv.index("--")
    options, command = argv[1:at], argv[at + 1 :]
    parent = int(argv[0])
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        return EXIT_NOT_STARTED
    if os.getppid() != parent:  # it had died before, and its number may be another's by now
        return EXIT_NOT_STARTED
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    separate = "--namespace" in options and _separate()
    gate, opened = os.pipe()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        os.close(opened)
        _become(command, gate, libc, separate=separate, options=options)
    for option in options:
        if option.startswith("--tell="):
            os.write(int(option.partition("=")[2]), b"%d\n" % child)
    with contextlib.suppress(BrokenPipeError):
        os.write(opened, b"g")
    guarded_process = os.pidfd_open(child)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _close_all_but({watched, guarded_process, wake, woken})
    forward = "--forward" in options
    return _watch(watched, guarded_process, wake, child, forward=forward, separate=separate)


def _watch(
    watched: int, guarded_process: int, wake: int, child: int, *, forward: bool, separate: bool
) -> int:
    """Until the command, the parent, or our time ends; nothing of the command is left then."""
    while True:
        ready, _, _ = select.select([watched, guarded_process, wake], [], [])
        if wake in ready:
            os.read(wake, 64)
        if guarded_process in ready:
            break
        if wake in ready and watched not in ready and forward:
            _signal(child, signal.SIGTERM)
            continue
        if watched in ready or wake in ready:
            _signal(child, signal.SIGKILL)
            break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not separate:
        end_descendants()
    return code if code >= 0 else 128 - code


def _separate() -> bool:
    """Namespaces in which the next child is process 1 and we are still ourselves; False where there are none."""
    uid, gid = os.getuid(), os.getgid()
    try:
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWPID)
    except OSError:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123  pathlib costs a start
            file.write(text)
    return True


def _become(
    command: Sequence[str], gate: int, libc: ctypes.CDLL, *, separate: bool, options: Sequence[str]
) -> NoReturn:
    """The command's own process, from fork to exec."""
    environ = _environ()  # before there may be another /proc
    code = EXIT_NOT_STARTED
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.read(gate, 1):  # else the guard died before prctl took hold
            if separate:
                _mount_proc(libc)
            if "--dispensable" in options:
                with contextlib.suppress(OSError):
                    os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"1000")
            for option in options:
                if option.startswith("--limit="):
                    _limit(*option.partition("=")[2].split(":"))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.execve(command[0], list(command), {} if "--clear" in options else environ)  # noqa: S606
    except OSError:
        pass
    finally:
        os._exit(code)


def _limit(name: str, value: str) -> None:
    what = getattr(resource, name)
    _, hard = resource.getrlimit(what)
    least = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(what, (least, least))


def _environ() -> dict[bytes, bytes]:
    """As it was given to us: Python adds LC_CTYPE to its own, where no language is set (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123
        pairs = [line.partition(b"=") for line in file.read().split(b"\0") if line]
    return {name: value for name, _, value in pairs}


def _mount_proc(libc: ctypes.CDLL) -> None:
    """bubblewrap looks for its child in /proc, under the number that it has in this namespace."""
    os.unshare(os.CLONE_NEWNS)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(flags), None)


def end_descendants() -> None:
    """End every process below this one until none is left, and collect them; it must be a subreaper.

    A process may fork while we look, but its children cannot get past a subreaper.
    """
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(SWEEP_S)


def descendants(root: int) -> list[int]:
    """Pids of all living processes below ``root``; zombies are not among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    # A process may choose a name with spaces and brackets.
                    fields = file.read().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _close_all_but(kept: set[int]) -> None:
    """The command's files are the command's alone: who reads them must see their end with it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
