"""What the sandbox of an attempt runs on: the agent's end of it.  All is done by ``flavour_image.py``, without keys.

The file is read while keys are waited for.  Which one is taken is said by the signed order.
"""

from __future__ import annotations

import os
from pathlib import Path

from hdrs_hpc.node import keyless
from hdrs_hpc.node.private_memory import PrivateMemory
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.handover import FlavourOrder
from hdrs_hpc.protocol.progress import Stop


class Flavour:
    """``probably``: digest of the file that is read at once.  Half of ``mem_mb`` is the most that it may take."""

    def __init__(self, scratch: Path, memory: PrivateMemory, mem_mb: int, probably: str) -> None:
        self._scratch, self._memory, self._most_bytes = scratch, memory, mem_mb << 19
        self._read(probably)

    def take(self, order: FlavourOrder) -> None:
        """The file that the order names is at ``memory.flavour`` after this, and no other; raises StoppedEarly."""
        if order.size_bytes > self._most_bytes:
            raise StoppedEarly(Stop.FLAVOUR_TOO_LARGE)
        if order.digest != self._digest:
            self.close()
            self._read(order.digest)
        if self._told() != f"read {order.digest}":
            raise StoppedEarly(Stop.FLAVOUR_MISMATCH)
        try:
            self._process.stdin.write(b"show\n")  # type: ignore[union-attr]  # it is a pipe
            shown = self._told() == "shown"
            if self._memory.fuse is not None:
                os.close(self._memory.fuse)  # from now on the mount ends with who serves it
            (self._memory.flavour / "bin").stat()
        except OSError:
            shown = False
        if not shown:
            raise StoppedEarly(Stop.FLAVOUR_UNUSABLE)

    def close(self) -> None:
        with self._process:
            self._process.terminate()

    def _read(self, digest: str) -> None:
        self._digest, fuse = digest, self._memory.fuse
        path = self._scratch.joinpath(*layout.flavour_parts(digest))
        words = (path, self._most_bytes, self._memory.flavour, "" if fuse is None else fuse)
        self._process = keyless.start("flavour_image", *words, files=() if fuse is None else (fuse,))

    def _told(self) -> str:
        return self._process.stdout.readline().decode("ascii", "replace").strip()  # type: ignore[union-attr]
