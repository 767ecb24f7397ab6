"""What is said of how a workload ended: from facts that the agent saw, and what can be checked of a report.

A process of its own, without keys, started by the agent once the workload is dead.

The report was written on the workload's side, which may have chosen it to carry what it read.  So everything in
it is one of a list that was fixed when the bundle was signed, before the code saw any data, and the lists are
short: a type out of at most 64 classes of the bundle and about 100 known ones, the beginning of one of at most
10,000 statements, an exit code that is 0 or 1, or, instead of all these, one of seven signals, or how much memory
it took in forty steps.  Of what befell a rank or a connection the line is told or the signal, and no type.
Together that is less than 21 bits in a whole attempt.
"""

from __future__ import annotations

import ast
import builtins
import os
import signal
import stat
import sys
from pathlib import Path

from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.node.launch.plan import (
    EXIT_ALONE,
    MAX_REPORT_BYTES,
    REPORT_NAME,
    Cause,
    CrashReport,
    parse_report,
)
from hdrs_hpc.protocol import bundle
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
    | {"AcceleratorError", "DistBackendError", "DistNetworkError", "DistStoreError", "SafetensorError"}
)
ANY_TYPE = "Exception"
MAX_OWN_TYPES = 64
MAX_STATEMENTS = 10_000
MAX_LINE = 1_000_000
UNREAD_TYPES = ("SyntaxError", "IndentationError", "TabError")
MAX_SOURCE_BYTES = 1 << 20
"""Of all source of a bundle: more is not parsed, since trees take a hundred times the memory of their text."""
SIGNALS = frozenset(
    signal.Signals[f"SIG{name}"] for name in ("ILL", "ABRT", "BUS", "FPE", "KILL", "SEGV", "TERM")
)
BEFELL = {
    Cause.NO_NETWORK: Ending.NO_NETWORK,
    Cause.PROCESS_KILLED: Ending.PROCESS_KILLED,
    Cause.PROCESS_EXITED: Ending.PROCESS_EXITED,
    Cause.PROCESS_ENDED_EARLY: Ending.PROCESS_ENDED_EARLY,
    Cause.PROCESS_NOT_JOINED: Ending.PROCESS_NOT_JOINED,
    Cause.PROGRAM_NOT_RUN: Ending.PROGRAM_NOT_RUN,
    Cause.MATERIALISED_TOO_LARGE: Ending.MATERIALISED_TOO_LARGE,
}
"""Ends that are told by what befell a process, not by the exception that it or another then met."""
_NOTHING = CrashReport(None, None, None)


def judge(code: int, report_folder: Path, files: dict[str, bytes]) -> WorkloadExit:
    """Of a workload that ended by itself.

    ``code`` is the launcher's exit code; ``bundle`` the checked files of the researcher's code.
    """
    if code == 0:
        return WorkloadExit(Ending.EXITED, 0, None, None, None)
    if code > 128:
        number = code - 128
        return WorkloadExit(Ending.CRASHED, None, _known_signal(number), None, None)
    report = _read(report_folder)
    if report.cause is Cause.PROCESS_KILLED:
        return WorkloadExit(Ending.PROCESS_KILLED, None, _known_signal(report.signal), None, None)
    if report == _NOTHING:
        ending = Ending.NOT_STARTED if code == EXIT_ALONE else Ending.CRASHED
        return WorkloadExit(ending, 1, None, None, None)
    trees, unread = _sources(files)
    line = _statement(report, trees, unread)
    if report.cause in BEFELL:
        return WorkloadExit(BEFELL[report.cause], 1, None, None, line)
    return WorkloadExit(Ending.CRASHED, 1, None, _known_type(report, trees), line)


def main(argv: list[str]) -> int:
    """In a process of its own, without keys: who reads a report reads what a workload wrote."""
    folder, code, digest = argv
    packed = sys.stdin.buffer.read()
    files = bundle.read(packed, digest).files if packed else {}
    sys.stdout.buffer.write(wire.to_bytes(judge(int(code), Path(folder), files)))
    return 0


def _known_signal(number: int | None) -> int | None:
    return number if number in SIGNALS else None


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


def _sources(bundle: dict[str, bytes]) -> tuple[dict[str, ast.Module], dict[str, int]]:
    """The Python files as trees, and those that can't be parsed with the line of the fault; none where they are too
    many to be looked at."""
    sources = {name: data for name, data in bundle.items() if name.endswith(".py")}
    trees: dict[str, ast.Module] = {}
    unread: dict[str, int] = {}
    if sum(map(len, sources.values())) > MAX_SOURCE_BYTES:
        return trees, unread
    for name, data in sources.items():
        try:
            trees[name] = ast.parse(data)
        except SyntaxError as error:
            unread[name] = min(max(error.lineno or 1, 1), MAX_LINE)
        except (ValueError, RecursionError, MemoryError):
            continue  # nothing was ever run from it
    return trees, unread


def _known_type(report: CrashReport, trees: dict[str, ast.Module]) -> str | None:
    name = report.exception_type
    if name is None or name in KNOWN_TYPES:
        return name
    own = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return name if name in sorted(own)[:MAX_OWN_TYPES] else ANY_TYPE


def _statement(
    report: CrashReport, trees: dict[str, ast.Module], unread: dict[str, int]
) -> BundleLine | None:
    """The beginning of the innermost statement that holds the reported line.

    Of a file that Python can't read it is the line of the fault, as parsed here; of one that lacks the entry the first.
    """
    if report.file is None or report.line is None or len(trees) + len(unread) > MAX_STATEMENTS:
        return None
    if report.file in unread and report.exception_type in UNREAD_TYPES:
        return BundleLine(report.file, unread[report.file])
    if report.file not in trees:
        return None
    if report.exception_type == "EntryError":
        return BundleLine(report.file, 1)
    spans = {
        name: {
            (node.lineno, node.end_lineno or node.lineno)
            for node in ast.walk(tree)
            if isinstance(node, ast.stmt)
        }
        for name, tree in trees.items()
    }
    if sum(len({first for first, _ in found}) for found in spans.values()) > MAX_STATEMENTS:
        return None
    holding = [first for first, last in spans[report.file] if first <= report.line <= last]
    return BundleLine(report.file, max(holding)) if holding else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
