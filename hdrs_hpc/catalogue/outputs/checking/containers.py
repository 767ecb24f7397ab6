"""PNG and JPEG taken apart by hand: only what makes pixels goes on to a decoder.

Text chunks, colour profiles, EXIF, comments and whatever stands behind the end of the image are never
given to Pillow, so its parsers for them are no attack surface.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError

_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_MAX_CHUNKS = 100_000


class MalformedImageError(ArtefactRefusedError):
    code = "malformed-image"
    meaning = "The image file is broken or is not built as its format says."
    remedy = "Write it again with a usual library, as a still PNG or JPEG."


class TrailingDataError(ArtefactRefusedError):
    code = "image-trailing-data"
    meaning = "Data stands behind the end of the image: the file could be two files at once."
    remedy = "Write the image again with a usual library; nothing may be appended to it."


class AnimatedImageError(ArtefactRefusedError):
    code = "image-animated"
    meaning = "An animation holds more images than the one that a reviewer sees."
    remedy = "Write one still image for each artefact."


@dataclass(frozen=True)
class Pixels:
    """An image file reduced to what its pixels need; ``dropped`` names what was left out, with sizes."""

    data: bytes
    width: int
    height: int
    dropped: tuple[str, ...]
    dropped_bytes: int


def reduce_png(data: bytes) -> Pixels:
    """Only IHDR, PLTE, tRNS, IDAT, IEND (PNG specification, chapter 11); raises on anything inconsistent."""
    position, kept, dropped, lost = 8, [data[:8]], [], 0
    header: bytes | None = None
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            raise MalformedImageError("the PNG ends before its last chunk")
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + size
        if end > len(data) or not kind.isalpha():
            raise MalformedImageError("a PNG chunk that does not fit the file")
        body = data[position + 8 : end - 4]
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise MalformedImageError("a PNG chunk with a wrong check sum")
        if kind in _PNG_ANIMATION:
            raise AnimatedImageError("an animated PNG")
        if (header is None) != (kind == b"IHDR"):
            raise MalformedImageError("the PNG's header is not its first and only one")
        if kind == b"IHDR":
            header = body
        if kind in _PNG_PIXELS:
            kept.append(data[position:end])
        elif kind[:1].isupper():
            raise MalformedImageError("an unknown critical PNG chunk")
        else:
            dropped.append(kind.decode("ascii"))
            lost += end - position
        position = end
        if kind == b"IEND":
            break
    if header is None or len(header) != 13:
        raise MalformedImageError("no PNG header")
    if position != len(data):
        raise TrailingDataError(f"{len(data) - position} bytes behind the end of the PNG")
    width, height = struct.unpack(">II", header[:8])
    return Pixels(b"".join(kept), width, height, tuple(dropped), lost)


def reduce_jpeg(data: bytes) -> Pixels:
    """Without application segments (but Adobe's, which says how colour is coded) and comments (T.81 annex B)."""
    position, kept, dropped, lost = 2, [data[:2]], [], 0
    width = height = 0
    for _ in range(_MAX_CHUNKS):
        if data[position : position + 1] != b"\xff":
            raise MalformedImageError("a JPEG marker is missing")
        while data[position + 1 : position + 2] == b"\xff":
            position += 1  # fill bytes
        marker = data[position + 1] if position + 1 < len(data) else 0
        if marker == 0xD9:
            kept.append(b"\xff\xd9")
            position += 2
            break
        if marker in (0x00, 0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            raise MalformedImageError("a JPEG marker out of place")
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + size
        if size < 2 or end > len(data):
            raise MalformedImageError("a JPEG segment that does not fit the file")
        segment = data[position:end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if width or len(segment) < 9:
                raise MalformedImageError("a second JPEG frame header")
            height, width = struct.unpack(">HH", segment[5:9])
        if (0xE0 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE:
            dropped.append("COM" if marker == 0xFE else f"APP{marker - 0xE0}")
            lost += len(segment)
        else:
            kept.append(segment)
        position = end
        if marker == 0xDA:
            position = _end_of_scan(data, end)
            kept.append(data[end:position])
    else:
        raise MalformedImageError("too many JPEG segments")
    if not width or not height:
        raise MalformedImageError("no JPEG frame header")
    if position != len(data):
        raise TrailingDataError(f"{len(data) - position} bytes behind the end of the JPEG")
    return Pixels(b"".join(kept), width, height, tuple(dropped), lost)


def _end_of_scan(data: bytes, start: int) -> int:
    """Where entropy-coded data ends: at a marker that is neither a stuffed zero nor a restart."""
    position = start
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise MalformedImageError("the JPEG ends inside a scan")
        following = data[position + 1]
        if following != 0 and following != 0xFF and not 0xD0 <= following <= 0xD7:
            return position
        position += 1 if following == 0xFF else 2
