"""JPEG tiles of a slide as self-contained codestreams, the entropy-coded bytes untouched (ITU-T T.81)."""

from __future__ import annotations

import re
import struct
from typing import Literal

from imaging.staging.parsing.unreadable import Unreadable

_SOI, _EOI, _SOS, _APP14 = 0xD8, 0xD9, 0xDA, 0xEE
_KEPT = frozenset({0xDB, 0xC4, 0xDD})  # DQT, DHT, DRI
_SOF = frozenset({0xC0, 0xC1})  # baseline and extended sequential, Huffman
_HEADER_LIMIT = 1 << 16
_LUMINANCE_SUM = 3688
"""Of the table in T.81 K.1, which the usual encoders take for quality 50 and scale for others."""
# In entropy-coded data 0xFF is always followed by 0x00, a fill byte or RSTn: anything else ends the scan.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

Color = Literal["gray", "rgb", "ycbcr"]


class TileCompleter:
    """Joins the abbreviated tiles of one page with its tables into codestreams that every decoder reads alike.

    Kept: quantisation and Huffman tables, frame and scan header, restart interval, the scan up to its EOI.
    Dropped: every APPn and comment segment and all bytes behind EOI, where writers put free text.  Added: for
    colour, an Adobe APP14 segment that says RGB or YCbCr, without which decoders guess.
    """

    def __init__(
        self, tables: bytes, color: Color, *, width: int, height: int, trust_adobe: bool = False
    ) -> None:
        """``tables``: of the page, or b"".  ``trust_adobe``: a tile's own APP14 overrules ``color``."""
        self._tables = tables
        self._color: Color = color
        self._size = (width, height)
        self._trust_adobe = trust_adobe
        self._head: tuple[bytes, bytes] | None = None
        """The header of the last tile, and what it became: tiles of a page mostly share it."""

    def complete(self, tile: bytes) -> bytes:
        """The tile's codestream.  Raises :class:`Unreadable`: ``truncated-tile`` or ``unsupported-slide``."""
        known = self._head
        if known is not None and tile.startswith(known[0]):
            original, made = known
        else:
            original, made = self._new_head(tile)
            self._head = (original, made)
        return made + _scan(tile, len(original))

    def _new_head(self, tile: bytes) -> tuple[bytes, bytes]:
        shared = segments(self._tables)[0] if self._tables else []
        own, at = segments(tile)
        if at is None:
            raise Unreadable("truncated-tile")
        frame = [body for marker, body in own if marker in _SOF]
        # Progressive, arithmetic, lossless: not for pass-through.
        if len(frame) != 1 or any(marker not in _SOF | _KEPT for marker, _ in own if 0xC0 <= marker <= 0xDF):
            raise Unreadable("unsupported-slide")
        self._check_frame(frame[0])
        (length,) = struct.unpack_from(">H", tile, at + 2)
        if tile[at + 4] != frame[0][5]:
            raise Unreadable("unsupported-slide")  # one scan a component
        out = bytearray(b"\xff\xd8")
        if self._color != "gray":
            transform = 0 if self._color_of(own) == "rgb" else 1
            out += b"\xff\xee" + struct.pack(">H", 14) + b"Adobe"
            out += struct.pack(">HHHB", 100, 0, 0, transform)
        for marker, body in shared:
            if marker in _KEPT:
                out += segment(marker, body)
        for marker, body in own:
            if marker in _KEPT or marker in _SOF:
                out += segment(marker, body)
        out += tile[at : at + 2 + length]
        return tile[: at + 2 + length], bytes(out)

    def _color_of(self, own: list[tuple[int, bytes]]) -> Color:
        if self._trust_adobe:
            for marker, body in own:
                if marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
                    return "ycbcr" if body[11] else "rgb"
        return self._color

    def _check_frame(self, body: bytes) -> None:
        components = 1 if self._color == "gray" else 3
        if len(body) < 6 + 3 * components:
            raise Unreadable("truncated-tile")
        precision, lines, samples, found = struct.unpack(">BHHB", body[:6])
        if (precision, samples, lines, found) != (8, *self._size, components):
            raise Unreadable("unsupported-slide")


def _scan(tile: bytes, start: int) -> bytes:
    """Entropy-coded data from ``start``, with its EOI and nothing after it."""
    end = _MARKER.search(tile, start)
    if end is None:
        raise Unreadable("truncated-tile")
    if tile[end.start() + 1] != _EOI:
        raise Unreadable("truncated-tile" if end.end() == len(tile) else "unsupported-slide")
    return tile[start : end.end()]


def segments(stream: bytes) -> tuple[list[tuple[int, bytes]], int | None]:
    """Header segments (marker, body), and where SOS is if there is one; raises :class:`Unreadable`."""
    if stream[:2] != b"\xff\xd8":
        raise Unreadable("truncated-tile")
    found: list[tuple[int, bytes]] = []
    at = 2
    while at + 2 <= len(stream):
        if stream[at] != 0xFF:
            raise Unreadable("truncated-tile")
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _EOI:
            return found, None
        if at + 4 > len(stream) or at > _HEADER_LIMIT:
            raise Unreadable("truncated-tile")
        (length,) = struct.unpack_from(">H", stream, at + 2)
        if length < 2 or at + 2 + length > len(stream):
            raise Unreadable("truncated-tile")
        if marker == _SOS:
            if length < 3:
                raise Unreadable("truncated-tile")
            return found, at
        found.append((marker, stream[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, None


def quality(found: list[tuple[int, bytes]]) -> int | None:
    """1 to 100 by the scale of the usual encoders (IJG), from the sum of the luminance table among header segments;
    None where there is none."""
    for marker, body in found:
        if marker == 0xDB and len(body) >= 65 and body[0] == 0:
            scale = max(1, sum(body[1:65])) / _LUMINANCE_SUM
            return max(1, min(100, round(100 - 50 * scale if scale <= 1 else 50 / scale)))
    return None


def segment(marker: int, body: bytes) -> bytes:
    """A marker segment with its length."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
