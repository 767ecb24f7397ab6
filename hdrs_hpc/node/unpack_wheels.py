"""Unpacks wheels for the agent: a process without keys, which verifies each hash and asks every rule once more.

On its standard input come the wheels in the order of the lock, which lies in the unpacked bundle.  A wheel is kept
packed only until it is unpacked.  It ends with 0 once all of them are there; any other
end is a refusal.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.protocol import wheel_lock, wheels

_PIECE_BYTES = 1 << 20
_REFUSED = 3


def unpack(stream: BinaryIO, lock_file: Path, folder: Path) -> None:
    """Raises HdrsError where a wheel is refused, OSError where there is no room."""
    lock = wheel_lock.parse(lock_file.read_bytes())
    if lock.platform.split("-")[0] != platform.machine():
        raise wheel_lock.WheelPlatformError(f"this node is {platform.machine()}")
    held = wheel_lock.held_by(lock, lock.flavour, HELD)
    wheel_lock.check_held(lock, held)
    for wheel in lock.wheels:
        with tempfile.TemporaryFile(dir=folder) as packed:
            _copy(stream, packed, wheel.size)
            wheels.verify(packed, wheel)
            wheels.unpack(packed, wheel, lock.platform, held, folder)


def _copy(stream: BinaryIO, target: BinaryIO, size: int) -> None:
    while size and (piece := stream.read(min(size, _PIECE_BYTES))):
        target.write(piece)
        size -= len(piece)
    target.flush()


def main(argv: list[str]) -> int:
    os.umask(0o077)
    try:
        unpack(sys.stdin.buffer, Path(argv[0]), Path(argv[1]))
    except (HdrsError, OSError):
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
