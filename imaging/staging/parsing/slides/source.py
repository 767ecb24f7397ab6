"""Bytes of the file at hand, for what outlives one request about it."""

from __future__ import annotations

from typing import BinaryIO

from imaging.staging.parsing.unreadable import Unreadable


class Source:
    """``file`` is exchanged at each request: each brings a descriptor of its own for the same file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes; raises :class:`Unreadable`."""
        self.file.seek(offset)
        data = self.file.read(count)
        if len(data) != count:
            raise Unreadable("truncated-tile")
        return data
