"""Wheels on their way from the sealed bundle into private memory.

The agent opens them and does no more: a process without keys (``unpack_wheels.py``) reads the zip files.  They reach
it through a pipe one after the other, so that at most one lies in memory packed and unpacked at a time.
"""

from __future__ import annotations

import contextlib
import os

from hdrs_hpc.node import keyless
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
    process = keyless.start("unpack_wheels", places.bundle / LOCK_NAME, places.wheels)
    assert process.stdin is not None
    pipe = os.fdopen(process.stdin.fileno(), "wb", closefd=False)
    with process, contextlib.suppress(BrokenPipeError), pipe:  # it refused one, and its exit code says so
        for wheel in lock.wheels:
            pipe.writelines(copy.pieces(layout.wheel_path(wheel.digest)))
    if process.returncode != 0:
        raise StoppedEarly(Stop.WHEELS_REFUSED)
