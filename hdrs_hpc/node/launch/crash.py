"""Where an exception left the workload: its type's bare name and the bundle's own last line.  Nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import traceback
from pathlib import Path
from types import TracebackType

from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.node.launch.plan import REPORT_NAME, Cause, CrashReport

UNREACHED = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)
MAX_CHAIN = 32


def write_report(folder: Path, error: BaseException, bundle: Path) -> None:
    """Leave ``report.json`` in ``folder``, unless another process was first, and the traceback on standard error.

    On a node that goes nowhere; ``hdrs-hpc try`` shows it.
    """
    write_first(folder, report(error, bundle))
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)


def write_first(folder: Path, made: CrashReport) -> None:
    """Leave a report unless there is one: what befell the first process explains what the others then met.

    It appears whole or not at all, since its writer may be killed at any moment.
    """
    draft = folder / f"{REPORT_NAME}.{os.getpid()}"
    draft.write_bytes(wire.to_bytes(made))
    with contextlib.suppress(FileExistsError):
        os.link(draft, folder / REPORT_NAME)
    draft.unlink()


def report(error: BaseException, bundle: Path) -> CrashReport:
    """Dask re-raises a task's exception in the client with the worker's traceback, so its lines are here too."""
    name = type(error).__name__
    place = _unread(error, bundle.resolve()) or _last_line(error.__traceback__, bundle.resolve())
    file, line = place if place is not None else (None, None)
    named = name if name.isidentifier() and name.isascii() else None
    return CrashReport(named, file, line, Cause.NO_NETWORK if _about_network(error) else Cause.EXCEPTION)


def _about_network(error: BaseException) -> bool:
    """Whether an address could not be reached or found: libraries wrap that error in others of their own."""
    left: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if left is None:
            return False
        if isinstance(left, socket.gaierror) or (isinstance(left, OSError) and left.errno in UNREACHED):
            return True
        left = left.__cause__ or left.__context__
    return False


def _unread(error: BaseException, bundle: Path) -> tuple[str, int] | None:
    """The bundle's file that Python can't read, or in which the entry is not: no line of it ever ran."""
    if isinstance(error, SyntaxError):
        named, line = error.filename, error.lineno
    elif isinstance(error, HdrsError) and error.code == "workload-entry":
        named, line = error.where, 1
    else:
        return None
    file = Path(named or "")
    if not line or not file.is_absolute() or not file.is_relative_to(bundle):
        return None
    return str(file.relative_to(bundle)), line


def _last_line(trace: TracebackType | None, bundle: Path) -> tuple[str, int] | None:
    found = None
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if trace.tb_lineno and file.is_absolute() and file.is_relative_to(bundle):
            found = (str(file.relative_to(bundle)), trace.tb_lineno)
        trace = trace.tb_next
    return found
