"""JPEG, JPEG-LS and JPEG 2000 codestreams without the segments in which text travels (comments, EXIF).

Only the header before the first scan or tile is rewritten; samples are not touched, so every decoder gives the
same pixels.
"""

from __future__ import annotations

from collections.abc import Callable

_SOI = b"\xff\xd8"
_J2K = b"\xff\x4f\xff\x51"
_SOS, _COM, _SOT, _J2K_COM = 0xDA, 0xFE, 0x90, 0x64
# What decoders read the colours from: JFIF, SPIFF (JPEG-LS), the colour profile, Adobe's transform.
_COLOUR_SEGMENTS = {0xE0: b"JFIF\0", 0xE8: b"SPIFF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}


def without_comments(stream: bytes) -> bytes:
    """The same picture with nothing said beside it; ``stream`` itself if there is nothing to take out.

    A stream that is not well formed up to its first scan or tile is given back as it is.
    """
    if stream.startswith(_SOI):
        return _filtered(stream, 2, _SOS, _is_needed_by_jpeg)
    if stream.startswith(_J2K):
        return _filtered(stream, 2, _SOT, _is_needed_by_j2k)
    return stream


def _filtered(stream: bytes, at: int, last: int, is_needed: Callable[[int, bytes], bool]) -> bytes:
    kept = [stream[:at]]
    dropped = False
    while True:
        # Fill bytes may stand before a marker (ITU-T T.81 B.1.1.2).
        while stream[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(stream) or stream[at] != 0xFF:
            return stream
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == last:
            kept.append(stream[at:])
            break
        end = at + 2 + length
        if length < 2 or end > len(stream):
            return stream
        if is_needed(marker, stream[at + 4 : end]):
            kept.append(stream[at:end])
        else:
            dropped = True
        at = end
    return b"".join(kept) if dropped else stream


def _is_needed_by_jpeg(marker: int, body: bytes) -> bool:
    if 0xE0 <= marker <= 0xEF:
        mark = _COLOUR_SEGMENTS.get(marker)
        return mark is not None and body.startswith(mark)
    return marker != _COM


def _is_needed_by_j2k(marker: int, body: bytes) -> bool:
    return marker != _J2K_COM
