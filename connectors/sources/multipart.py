"""The one body part of a ``multipart/related`` answer, as a stream (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2).

Written out as it comes: neither the part nor the answer is ever whole in memory, and nothing in it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from connectors.sources import SourceRefusedError
from connectors.sources.retrying import LineBrokenError

MAX_PART_HEADER_BYTES = 16 << 10
_BOUNDARY = re.compile(r'boundary="?([0-9A-Za-z\'()+_,\-./:=? ]{1,70})"?', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a multipart content type, or None if it is another type."""
    if not content_type.lower().startswith("multipart/related"):
        return None
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise SourceRefusedError("a multipart answer without a boundary")
    return found[1].strip().encode("ascii")


def copy_single_part(blocks: Iterable[bytes], boundary: bytes, write: Callable[[bytes], None]) -> None:
    """Write the part's body.  Raises :class:`SourceRefusedError` if there is not exactly one part, and
    :class:`LineBrokenError` if the answer ends before its closing boundary."""
    opening, closing = b"--" + boundary, b"\r\n--" + boundary
    stream = iter(blocks)
    # The first boundary may stand at the very start; a line end before it makes it look like the others.
    buffer = bytearray(b"\r\n")
    while (at := buffer.find(b"\r\n" + opening)) < 0 or b"\r\n\r\n" not in buffer[at + len(closing) :]:
        if len(buffer) > MAX_PART_HEADER_BYTES:
            raise SourceRefusedError("a multipart answer whose part does not begin")
        buffer += _next(stream)
    del buffer[: buffer.index(b"\r\n\r\n", at + len(closing)) + 4]
    while (end := buffer.find(closing)) < 0:
        sure = len(buffer) - len(closing) + 1
        if sure > 0:
            write(bytes(buffer[:sure]))
            del buffer[:sure]
        buffer += _next(stream)
    write(bytes(buffer[:end]))
    del buffer[: end + len(closing)]
    while len(buffer) < 2:
        buffer += _next(stream)
    if buffer[:2] != b"--":
        raise SourceRefusedError("the archive answered with several parts where one instance was asked for")


def _next(stream: Iterable[bytes]) -> bytes:
    for block in stream:
        return block
    raise LineBrokenError("the answer ended in its midst")
