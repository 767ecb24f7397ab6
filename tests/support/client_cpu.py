"""What a command of the client costs: CPU seconds, user and system, of a process of its own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

COMMAND_S = 0.4
"""At most, for a command that people wait for.  Measured on a quiet machine: 0.18 to 0.25, so a third is head-room."""
HELP_S = 0.2
"""At most, for any --help.  Measured: 0.04 to 0.07."""
_YARDSTICK_S = 0.06
"""What `import pydantic` costs on a quiet machine.  CPU seconds grow by up to a half where other processes share the
cores, so the limits grow with what it costs now."""


def assert_cheap(most_s: float, *words: str | Path, cwd: Path | None = None, runs: int = 5) -> None:
    """`hdrs-hpc WORDS` succeeds and takes at most ``most_s``, by the median of several runs."""
    argv = [sys.executable, "-m", "hdrs_hpc.cli.main", *map(str, words)]
    taken = statistics.median(_cpu_s(argv, cwd) for _ in range(runs))
    yardstick = [sys.executable, "-c", "from pydantic import BaseModel"]
    slower = statistics.median(_cpu_s(yardstick, cwd) for _ in range(runs)) / _YARDSTICK_S
    print(f"{' '.join(argv[3:])[:60]}: {taken:.2f} s, this machine now {slower:.1f} times as slow")
    assert taken <= most_s * max(1.0, slower)


def _cpu_s(argv: list[str], cwd: Path | None) -> float:
    started = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert started.stderr is not None
    said = started.stderr.read()  # to its end: then the process is over
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    started.stderr.close()
    assert started.returncode == 0, said.decode()
    return used.ru_utime + used.ru_stime
