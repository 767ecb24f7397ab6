"""Finds what is packed inside bytes: gzip, zlib, zip members, bzip2, xz, zstd, blosc, base64, hexadecimal.

Every place where a packed stream could begin is tried, so it does not matter where in a file it lies.  Output
that a stream gives before it breaks counts too: half a leak is a leak.
"""

from __future__ import annotations

import base64
import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import zstandard
from numcodecs import blosc

MAX_OUTPUT_BYTES = 256 << 20
"""Of one stream; more is reported as unread, never passed over in silence."""
MIN_OUTPUT_BYTES = 12
"""Shorter than the shortest canary."""

_FIRST_PIECE, _PIECE = 256, 1 << 16
_RUN_BLOCK = 8

MAGICS: dict[bytes, str] = {
    b"\x1f\x8b\x08": "gzip",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x01": "blosc",
}
"""First bytes of each format: RFC 1952, RFC 1950, APPNOTE 4.3.7, RFC 8878, c-blosc's header."""


class OutputTooLargeError(Exception):
    """A stream grows past :data:`MAX_OUTPUT_BYTES`."""


@dataclass(frozen=True)
class Unpacked:
    """What a stream gave, and where in the packed bytes it ended (its start, unless it ended well)."""

    data: bytes
    end: int


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def unpack(data: memoryview, start: int, kind: str) -> Unpacked | None:
    """Try to unpack a stream of ``kind`` that begins at ``start``; None when there is none."""
    if kind == "blosc":
        return _blosc(data, start)
    if kind == "zip":
        return _zip_member(data, start)
    make, errors = _STREAMS[kind]
    return _stream(data, start, make(), errors)


_STREAMS: dict[str, tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]] = {
    "gzip": (lambda: zlib.decompressobj(wbits=31), (zlib.error,)),
    "zlib": (lambda: zlib.decompressobj(wbits=15), (zlib.error,)),
    "deflate": (lambda: zlib.decompressobj(wbits=-15), (zlib.error,)),
    "bzip2": (bz2.BZ2Decompressor, (OSError, ValueError, EOFError)),
    "xz": (lzma.LZMADecompressor, (lzma.LZMAError, EOFError)),
    "zstd": (
        lambda: zstandard.ZstdDecompressor(max_window_size=1 << 28).decompressobj(),
        (zstandard.ZstdError,),
    ),
}


def _stream(
    data: memoryview, start: int, stream: _Decompressor, errors: tuple[type[Exception], ...]
) -> Unpacked | None:
    """Feed piece by piece, small first: most false starts break within their first bytes."""
    pieces: list[bytes] = []
    made, at, size = 0, start, _FIRST_PIECE
    while at < len(data) and not stream.eof:
        piece = bytes(data[at : at + size])
        at += len(piece)
        size = _PIECE
        try:
            output = stream.decompress(piece)
        except errors:
            break
        pieces.append(output)
        made += len(output)
        if made > MAX_OUTPUT_BYTES:
            raise OutputTooLargeError
    if made < MIN_OUTPUT_BYTES:
        return None
    return Unpacked(b"".join(pieces), at - len(stream.unused_data) if stream.eof else start)


def _zip_member(data: memoryview, start: int) -> Unpacked | None:
    """A deflated member, found by its local header (APPNOTE 4.3.7); stored ones lie open anyway."""
    if len(data) < start + 30:
        return None
    method, name_bytes, extra_bytes = struct.unpack_from("<8xH16xHH", data, start)
    if method != 8:
        return None
    make, errors = _STREAMS["deflate"]
    return _stream(data, start + 30 + name_bytes + extra_bytes, make(), errors)


def _blosc(data: memoryview, start: int) -> Unpacked | None:
    """A blosc 1 chunk: 16 bytes of header, which must agree with itself (c-blosc, README_CHUNK_FORMAT)."""
    if len(data) < start + 20:
        return None
    _, _, flags, typesize, nbytes, blocksize, cbytes, first = struct.unpack_from("<BBBBIIII", data, start)
    if flags & 0x08 or flags >> 5 > 4 or not typesize or nbytes < MIN_OUTPUT_BYTES:
        return None
    if not 0 < blocksize <= nbytes or cbytes > min(nbytes + 16, len(data) - start):
        return None
    table_end = 16 + 4 * -(-nbytes // blocksize)
    stored = flags & 0x02 and cbytes == nbytes + 16
    if not stored and not table_end <= first < cbytes:
        return None
    if nbytes > MAX_OUTPUT_BYTES:
        raise OutputTooLargeError
    try:
        return Unpacked(bytes(blosc.decompress(bytes(data[start : start + cbytes]))), start + cbytes)
    except (RuntimeError, ValueError):
        return None


_IN_TEXT = np.zeros(256, np.bool_)
_IN_TEXT[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_\r\n")] = True
_TEXT_RUN = re.compile(rb"[A-Za-z0-9+/\-_\r\n]{15,}")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f]{24,}")
_LINE_ENDS = b"\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def decoded_text(data: memoryview) -> Iterator[bytes]:
    """Whatever runs of base64 (both alphabets, wrapped or not) and hexadecimal could mean, at each phase."""
    for start, stop in _text_regions(data):
        for match in _TEXT_RUN.finditer(data[start:stop]):
            run = match[0].translate(None, _LINE_ENDS)
            for hexadecimal in _HEX_RUN.findall(run):
                for phase in (0, 1):
                    digits = hexadecimal[phase:]
                    yield bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
            run = run.translate(_URL_SAFE)
            for phase in range(4):
                quads = run[phase:]
                yield base64.b64decode(quads[: len(quads) // 4 * 4])


def _text_regions(data: memoryview) -> list[tuple[int, int]]:
    """Stretches that hold a run of at least 15 such characters: cheap to find, since few aligned blocks of 8
    pass in what is not text."""
    blocks = len(data) // _RUN_BLOCK
    if blocks == 0:
        return []
    table = np.frombuffer(data, np.uint8, blocks * _RUN_BLOCK).reshape(blocks, _RUN_BLOCK)
    likely = np.flatnonzero(_IN_TEXT[table[:, 0]])
    for column in (3, 6, 1, 2, 4, 5, 7):
        likely = likely[_IN_TEXT[table[likely, column]]]
    if likely.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(likely) > 2)
    firsts = np.concatenate(([likely[0]], likely[breaks + 1]))
    lasts = np.concatenate((likely[breaks], [likely[-1]]))
    return [
        (max((int(first) - 1) * _RUN_BLOCK, 0), min((int(last) + 2) * _RUN_BLOCK, len(data)))
        for first, last in zip(firsts, lasts, strict=True)
    ]
