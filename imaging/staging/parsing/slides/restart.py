"""One large JPEG with restart intervals, cut into tiles that stand alone (ITU-T T.81 B.2.4.4, E.1.4).

Between restart markers the entropy coder starts anew, so intervals can be put together in another order: a tile
is some rows of intervals, one or some intervals wide.  Its bytes are those of the file but for the numbers in
the restart markers.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.parsing.slides.jpeg import Color, quality, segment, segments
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import decode_jpeg
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import LevelHeader

_HEADER_BYTES = 1 << 17
_KEPT = frozenset({0xDB, 0xC4, 0xDD})
_SOF = frozenset({0xC0, 0xC1})
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FOREIGN = re.compile(rb"\xff[^\x00\xff]")
_NARROW, _WIDE = 128, 8192
_TILE_PIXELS = 512 * 1024
_BLOCK = 16 << 20


class RestartGrid:
    """A baseline JPEG image at ``offset`` in the file as a grid of tiles, each a whole number of intervals."""

    samples = 3
    dtype = np.dtype(np.uint8)
    fill = 255

    def __init__(
        self,
        source: Source,
        offset: int,
        length: int,
        size: tuple[int, int],
        starts: NDArray[np.int64] | None,
    ) -> None:
        """``size``: (height, width), which the codestream can't say above 65,535.  ``starts``: where each
        interval begins, from ``offset``; found by looking for restart markers if the file has no such list.

        Raises :class:`Unreadable`; ``unsupported-slide`` if the intervals don't end with the rows.
        """
        self.source = source
        self.height, self.width = size
        self._offset = offset
        head = source.read(offset, min(length, _HEADER_BYTES))
        found, at = segments(head)
        if at is None:
            raise Unreadable("truncated-tile")
        frames = [body for marker, body in found if marker in _SOF]
        if len(frames) != 1 or any(
            0xC0 <= marker <= 0xDF and marker not in _SOF | _KEPT for marker, _ in found
        ):
            raise Unreadable("unsupported-slide")
        self._frame = frames[0]
        precision, _, _, components = struct.unpack_from(">BHHB", self._frame)
        if precision != 8 or components != 3 or len(self._frame) < 15 or head[at + 4] != components:
            raise Unreadable("unsupported-slide")
        self._tables = [(marker, body) for marker, body in found if marker in _KEPT - {0xDD}]
        (scan_length,) = struct.unpack_from(">H", head, at + 2)
        self._scan = head[at : at + 2 + scan_length]
        self._color = guessed_color(found, self._frame)
        factors = [self._frame[7 + 3 * number] for number in range(components)]
        mcu_wide = 8 * max(factor >> 4 for factor in factors)
        mcu_high = 8 * max(factor & 15 for factor in factors)
        across = -(-self.width // mcu_wide)
        intervals = [
            struct.unpack(">H", body)[0] for marker, body in found if marker == 0xDD and len(body) == 2
        ]
        self._interval = intervals[-1] if intervals and intervals[-1] else 0
        if not self._interval or across % self._interval:
            raise Unreadable("unsupported-slide")
        self._columns, self._rows = across // self._interval, -(-self.height // mcu_high)
        self._starts = self._checked(starts, at + 2 + scan_length, length)
        wide = self._interval * mcu_wide
        if wide > _WIDE:
            raise Unreadable("unsupported-slide")
        # One interval wide where that is sensible: chroma is upsampled across intervals in a wider tile, which
        # other readers of the format do not do.
        self._each_column = max(1, -(-_NARROW // wide))
        high = 256
        while high > mcu_high and high * wide * self._each_column > _TILE_PIXELS:
            high //= 2
        self._each_row = max(1, high // mcu_high)
        self.tile = (self._each_row * mcu_high, self._each_column * wide)
        self._room = np.empty((*self.tile, self.samples), dtype=np.uint8)

    def level(self) -> LevelHeader:
        return LevelHeader(
            width=self.width,
            height=self.height,
            tile_width=self.tile[1],
            tile_height=self.tile[0],
            encoding="jpeg",
            quality=quality(self._tables),
        )

    def has_any(self) -> bool:
        return True

    def has(self, row: int, column: int) -> bool:
        return True  # an image without one of its intervals is broken

    def codestream(self, row: int, column: int) -> bytes:
        """A tile; at the right and lower edge it is filled up by repeating the last interval."""
        parts = []
        for down in range(self._each_row):
            line = min(row * self._each_row + down, self._rows - 1)
            for across in range(self._each_column):
                place = min(column * self._each_column + across, self._columns - 1)
                parts.append(self._data(line * self._columns + place))
        out = bytearray(b"\xff\xd8")
        transform = 0 if self._color == "rgb" else 1
        out += segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))
        for marker, body in self._tables:
            out += segment(marker, body)
        out += segment(0xC0, self._frame[:1] + struct.pack(">HH", *self.tile) + self._frame[5:])
        out += segment(0xDD, struct.pack(">H", self._interval))
        out += self._scan
        for number, part in enumerate(parts):
            if number:
                out += bytes((0xFF, 0xD0 + (number - 1) % 8))
            out += part
        return bytes(out + b"\xff\xd9")

    def decoded(self, row: int, column: int) -> NDArray[Any] | None:
        return decode_jpeg(self.codestream(row, column), self._room)

    def _data(self, number: int) -> bytes:
        """Entropy-coded bytes of an interval, without the marker that ends it."""
        start, end = int(self._starts[number]), int(self._starts[number + 1])
        raw = self.source.read(self._offset + start, end - start)
        marker = _FOREIGN.search(raw)
        if marker is None or not (0xD0 <= raw[marker.start() + 1] <= 0xD9):
            raise Unreadable("truncated-tile")
        last = number == len(self._starts) - 2
        if marker.end() != len(raw) and not last:
            raise Unreadable("truncated-tile")
        return raw[: marker.start()]

    def _checked(self, starts: NDArray[np.int64] | None, first: int, length: int) -> NDArray[np.int64]:
        """Where intervals begin, and where the last one ends."""
        count = self._rows * self._columns
        if starts is None or len(starts) != count:
            starts = self._searched(first, length, count)
        starts = np.append(starts, length)
        steps = np.diff(starts)
        if starts[0] < first or (steps <= 0).any() or int(steps.max()) > _BLOCK:
            raise Unreadable("malformed-slide")
        return starts

    def _searched(self, first: int, length: int, count: int) -> NDArray[np.int64]:
        found = [first]
        at = first
        while at < length:
            block = self.source.read(self._offset + at, min(_BLOCK, length - at))
            found += [at + match.end() for match in _RESTART.finditer(block)]
            if len(found) > count or len(block) < 2:
                break
            # A marker may lie across two blocks.
            at += len(block) - (1 if at + len(block) < length else 0)
        if len(found) != count:
            raise Unreadable("truncated-tile")
        return np.asarray(found, dtype=np.int64)


def guessed_color(found: list[tuple[int, bytes]], frame: bytes) -> Color:
    """The colour space by the rule of the reference decoder, where nothing outside the codestream says it."""
    for marker, body in found:
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            return "ycbcr" if body[11] else "rgb"
    jfif = any(marker == 0xE0 and body[:5] == b"JFIF\0" for marker, body in found)
    names = bytes(frame[6 + 3 * number] for number in range(3))
    return "rgb" if names == b"RGB" and not jfif else "ycbcr"
