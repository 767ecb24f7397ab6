"""Runs one contender: wall time, CPU seconds of its process tree, peak memory of that tree, what it reports.

Wall time is that of the whole process, interpreter start included, and goes on until the files that it wrote are
on the medium (``fsync`` of each file and folder of its output): for everybody alike, since some sync and some don't.
A cold run starts with the pages of its inputs dropped from the page cache (``posix_fadvise(DONTNEED)``), a warm one
after they were read once.  Programs and libraries stay in the cache in both.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.comparing import GROWN, OUTPUT, PEAK, SYNC, WALL, Cache, Contender
from benchmarks.results import Run

TIME_LIMIT_S = 900.0
_SAMPLE_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_TOLD = 300
"""Characters of a failed contender's last words that are kept."""


def missing(contender: Contender) -> str | None:
    """What this contender needs and this machine lacks."""
    for need in contender.needs:
        kind, _, name = need.rpartition(":")
        if kind == "bin":
            if program(name) is None:
                return name
        elif kind == "lib":
            if ctypes.util.find_library(name) is None:
                return f"lib{name}"
        elif importlib.util.find_spec(name) is None:
            return name
    return None


def program(name: str) -> str | None:
    """Where a program lies; sbin is looked in as well."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def run(contender: Contender, number: int, cache: Cache, *, time_limit_s: float = TIME_LIMIT_S) -> Run:
    """One run.  A failure is a result too: its ``error`` says what the program last said."""
    lacking = missing(contender)
    if lacking is not None:
        return Run(round=number, error=f"not installed: {lacking}")
    if contender.outputs is not None:
        shutil.rmtree(contender.outputs, ignore_errors=True)
        contender.outputs.parent.mkdir(parents=True, exist_ok=True)
    input_bytes = 0
    for path in files(contender.inputs):
        input_bytes += path.stat().st_size
        forget(path) if cache == "cold" else read_through(path)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            contender.argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(contender),
            start_new_session=True,  # so that all it starts can be stopped
        )
        with _Sampler(child.pid) as sampler:
            usage = _wait(child, started + time_limit_s)
        ended = time.perf_counter()
        said = _text(out)
        if child.returncode != 0:
            return Run(round=number, error=_complaint(child.returncode, _text(err)))
    written = sync_tree(contender.outputs) if contender.outputs is not None else 0
    synced = time.perf_counter()
    # The kernel adds up those that were waited for; a sandboxed parser that was killed with its sandbox is not
    # among them, but was seen while it lived.
    user, system = max((usage.ru_utime, usage.ru_stime), sampler.processor_s(), key=sum)
    figures = {
        WALL: synced - started,
        SYNC: synced - ended,
        "user-s": user,
        "system-s": system,
        PEAK: float(sampler.peak),
        **reported(said),
    }
    if contender.outputs is not None:
        figures[OUTPUT] = float(written)
        if input_bytes:
            figures[GROWN] = written / input_bytes
    return Run(round=number, figures=figures)


def _environment(contender: Contender) -> dict[str, str]:
    """Everybody's programs are compiled once, in their warm-up at the latest, as on a machine where they are used."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | dict(contender.environment)


def reported(said: str) -> dict[str, float]:
    """Figures that a program tells as JSON in the last line of its output: its own, or a staging report's."""
    lines = said.strip().splitlines()
    try:
        told: Any = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    if not isinstance(told, dict):
        return {}
    figures = told.get("figures")
    if isinstance(figures, dict):
        return {str(name): float(value) for name, value in figures.items()}
    ran, staged = told.get("run"), told.get("staged")
    if isinstance(ran, dict) and isinstance(staged, dict):
        return {
            "stage-s": float(ran["seconds"]),
            "headers-s": float(ran["reading-seconds"]),
            "staged-items": float(staged["items"]),
            "image-bytes": float(staged["image-bytes"]),
        }
    return {}


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """All regular files at or below ``paths``."""
    for path in paths:
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*")) if found.is_file())
        else:
            yield path


def forget(path: Path) -> None:
    """Drop a file's pages from the page cache; they must be clean, so they are written first."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def read_through(path: Path) -> int:
    """Read a file once, so that it lies in the page cache; gives its bytes."""
    total = 0
    block = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(block):
            total += got
    return total


def sync_tree(folder: Path) -> int:
    """Bring a folder, or one file, to the medium; gives the bytes of its files."""
    total = 0
    paths = [folder, *folder.rglob("*")] if folder.is_dir() else [folder]
    for path in paths:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            if path.is_file():
                total += os.fstat(handle).st_size
        finally:
            os.close(handle)
    return total


def stop(group: int) -> None:
    """End a session that we started, first asking."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, sign)
        time.sleep(0.2)


def _wait(child: subprocess.Popen[bytes], deadline: float) -> Any:
    """The child's rusage, with that of everything it waited for.  Ctrl-C stops it and goes on up."""
    timer = threading.Timer(max(0.0, deadline - time.perf_counter()), stop, (child.pid,))
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        stop(child.pid)
        raise
    finally:
        timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    # What it left behind would disturb who comes next.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return usage


class _Sampler:
    """Looks at a process and its descendants while they live.

    ``peak``: the highest sum of memory of their own, and of the largest shared part.  ``processor_s``: user and system
    seconds of each when it was last seen, added up.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._times: dict[tuple[int, str], tuple[int, int]] = {}
        self.peak = 0

    def processor_s(self) -> tuple[float, float]:
        user, system = (sum(times[which] for times in self._times.values()) for which in (0, 1))
        return user / _TICKS, system / _TICKS

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            own = shared = 0
            for pid in _tree(self._pid):
                try:
                    _, resident, mapped = Path(f"/proc/{pid}/statm").read_text().split()[:3]
                    # proc(5): the name in brackets may hold anything; state is the first field behind it.
                    said = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except (OSError, ValueError):
                    continue  # it ended meanwhile
                self._times[pid, said[19]] = (int(said[11]), int(said[12]))
                own += int(resident) - int(mapped)
                shared = max(shared, int(mapped))
            self.peak = max(self.peak, (own + shared) * _PAGE)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for thread in threads:
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _text(file: Any) -> str:
    file.seek(0)
    return bytes(file.read()).decode("utf-8", "replace")


def _complaint(status: int, errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    last = lines[-1][:_TOLD] if lines else "said nothing"
    return f"ended by signal {-status}: {last}" if status < 0 else f"exit code {status}: {last}"
