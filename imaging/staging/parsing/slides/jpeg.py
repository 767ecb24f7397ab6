"""JPEG tiles of a slide as self-contained codestreams, the entropy-coded bytes untouched (ITU-T T.81)."""

from __future__ import annotations

import struct

from imaging.staging.parsing.unreadable import Unreadable

_SOI, _EOI, _SOS, _APP14 = 0xD8, 0xD9, 0xDA, 0xEE
_KEPT = frozenset({0xDB, 0xC4, 0xDD})  # DQT, DHT, DRI
_SOF = frozenset({0xC0, 0xC1})  # baseline and extended sequential, Huffman
_HEADER_LIMIT = 1 << 16


def complete_tile(tile: bytes, tables: bytes, *, rgb: bool, width: int, height: int) -> bytes:
    """Join an abbreviated tile with the page's tables into a codestream that every decoder reads alike.

    Kept: quantisation and Huffman tables, frame and scan header, restart interval, the scan up to its EOI.
    Dropped: every APPn and comment segment and all bytes behind EOI, where writers put free text.  Added: an
    Adobe APP14 segment that says RGB or YCbCr, without which decoders guess.
    Raises :class:`Unreadable`.
    """
    shared = _segments(tables)[0] if tables else []
    own, scan = _segments(tile)
    if scan is None:
        raise Unreadable("truncated-tile")
    frame = [body for marker, body in own if marker in _SOF]
    if len(frame) != 1 or any(marker not in _SOF | _KEPT for marker, _ in own if 0xC0 <= marker <= 0xDD):
        raise Unreadable("unsupported-slide")  # progressive, arithmetic, lossless: not for pass-through
    _check_frame(frame[0], width, height)
    out = bytearray(b"\xff\xd8")
    out += b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0 if rgb else 1)
    for marker, body in shared:
        if marker in _KEPT:
            out += _segment(marker, body)
    for marker, body in own:
        if marker in _KEPT or marker in _SOF:
            out += _segment(marker, body)
    return bytes(out + scan)


def _check_frame(body: bytes, width: int, height: int) -> None:
    if len(body) < 6:
        raise Unreadable("truncated-tile")
    precision, lines, samples, components = struct.unpack(">BHHB", body[:6])
    if (precision, lines, samples, components) != (8, height, width, 3):
        raise Unreadable("unsupported-slide")


def _segments(stream: bytes) -> tuple[list[tuple[int, bytes]], bytes | None]:
    """Header segments (marker, body), and the scan from SOS to EOI if there is one."""
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
            # In entropy-coded data 0xFF is always followed by 0x00 or RSTn, so the first FF D9 is the end.
            end = stream.find(b"\xff\xd9", at + 2 + length)
            if end < 0:
                raise Unreadable("truncated-tile")
            return found, stream[at : end + 2]
        found.append((marker, stream[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, None


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
