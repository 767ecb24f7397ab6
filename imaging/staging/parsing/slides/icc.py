"""An ICC profile reduced to what colours need (ICC.1:2022 7, 9): its tags of text stay behind."""

from __future__ import annotations

import base64
import struct
from typing import Any

MAX_BYTES = 128 << 10
_TAGS = frozenset(
    {
        b"wtpt", b"bkpt", b"chad", b"rXYZ", b"gXYZ", b"bXYZ", b"kTRC", b"rTRC", b"gTRC", b"bTRC",
        b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2",
    }
)  # fmt: skip
_TYPES = frozenset({b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA "})
_SPACES = frozenset({b"RGB ", b"GRAY"})
_CLASSES = frozenset({b"scnr", b"mntr", b"spac"})
_CONNECTION = frozenset({b"XYZ ", b"Lab "})
_HEADER = 128


def reduced(raw: Any) -> str:
    """The profile less dates, makers, models and texts, base64; "" where there is none that could be kept.

    Tags are an allow-list of numbers (white point, primaries, curves, tables), each of an allowed type.
    """
    data = bytes(raw) if isinstance(raw, bytes | bytearray) else b""
    if not _HEADER + 4 <= len(data) <= MAX_BYTES or data[36:40] != b"acsp":
        return ""
    device, space, connection = data[12:16], data[16:20], data[20:24]
    if device not in _CLASSES or space not in _SPACES or connection not in _CONNECTION:
        return ""
    (count,) = struct.unpack_from(">I", data, _HEADER)
    bodies: dict[bytes, bytes] = {}
    for number in range(min(count, 100)):
        entry = data[_HEADER + 4 + 12 * number : _HEADER + 16 + 12 * number]
        if len(entry) < 12:
            return ""
        name, offset, size = struct.unpack(">4sII", entry)
        body = data[offset : offset + size]
        if name in _TAGS and body[:4] in _TYPES and len(body) == size:
            bodies[name] = body
    if not bodies:
        return ""
    return base64.b64encode(_built(data, bodies)).decode("ascii")


def _built(data: bytes, bodies: dict[bytes, bytes]) -> bytes:
    table = struct.pack(">I", len(bodies))
    at = _HEADER + 4 + 12 * len(bodies)
    content = b""
    for name, body in sorted(bodies.items()):
        table += struct.pack(">4sII", name, at + len(content), len(body))
        content += body + bytes(-len(body) % 4)
    # Kept of the header: version, class, spaces, rendering intent and illuminant; the rest names software,
    # maker, model, creator and a date.
    header = bytearray(_HEADER)
    header[8:24] = data[8:24]
    header[36:40] = b"acsp"
    header[64:80] = data[64:80]
    whole = bytes(header) + table + content
    return struct.pack(">I", len(whole)) + whole[4:]
