"""How broker and checker process speak, as streams: neither holds an artefact whole for the framing's sake.

Request: ``u32 length ‖ strict JSON``, then for each artefact ``u64 length ‖ bytes``.  Answer: pieces of the rebuilt
artefacts, ``b"P" ‖ u32 which ‖ u32 length ‖ bytes``, then the header ``b"H" ‖ u32 length ‖ strict JSON`` and nothing
more: what was rebuilt is believed only once the header, which comes last, has been.  Big endian.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from hdrs_hpc.core import strict_json

MAX_HEADER_BYTES = 4 << 20
MAX_BLOBS = 256
PIECE_BYTES = 1 << 20

type Pieces = Iterable[bytes]


class FramingError(Exception):
    """The other side broke the framing: it crashed, or it is no checker any more."""


class Piecewise(io.RawIOBase):
    """The next ``size`` bytes of a stream that can't be sought, as a stream of its own."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        view = memoryview(target)[: self._left]
        got = self._stream.readinto(view) if view else 0  # type: ignore[attr-defined]  # every binary stream has it
        if view and not got:
            raise FramingError("ended early")
        self._left -= got or 0
        return got or 0


class PieceWriter(io.RawIOBase):
    """Writes one rebuilt artefact into the answer as it comes."""

    def __init__(self, out: BinaryIO, which: int) -> None:
        self._out = out
        self._which = which

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            self._out.write(b"P" + struct.pack(">II", self._which, len(piece)))
            self._out.write(piece)
        return len(view)


def send_request(out: BinaryIO, header: Any, blobs: Iterable[tuple[int, Pieces]]) -> None:
    """Write a request; ``blobs`` are (size in bytes, pieces), each asked for when its turn has come."""
    text = strict_json.dumps(header)
    out.write(struct.pack(">I", len(text)) + text)
    for size, pieces in blobs:
        out.write(struct.pack(">Q", size))
        for piece in pieces:
            out.write(piece)


def read_request(stream: BinaryIO, blobs_key: str) -> tuple[dict[str, Any], Iterator[tuple[int, Piecewise]]]:
    """The header, and (size, bytes) of as many blobs as it has items under ``blobs_key``.

    Each must be read to its end before the next is asked for; nothing may follow the last.
    """
    header = _header(stream)
    if not isinstance(header.get(blobs_key), list) or len(header[blobs_key]) > MAX_BLOBS:
        raise FramingError("a header without its list")

    def blobs() -> Iterator[tuple[int, Piecewise]]:
        for _ in header[blobs_key]:
            (size,) = struct.unpack(">Q", _exactly(stream, 8))
            yield size, Piecewise(stream, size)
        if stream.read(1):
            raise FramingError("data behind the last blob")

    return header, blobs()


def end_answer(out: BinaryIO, header: Any) -> None:
    """Write the header of an answer, whose pieces were written before."""
    text = strict_json.dumps(header)
    out.write(b"H" + struct.pack(">I", len(text)) + text)


def answer(header: Any, blobs: Sequence[bytes]) -> bytes:
    """A whole answer in memory."""
    out = io.BytesIO()
    for which, blob in enumerate(blobs):
        PieceWriter(out, which).write(blob)
    end_answer(out, header)
    return out.getvalue()


def read_answer(
    stream: BinaryIO, most: Sequence[int], take: Callable[[int, bytes], None], header_key: str
) -> dict[str, Any]:
    """The header of an answer; its pieces go to ``take(which, bytes)``, of artefact n at most ``most[n]`` bytes."""
    left = list(most)
    while (kind := _exactly(stream, 1)) == b"P":
        which, size = struct.unpack(">II", _exactly(stream, 8))
        if which >= len(left) or not 0 < size <= min(left[which], PIECE_BYTES):
            raise FramingError("a piece of no artefact, or more of one than it may have")
        left[which] -= size
        take(which, _exactly(stream, size))
    if kind != b"H":
        raise FramingError("neither a piece nor a header")
    header = _header(stream)
    if not isinstance(header.get(header_key), list):
        raise FramingError("a header without its list")
    if stream.read(1):
        raise FramingError("data behind the header")
    return header


def _header(stream: BinaryIO) -> dict[str, Any]:
    (size,) = struct.unpack(">I", _exactly(stream, 4))
    if size > MAX_HEADER_BYTES:
        raise FramingError("a header too large")
    header = strict_json.loads(_exactly(stream, size), max_bytes=MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise FramingError("a header that is none")
    return header


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise FramingError("ended early")
    return data
