"""Where each frame of a DICOM instance's pixel data lies in the file (PS3.5 8.2, A.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.dataset import Opened
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.unreadable import Unreadable

_PIXEL_DATA = 0x7FE00010
_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD
_LONG = (b"OB", b"OW", b"UN")
_UNDEFINED = 0xFFFFFFFF
_STARTS = (b"\xff\xd8", b"\xff\x4f")
"""Of JPEG, JPEG-LS; of JPEG 2000."""


@dataclass(frozen=True, slots=True)
class Frames:
    """For each frame its fragments, as (offset, length) in the file."""

    fragments: list[list[tuple[int, int]]]

    def has(self, frame: int) -> bool:
        """Whether the frame has any bytes: some writers leave tiles of mere glass empty."""
        return any(length for _, length in self.fragments[frame])

    def first(self) -> int:
        """The first frame that has any, or 0."""
        return next((frame for frame in range(len(self.fragments)) if self.has(frame)), 0)

    def read(self, source: Source, frame: int) -> bytes:
        """A frame's encoded bytes; raises :class:`Unreadable`."""
        return b"".join(source.read(offset, length) for offset, length in self.fragments[frame])


def native_frames(source: Source, at: int, big_endian: bool, explicit: bool, count: int, size: int) -> Frames:
    """Frames of ``size`` bytes one after another; ``at``: offset of the Pixel Data element."""
    start, length = _value(source, at, big_endian, explicit)
    if length == _UNDEFINED or length < count * size:
        raise Unreadable("truncated-pixel-data")
    return Frames([[(start + frame * size, size)] for frame in range(count)])


def encapsulated_frames(source: Source, at: int, dataset: Dataset, count: int, end: int) -> Frames:
    """By the extended or basic offset table, or else by the fragments themselves."""
    start, length = _value(source, at, False, True)
    if length != _UNDEFINED:
        raise Unreadable("malformed-dicom")
    table_at, table_length = _item(source, start)
    first = table_at + table_length
    raw = source.read(table_at, table_length)
    offsets: list[int] = []
    if "ExtendedOffsetTable" in dataset:
        extended = bytes(dataset.ExtendedOffsetTable)
        offsets = [value[0] for value in struct.iter_unpack("<Q", extended[: len(extended) // 8 * 8])]
    elif raw:
        offsets = [value[0] for value in struct.iter_unpack("<I", raw[: len(raw) // 4 * 4])]
    fragments = _fragments(source, first, end)
    if len(fragments) == count:
        return Frames([[fragment] for fragment in fragments])
    starts = {offset - 8: number for number, (offset, _) in enumerate(fragments)}
    if len(offsets) == count and all(first + offset in starts for offset in offsets):
        cuts = [starts[first + offset] for offset in offsets]
    else:
        cuts = [
            number
            for number, (offset, size) in enumerate(fragments)
            if size >= 2 and source.read(offset, 2) in _STARTS
        ]
    if len(cuts) != count or cuts[:1] != [0] or cuts != sorted(set(cuts)):
        raise Unreadable("truncated-pixel-data")
    return Frames([fragments[one:two] for one, two in zip(cuts, [*cuts[1:], len(fragments)], strict=True)])


def check_whole(opened: Opened) -> None:
    """Whether all of the Pixel Data element is in the file, decodable or not; raises :class:`Unreadable`."""
    assert opened.pixels is not None
    source = Source(opened.stream)
    if opened.pixels.length is not None:
        if opened.pixels.offset + opened.pixels.length > opened.size:
            raise Unreadable("truncated-pixel-data")
        return
    table_at, table_length = _item(source, opened.pixels.offset)
    _fragments(source, table_at + table_length, opened.size)


def _fragments(source: Source, at: int, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while at + 8 <= end:
        tag, length = _tag(source, at)
        if tag == _DELIMITER:
            return found
        if tag != _ITEM or at + 8 + length > end:
            break
        found.append((at + 8, length))
        at += 8 + length
    raise Unreadable("truncated-pixel-data")


def _item(source: Source, at: int) -> tuple[int, int]:
    tag, length = _tag(source, at)
    if tag != _ITEM:
        raise Unreadable("malformed-dicom")
    return at + 8, length


def _tag(source: Source, at: int) -> tuple[int, int]:
    group, element, length = struct.unpack("<HHI", source.read(at, 8))
    return group << 16 | element, length


def _value(source: Source, at: int, big_endian: bool, explicit: bool) -> tuple[int, int]:
    """Offset and length of the Pixel Data element's value."""
    order = ">" if big_endian else "<"
    head = source.read(at, 12)
    group, element = struct.unpack_from(order + "HH", head)
    if group << 16 | element != _PIXEL_DATA:
        raise Unreadable("pixel-data-missing")
    if not explicit:
        return at + 8, struct.unpack_from(order + "I", head, 4)[0]
    if head[4:6] not in _LONG:
        raise Unreadable("malformed-dicom")
    return at + 12, struct.unpack_from(order + "I", head, 8)[0]
