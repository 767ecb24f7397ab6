"""One artefact as it comes in: its beginning can be looked at, and all of it is hashed as it passes."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO

HEAD_BYTES = 1 << 20
"""What an artefact is, is told from so many of its first bytes."""
_WINDOW_BYTES = 1 << 20


class Given(io.RawIOBase):
    """A stream of ``size`` bytes, read once, from front to back."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self.size = size
        self._source = source
        self._hash = hashlib.sha256()
        self._head = b""
        self._at = 0

    def head(self) -> bytes:
        """Its first bytes; they are read again afterwards."""
        if not self._head and not self._at:
            wanted = min(self.size, HEAD_BYTES)
            while len(self._head) < wanted and (piece := self._source.read(wanted - len(self._head))):
                self._head += piece
            self._hash.update(self._head)
        return self._head

    def digest(self) -> bytes:
        """SHA-256 of all of it; reads what nobody read."""
        while piece := self._source.read(_WINDOW_BYTES):
            self._hash.update(piece)
        return self._hash.digest()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        if self._at < len(self._head):
            piece = self._head[self._at : self._at + len(view)]
            self._at += len(piece)
            if self._at == len(self._head):
                self._head, self._at = b"", 1  # not to be looked at again: memory is short
        else:
            piece = self._source.read(min(len(view), _WINDOW_BYTES)) or b""
            self._hash.update(piece)
            self._at = max(self._at, 1)
        view[: len(piece)] = piece
        return len(piece)


class Counted(io.RawIOBase):
    """Passes on what is written, counts and hashes it."""

    def __init__(self, out: BinaryIO) -> None:
        self.size = 0
        self._out = out
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def writable(self) -> bool:
        return True

    def pass_on(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self.size += len(view)
        self._out.write(view)
        return len(view)
