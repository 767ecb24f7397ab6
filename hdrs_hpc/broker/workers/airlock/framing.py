"""How broker and checker process speak: one JSON header, then so many blobs.  Bounded before reading.

``u32 length ‖ strict JSON`` then for each blob ``u64 length ‖ bytes``; big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from hdrs_hpc.core import strict_json

MAX_HEADER_BYTES = 4 << 20
MAX_BLOBS = 256
MAX_BLOB_BYTES = 256 << 20


class FramingError(Exception):
    """The other side broke the framing: it crashed, or it is no checker any more."""


def pack(header: Any, blobs: Sequence[bytes]) -> bytes:
    text = strict_json.dumps(header)
    parts = [struct.pack(">I", len(text)), text]
    for blob in blobs:
        parts += [struct.pack(">Q", len(blob)), blob]
    return b"".join(parts)


def read(stream: BinaryIO, blobs_key: str) -> tuple[dict[str, Any], list[bytes]]:
    """The header and as many blobs as it has items under ``blobs_key``; nothing may follow."""
    (size,) = struct.unpack(">I", _exactly(stream, 4))
    if size > MAX_HEADER_BYTES:
        raise FramingError("a header too large")
    header = strict_json.loads(_exactly(stream, size), max_bytes=MAX_HEADER_BYTES)
    if not isinstance(header, dict) or not isinstance(header.get(blobs_key), list):
        raise FramingError("a header without its list")
    if len(header[blobs_key]) > MAX_BLOBS:
        raise FramingError("too many blobs")
    blobs = []
    for _ in header[blobs_key]:
        (size,) = struct.unpack(">Q", _exactly(stream, 8))
        if size > MAX_BLOB_BYTES:
            raise FramingError("a blob too large")
        blobs.append(_exactly(stream, size))
    if stream.read(1):
        raise FramingError("data behind the last blob")
    return header, blobs


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise FramingError("ended early")
    return data
