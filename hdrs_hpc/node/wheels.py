"""Wheels on their way from the sealed bundle into private memory.

The agent opens them and does no more: a process without keys (``unpack_wheels.py``) reads the zip files.  They reach
it through a pipe one after the other, so that at most one lies in memory packed and unpacked at a time.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.progress import Stop
from hdrs_hpc.protocol.wheel_lock import Lock
from hdrs_hpc.sealing.reader import SealedCopy

_PIECE_BYTES = 4 << 20


def unpack(copy: SealedCopy, lock: Lock, folder: Path) -> None:
    """Fill ``folder`` with the packages of every wheel; raises StoppedEarly where one is refused or has no room."""
    command = [sys.executable, "-I", "-B", "-m", "hdrs_hpc.node.unpack_wheels", str(folder)]
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
        raw = lock.to_bytes()
        stream.write(len(raw).to_bytes(4, "big") + raw)
        for wheel in lock.wheels:
            path = layout.wheel_path(wheel.digest)
            for start in range(0, copy.size(path), _PIECE_BYTES):
                stream.write(copy.read(path, start, _PIECE_BYTES))
    if process.wait() != 0:
        raise StoppedEarly(Stop.WHEELS_REFUSED)
