"""What the agent says of how a workload ended: from facts it saw itself, and what it can check of a report.

The report was written on the workload's side.  A type name is passed on only where it is one of Python's, one
of a short list, or stands as a word in the bundle; a line only where the bundle has it.  So what a crash can say
was fixed when the bundle was signed, before the code saw any data.
"""

from __future__ import annotations

import builtins
import os
import re
import stat
from pathlib import Path

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.node.launch.plan import EXIT_NO_RANKS, MAX_REPORT_BYTES, REPORT_NAME, CrashReport, parse_report
from hdrs_hpc.protocol.outputs import BundleLine, Ending, WorkloadExit

KNOWN_TYPES = frozenset(
    {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    | {"KilledWorker", "CancelledError", "CommClosedError", "ArrowInvalid", "LinAlgError", "JSONDecodeError"}
    | {"DataServerError", "NoSuchInputError", "NoSuchItemError", "NoSuchOutputError", "EntryError"}
    | {"ArrayNotFoundError", "GroupNotFoundError", "NodeNotFoundError", "AxisError", "OutOfMemoryError"}
)
_NOTHING = CrashReport(None, None, None)


def judge(code: int, out_of_time: bool, report_folder: Path, bundle: dict[str, bytes]) -> WorkloadExit:
    """``code`` is the launcher's exit code; ``bundle`` the checked files of the researcher's code."""
    if out_of_time:
        return WorkloadExit(Ending.OUT_OF_TIME, None, None, None, None)
    if code == 0:
        return WorkloadExit(Ending.EXITED, 0, None, None, None)
    report = _read(report_folder)
    name, line = _known_type(report, bundle), _bundle_line(report, bundle)
    if code > 128:
        return WorkloadExit(Ending.CRASHED, None, min(code - 128, 64), name, line)
    ending = Ending.NOT_STARTED if code == EXIT_NO_RANKS and report is _NOTHING else Ending.CRASHED
    return WorkloadExit(ending, code, None, name, line)


def _read(folder: Path) -> CrashReport:
    try:
        fd = os.open(folder / REPORT_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return _NOTHING
    with os.fdopen(fd, "rb") as handle:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return _NOTHING
        raw = handle.read(MAX_REPORT_BYTES + 1)
    try:
        return parse_report(raw)
    except BadDocumentError:
        return _NOTHING


def _known_type(report: CrashReport, bundle: dict[str, bytes]) -> str | None:
    name = report.exception_type
    if name is None or name in KNOWN_TYPES:
        return name
    word = re.compile(rb"\b" + re.escape(name.encode("ascii")) + rb"\b")
    return name if any(word.search(data) for data in bundle.values()) else None


def _bundle_line(report: CrashReport, bundle: dict[str, bytes]) -> BundleLine | None:
    if report.file is None or report.line is None:
        return None
    source = bundle.get(report.file)
    if source is None or report.line > source.count(b"\n") + 1:
        return None
    return BundleLine(report.file, report.line)
