"""The command line under which untrusted files are parsed: no network, no file system, no keys, bounded.

The parser gets each file as an open descriptor, so it needs to see nothing but the interpreter and our code.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import imaging
from hdrs_hpc.core import die_with_parent, seccomp

_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    # One thread per parser: parallelism comes from the pool, and thread pools eat address space.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@functools.cache
def bubblewrap() -> str | None:
    """Path of a bubblewrap that works here, or None: kernels and containers may forbid user namespaces.

    None also where there is no system call filter for the processor: that would be no sandbox.
    """
    found = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if found is None or seccomp.program() is None:
        return None
    probe = [found, "--unshare-all", "--ro-bind", "/", "/", "--", "/bin/true"]
    try:
        with seccomp.filtered(probe) as (command, given):
            guarded = die_with_parent.guarded(command, namespace=True)
            done = subprocess.run(guarded, capture_output=True, timeout=20, check=False, pass_fds=given)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 0 else None


def isolation() -> str:
    """``bubblewrap`` or ``process-limits``: what the staging report says about how files were parsed."""
    return "bubblewrap" if bubblewrap() else "process-limits"


def parser_environment() -> dict[str, str]:
    """The parser's whole environment: nothing of the stager's own, which may be sensitive."""
    compiled = {"PYTHONPYCACHEPREFIX": sys.pycache_prefix} if sys.pycache_prefix else {}
    return {**_ENVIRONMENT, **compiled, "PYTHONPATH": str(_package_root())}


def parser_argv() -> list[str]:
    """The argv of one parser process; its standard input is to be one end of a socket pair.

    The pool adds the system call filter at each start (:func:`hdrs_hpc.core.seccomp.filtered`).
    Resource limits are set by the parser on itself before it reads the first byte (they can't be raised
    again), so that no code has to run between fork and exec of a process with threads.
    """
    command = [sys.executable, "-B", "-m", "imaging.staging.parser"]
    wrap = bubblewrap()
    if wrap is None:
        return command
    argv = [wrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - inside the sandbox
    for name in ("usr", "lib", "lib64", "bin"):
        argv += _system_folder(Path("/") / name)
    for place in _interpreter_places():
        argv += ["--ro-bind", str(place), str(place)]
    argv += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    argv += ["--chdir", "/", "--clearenv"]
    for name, value in parser_environment().items():
        argv += ["--setenv", name, value]
    return [*argv, "--", *command]


def _system_folder(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.is_dir() else []


def _interpreter_places() -> list[Path]:
    """The interpreter, its libraries and this package alone: not the folder around it, which may hold data."""
    package = Path(imaging.__file__).resolve().parent
    wanted = [Path(sys.base_prefix), Path(sys.prefix), package]
    if sys.pycache_prefix and Path(sys.pycache_prefix).is_dir():
        wanted.append(
            Path(sys.pycache_prefix)
        )  # compiled anew in each parser, starting takes three times as long
    links = Path(sys.executable)
    while links.is_symlink():  # a virtual environment may reach its interpreter through several links
        target = links.readlink()
        links = target if target.is_absolute() else links.parent / target
        wanted.append(links.parent.parent)
    places: list[Path] = []
    for place in sorted({Path(p) for p in wanted}):
        covered = any(place.is_relative_to(other) for other in [*places, Path("/usr")])
        if not covered and place != Path("/"):
            places.append(place)
    return places


def _package_root() -> Path:
    return Path(imaging.__file__).resolve().parent.parent
