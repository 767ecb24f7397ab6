"""Encapsulated pixel data: which fragments make which frame (PS3.5 A.4).

Offset tables are believed only where they agree with the fragments that are there: some writers leave them
empty, others fill them wrongly.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import BinaryIO

from imaging.staging.parsing.dicom.dataset import Opened
from imaging.staging.parsing.dicom.values import raw_bytes
from imaging.staging.parsing.unreadable import Unreadable

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MAX_FRAGMENTS = 2_000_000
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"\x00\x00\x00\x0cJXL ")
"""First bytes of a JPEG, JPEG-LS, JPEG 2000 codestream, of a JP2 and of a JPEG XL file.  Not those of a bare
JPEG XL codestream: two bytes turn up anywhere."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """One item of the pixel data: where its bytes lie in the stream."""

    offset: int
    length: int


def encoded_frames(opened: Opened, frames: int) -> list[list[Fragment]]:
    """The fragments of each frame; raises :class:`Unreadable` where they are fewer or can't be told apart."""
    assert opened.pixels is not None
    fragments, table = _fragments(opened.stream, opened.pixels.offset, opened.size)
    if len(fragments) < frames:
        raise Unreadable("truncated-pixel-data" if fragments else "pixel-data-missing")
    if frames == 1:
        return [fragments]
    for starts in (_extended(opened, frames), table):
        grouped = _by_offsets(fragments, starts, frames)
        if grouped is not None:
            return grouped
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    grouped = _by_codestream(opened.stream, fragments)
    if len(grouped) != frames:
        raise Unreadable("decode-failed")
    return grouped


def read_fragments(stream: BinaryIO, fragments: list[Fragment]) -> bytes:
    """The codestream of one frame."""
    parts = []
    for fragment in fragments:
        stream.seek(fragment.offset)
        parts.append(stream.read(fragment.length))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _fragments(stream: BinaryIO, offset: int, size: int) -> tuple[list[Fragment], tuple[int, ...]]:
    """All fragments and the basic offset table, which is the first item."""
    found: list[Fragment] = []
    table: tuple[int, ...] | None = None
    while True:
        stream.seek(offset)
        head = stream.read(8)
        if len(head) < 8 or head[:4] != _ITEM:
            if len(head) == 8 and head[:4] != _DELIMITER:
                raise Unreadable("malformed-dicom")
            break  # the delimiter, or the end of a file that lacks it
        (length,) = struct.unpack_from("<L", head, 4)
        if offset + 8 + length > size:
            raise Unreadable("truncated-pixel-data")
        if table is None:
            raw = stream.read(length & ~3)
            table = struct.unpack(f"<{len(raw) // 4}L", raw)
        elif length:
            found.append(Fragment(offset + 8, length))
        if len(found) > _MAX_FRAGMENTS:
            raise Unreadable("too-large")
        offset += 8 + length
    return found, table or ()


def _extended(opened: Opened, frames: int) -> tuple[int, ...]:
    """Extended Offset Table (7FE0,0001)."""
    raw = raw_bytes(opened.dataset, "ExtendedOffsetTable")
    if raw is None or len(raw) < 8 * frames:
        return ()
    return struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8])


def _by_offsets(
    fragments: list[Fragment], starts: tuple[int, ...], frames: int
) -> list[list[Fragment]] | None:
    """Fragments grouped by an offset table, or None where the table doesn't fit them."""
    if len(starts) != frames or starts[0] != 0 or any(b <= a for a, b in itertools.pairwise(starts)):
        return None
    base = fragments[0].offset - 8
    index = {fragment.offset - 8 - base: number for number, fragment in enumerate(fragments)}
    places = [index.get(start) for start in starts]
    if any(place is None for place in places):
        return None
    bounds = [*(place for place in places if place is not None), len(fragments)]
    return [fragments[a:b] for a, b in itertools.pairwise(bounds)]


def _by_codestream(stream: BinaryIO, fragments: list[Fragment]) -> list[list[Fragment]]:
    """A frame begins with the fragment that begins as a codestream."""
    grouped: list[list[Fragment]] = []
    for fragment in fragments:
        stream.seek(fragment.offset)
        if stream.read(12).startswith(_STARTS) or not grouped:
            grouped.append([])
        grouped[-1].append(fragment)
    return grouped
