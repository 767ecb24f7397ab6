"""Ending a workload ends all that it forked."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node import processes

SUBREAPER = textwrap.dedent(
    """
    import os, sys, time
    from hdrs_hpc.core import die_with_parent
    from hdrs_hpc.node import hardening
    hardening.adopt_orphans()
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:  # keeps forking while it is hunted
                    if os.fork() == 0:
                        time.sleep(0.05)
                        os._exit(0)
                    try:
                        os.waitpid(-1, os.WNOHANG)
                    except ChildProcessError:
                        pass
                    time.sleep(0.01)
            os._exit(0)
    time.sleep(0.3)
    before = len(die_with_parent.descendants(os.getpid()))
    die_with_parent.end_descendants()
    print(before, len(die_with_parent.descendants(os.getpid())))
    """
)


def test_daemons_that_fork_on_are_all_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUBREAPER], capture_output=True, text=True, timeout=30, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before >= 3
    assert after == 0


def test_descendants_are_found_by_parent_whatever_they_call_themselves() -> None:
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'x) Z 1 (', 0, 0, 0); print(); time.sleep(30)"
    child = subprocess.Popen([sys.executable, "-u", "-c", rename], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = die_with_parent.descendants(os.getpid())
        assert child.pid in found
        assert processes.memory_bytes([child.pid]) > 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert child.pid not in die_with_parent.descendants(os.getpid())
