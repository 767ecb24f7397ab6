"""Where an exception left the workload: its type's bare name and the bundle's own last line.  Nothing else."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.node.launch.plan import REPORT_NAME, CrashReport


def write_report(folder: Path, error: BaseException, bundle: Path) -> None:
    """Leave ``report.json`` in ``folder``, and the whole traceback on standard error.

    On a node that goes nowhere; ``hdrs-hpc try`` shows it.
    """
    (folder / REPORT_NAME).write_bytes(wire.to_bytes(report(error, bundle)))
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)


def report(error: BaseException, bundle: Path) -> CrashReport:
    """Dask re-raises a task's exception in the client with the worker's traceback, so its lines are here too."""
    name = type(error).__name__
    place = _unread(error, bundle.resolve()) or _last_line(error.__traceback__, bundle.resolve())
    file, line = place if place is not None else (None, None)
    return CrashReport(name if name.isidentifier() and name.isascii() else None, file, line)


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
