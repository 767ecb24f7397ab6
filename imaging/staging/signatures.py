"""Files as they were when they were hashed: what has not changed since need not be hashed again."""

from __future__ import annotations

import os
import time

import numpy as np
from numpy.typing import NDArray

type Signature = tuple[int, int, int, int, int]
"""Device, inode, size, and in nanoseconds when the content last changed and when anything did, which nobody can set."""
SETTLED_NS = 1_000_000_000
"""A file that changed less long ago could change again within one tick of the clock, and look the same."""


def signature(handle: int) -> Signature:
    """Of an open file.  Raises OSError."""
    status = os.fstat(handle)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Signatures:
    """Signatures by item number, from 1; 40 bytes each, since there may be millions.  Not locked: numbers are told
    one thread each, and what is read meanwhile is the old or the new."""

    def __init__(self, count: int) -> None:
        self._rows: NDArray[np.uint64] = np.zeros((count, 5), dtype=np.uint64)

    def note(self, number: int, seen: Signature) -> None:
        """Keep it, unless the file changed only just now: then it is hashed again when it is next used."""
        if time.time_ns() - seen[4] >= SETTLED_NS:
            self._rows[number - 1] = seen

    def holds(self, number: int, now: Signature) -> bool:
        """Whether the item is known, and still the same file."""
        return bool(now[1]) and tuple(self._rows[number - 1].tolist()) == now
