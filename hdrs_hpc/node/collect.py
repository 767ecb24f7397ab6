"""Collecting the declared outputs after the workload is dead: regular files only, no link ever followed.

The folder was written by the workload, so every name in it is hostile.  Nothing is collected but what the job
spec declared; of all else it is only said that there is some.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.handover import OutputOrder
from hdrs_hpc.protocol.outputs import CollectedOutput, KeptAs, OutputProblem
from hdrs_hpc.sealing.copy_builder import CopyBuilder

_PIECE_BYTES = 1 << 20
# O_NONBLOCK: opening a fifo must not wait for a writer that never comes.
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _RefusedOutput(Exception):
    def __init__(self, problem: OutputProblem) -> None:
        super().__init__(problem)
        self.problem = problem


def collect(out: Path, declared: tuple[OutputOrder, ...], builder: CopyBuilder) -> list[CollectedOutput]:
    """Seal every declared output that is a sound file into ``builder``; says of the others what is wrong."""
    return [_collect_one(out, order, builder) for order in declared]


def keep(out: Path, order: OutputOrder, builder: CopyBuilder) -> CollectedOutput:
    """Seal the one output that stays in the project, as a copy of its own."""
    found = _collect_one(out, order, builder)
    if found.problem is not None:
        return found
    sealed = builder.seal()
    return replace(found, kept=KeptAs(sealed.manifest_name, sealed.manifest_digest))


def has_undeclared(out: Path, declared: tuple[OutputOrder, ...]) -> bool:
    """Whether there is an entry that is no declared output and no folder on the way to one."""
    wanted = {order.path for order in declared}
    folders = {"/".join(path.split("/")[:n]) for path in wanted for n in range(1, path.count("/") + 1)}
    return any(name not in wanted and not (is_folder and name in folders) for name, is_folder in _walk(out))


def _collect_one(out: Path, order: OutputOrder, builder: CopyBuilder) -> CollectedOutput:
    path = f"{layout.OUTPUT_PREFIX}{order.name}"
    try:
        with _opened(out, order.path) as fd:
            size = _check(os.fstat(fd), order.max_size_bytes)
            digest = hashlib.sha256()
            builder.put(path, _pieces(fd, size, digest))
    except _RefusedOutput as refused:
        return CollectedOutput(order.name, None, 0, None, refused.problem)
    return CollectedOutput(order.name, path, size, f"sha256:{digest.hexdigest()}", None)


@contextlib.contextmanager
def _opened(out: Path, relative: str) -> Iterator[int]:
    """Open step by step, so that no component of the path is a link."""
    folder = _open_at(None, str(out), _OPEN_FLAGS | os.O_DIRECTORY)
    try:
        *folders, name = relative.split("/")
        for part in folders:
            below = _open_at(folder, part, _OPEN_FLAGS | os.O_DIRECTORY)
            os.close(folder)
            folder = below
        fd = _open_at(folder, name, _OPEN_FLAGS)
    finally:
        os.close(folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_at(folder: int | None, name: str, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise _RefusedOutput(OutputProblem.MISSING) from None
    except PermissionError:
        raise _RefusedOutput(_why_closed(folder, name, flags)) from None
    except OSError:  # ELOOP: a link; ENOTDIR: a file on the way; ENXIO: a socket or an empty fifo
        raise _RefusedOutput(OutputProblem.NOT_REGULAR) from None


def _why_closed(folder: int | None, name: str, flags: int) -> OutputProblem:
    """What may not be opened can still be told from a file."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return OutputProblem.UNREADABLE
    wanted = stat.S_ISDIR(mode) if flags & os.O_DIRECTORY else stat.S_ISREG(mode)
    return OutputProblem.UNREADABLE if wanted else OutputProblem.NOT_REGULAR


def _check(found: os.stat_result, most_bytes: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        raise _RefusedOutput(OutputProblem.NOT_REGULAR)
    if found.st_nlink != 1:
        raise _RefusedOutput(OutputProblem.LINKED)
    if found.st_size > most_bytes:
        raise _RefusedOutput(OutputProblem.TOO_LARGE)
    return found.st_size


def _pieces(fd: int, size: int, digest: hashlib._Hash) -> Iterator[bytes]:
    left = size
    while left:
        try:
            piece = os.read(fd, min(left, _PIECE_BYTES))
        except OSError:
            raise _RefusedOutput(OutputProblem.UNREADABLE) from None
        if not piece:
            raise _RefusedOutput(OutputProblem.CHANGED)
        digest.update(piece)
        left -= len(piece)
        yield piece
    if os.read(fd, 1):
        raise _RefusedOutput(OutputProblem.CHANGED)


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Relative names and whether each is a real folder; links are entries, never entered.

    A folder that cannot be read is an entry like any other; what is in it is nobody's output.
    """
    todo = [""]
    while todo:
        prefix = todo.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    name = f"{prefix}{entry.name}"
                    is_folder = entry.is_dir(follow_symlinks=False)
                    yield name, is_folder
                    if is_folder:
                        todo.append(f"{name}/")
        except OSError:  # no permission, or a path longer than the kernel takes
            continue
