"""Wheels on their way from the sealed bundle into private memory.

The agent opens them and does no more: a process without keys (``unpack_wheels.py``) reads the zip files.  They reach
it through a pipe one after the other, so that at most one lies in memory packed and unpacked at a time.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node.sandbox import Places
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.progress import Stop
from hdrs_hpc.protocol.wheel_lock import LOCK_NAME, Lock
from hdrs_hpc.sealing.reader import SealedCopy


def unpack(copy: SealedCopy, lock: Lock, places: Places) -> None:
    """Unpack the packages of every wheel, whose lock lies in the unpacked bundle.

    Raises StoppedEarly where a wheel is refused or has no room.
    """
    words = (str(places.bundle / LOCK_NAME), str(places.wheels))
    command = [sys.executable, "-I", "-B", "-m", "hdrs_hpc.node.unpack_wheels", *words]
    process = subprocess.Popen(
        die_with_parent.guarded(command),
        env=die_with_parent.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with (
        contextlib.suppress(BrokenPipeError),
        process.stdin as stream,
    ):  # it refused one, and its exit code says so
        for wheel in lock.wheels:
            stream.writelines(copy.pieces(layout.wheel_path(wheel.digest)))
    if process.wait() != 0:
        raise StoppedEarly(Stop.WHEELS_REFUSED)
