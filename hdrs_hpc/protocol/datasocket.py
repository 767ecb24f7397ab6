"""Frames between the workload and the agent's data server, over a unix socket.

Bytes of data never travel through the socket: after ``OPEN`` the server passes a memory file descriptor (one
slot a connection), and each ``READ`` fills it from its start, range after range.  A connection carries one
request at a time; who wants more in flight opens more connections.

Frame, little-endian: ``u32 length`` of what follows, ``u8 op`` or ``u8 status``, body.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hdrs_hpc.core.errors import BadDocumentError, SiteError

VERSION = 1
MAX_FRAME = 1 << 20
SLOT_BYTES = 8 << 20
MAX_RANGES = 4096
MISSING = -1

_HEAD = struct.Struct("<IB")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_RANGE = struct.Struct("<IQQ")


class FrameError(BadDocumentError):
    code = "data-frame-malformed"
    meaning = "A frame on the data socket is not what the protocol says."
    remedy = "Use `imaging.reading.open_staged`; the socket is not an interface for other programs."


class DataServerError(SiteError):
    code = "data-server"
    meaning = "The node agent could not serve a read."
    remedy = "The staged copy or the agent has failed; the job ends and its attempt tells why."


class Op(IntEnum):
    OPEN = 1
    INPUTS = 2
    LIST = 3
    SIZES = 4
    READ = 5
    CHILDREN = 6
    """Like ``LIST``, but the names directly below a folder; manifests of whole items in it are not read."""


class Status(IntEnum):
    OK = 0
    BAD_REQUEST = 1
    NO_SUCH_INPUT = 2
    UNREADABLE = 3
    """An object failed its authentication, or scratch failed."""


@dataclass(frozen=True)
class Range:
    """``length`` bytes of object ``path`` from ``start``; beyond the object's end fewer are given."""

    path: str
    start: int
    length: int


@dataclass(frozen=True)
class Listing:
    """Some paths with their sizes, sorted; ``more`` says that a further page follows the last one."""

    entries: tuple[tuple[str, int], ...]
    more: bool


def frame(kind: int, body: bytes = b"") -> bytes:
    if len(body) + 1 > MAX_FRAME:
        raise FrameError(f"a frame of {len(body)} bytes")
    return _HEAD.pack(len(body) + 1, kind) + body


HEAD_BYTES = _HEAD.size


def parse_head(head: bytes) -> tuple[int, int]:
    """Gives (kind, length of the body that follows)."""
    length, kind = _HEAD.unpack(head)
    if not 1 <= length <= MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes")
    return kind, length - 1


# bodies of requests


def open_body() -> bytes:
    return _U16.pack(VERSION)


def parse_open(body: bytes) -> int:
    reader = _Reader(body)
    version = reader.u16()
    reader.end()
    return version


def list_body(name: str, prefix: str, after: str) -> bytes:
    return _text(name) + _text(prefix) + _text(after)


def parse_list(body: bytes) -> tuple[str, str, str]:
    reader = _Reader(body)
    made = (reader.text(), reader.text(), reader.text())
    reader.end()
    return made


def sizes_body(name: str, paths: Sequence[str]) -> bytes:
    return _text(name) + _texts(paths)


def parse_sizes(body: bytes) -> tuple[str, list[str]]:
    reader = _Reader(body)
    made = (reader.text(), reader.texts())
    reader.end()
    return made


def read_body(name: str, ranges: Sequence[Range]) -> bytes:
    """Each path is written once, so a thousand chunks of one shard cost 20 bytes each."""
    index: dict[str, int] = {}
    rows = [_RANGE.pack(index.setdefault(r.path, len(index)), r.start, r.length) for r in ranges]
    return _text(name) + _texts(list(index)) + _U32.pack(len(rows)) + b"".join(rows)


def parse_read(body: bytes) -> tuple[str, list[Range]]:
    """Refuses more ranges, or more bytes, than one slot can hold."""
    reader = _Reader(body)
    name, paths, count = reader.text(), reader.texts(), reader.u32()
    if count > MAX_RANGES:
        raise FrameError(f"{count} ranges in one read")
    ranges: list[Range] = []
    total = 0
    for _ in range(count):
        which, start, length = reader.row()
        if which >= len(paths):
            raise FrameError("a range of a path that was not named")
        total += length
        ranges.append(Range(paths[which], start, length))
    if total > SLOT_BYTES:
        raise FrameError(f"{total} bytes in one read")
    reader.end()
    return name, ranges


# bodies of replies


def opened_body(slot_bytes: int) -> bytes:
    return _U32.pack(slot_bytes)


def parse_opened(body: bytes) -> int:
    reader = _Reader(body)
    slot = reader.u32()
    reader.end()
    if not 0 < slot <= SLOT_BYTES:
        raise FrameError(f"a slot of {slot} bytes")
    return slot


def names_body(names: Sequence[str]) -> bytes:
    return _texts(names)


def parse_names(body: bytes) -> list[str]:
    reader = _Reader(body)
    names = reader.texts()
    reader.end()
    return names


def listing_body(listing: Listing) -> bytes:
    rows = b"".join(_text(path) + _I64.pack(size) for path, size in listing.entries)
    return bytes([listing.more]) + _U32.pack(len(listing.entries)) + rows


def parse_listing(body: bytes) -> Listing:
    reader = _Reader(body)
    more, count = reader.u8(), reader.u32()
    entries = tuple((reader.text(), reader.i64()) for _ in range(min(count, MAX_FRAME)))
    reader.end()
    return Listing(entries, bool(more))


def lengths_body(lengths: Sequence[int]) -> bytes:
    """Per path or range: bytes, or ``MISSING`` where there is no such object."""
    return struct.pack(f"<{len(lengths)}q", *lengths)


def parse_lengths(body: bytes, count: int) -> tuple[int, ...]:
    if len(body) != 8 * count:
        raise FrameError("another number of lengths than was asked for")
    return struct.unpack(f"<{count}q", body)


class _Reader:
    """Takes fields off a body; raises FrameError where it is too short, too long or not UTF-8."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._body):
            raise FrameError("a frame is shorter than it says")
        piece = self._body[self._at : self._at + size]
        self._at += size
        return piece

    def u8(self) -> int:
        return self._take(1)[0]

    def u16(self) -> int:
        return int(_U16.unpack(self._take(2))[0])

    def u32(self) -> int:
        return int(_U32.unpack(self._take(4))[0])

    def i64(self) -> int:
        return int(_I64.unpack(self._take(8))[0])

    def row(self) -> tuple[int, int, int]:
        which, start, length = _RANGE.unpack(self._take(_RANGE.size))
        return which, start, length

    def text(self) -> str:
        raw = self._take(self.u16())
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise FrameError("a text is not UTF-8") from None

    def texts(self) -> list[str]:
        count = self.u32()
        if count > MAX_RANGES:
            raise FrameError(f"{count} texts in one frame")
        return [self.text() for _ in range(count)]

    def end(self) -> None:
        if self._at != len(self._body):
            raise FrameError("a frame is longer than it says")


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    if len(raw) > 0xFFFF:
        raise FrameError("a text is too long")
    return _U16.pack(len(raw)) + raw


def _texts(texts: Sequence[str]) -> bytes:
    return _U32.pack(len(texts)) + b"".join(_text(text) for text in texts)
