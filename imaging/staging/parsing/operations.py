"""What the stager can ask of a parser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, BinaryIO

from imaging.staging.parsing.dicom import header as dicom
from imaging.staging.parsing.dicom import pixels as dicom_pixels
from imaging.staging.parsing.unreadable import Unreadable

__all__ = ["Unreadable", "answer"]

Answers = Iterator[tuple[bytes, bytes]]


def answer(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Answer one request about ``file``; raises :class:`Unreadable`."""
    file.seek(0)
    return _OPERATIONS[request["op"]](request, file)


def _header(request: dict[str, Any], file: BinaryIO) -> Answers:
    """What the file is: an instance or a slide, told by its first bytes, never by its name."""
    start = file.read(132)
    file.seek(0)
    if not start:
        raise Unreadable("empty-file")
    # DICOM first: its preamble may hold a TIFF header on purpose (PS3.10 7.1).
    if start[128:] != b"DICM" and start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        yield _svs().read_header(file).model_dump_json().encode(), b""
    else:
        header = dicom.read_header(file, frozenset(request["keywords"]))
        yield header.model_dump_json(exclude_defaults=False).encode(), b""


def _frames(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Decoded frames in the order asked, one answer each: little-endian, row-major; see ``decode_frames``."""
    for pixels in dicom_pixels.decode_frames(file, [int(index) for index in request["frames"]]):
        header = {"shape": pixels.shape, "dtype": pixels.dtype.str}
        yield json.dumps(header).encode(), pixels.tobytes()


def _tiles(request: dict[str, Any], file: BinaryIO) -> Answers:
    """JPEG codestreams of a rectangle of tiles, row-major, as one answer: lengths, then the bytes."""
    tiles = _svs().read_tiles(file, int(request["page"]), tuple(request["rows"]), tuple(request["columns"]))
    lengths = [len(tile) for tile in tiles]
    yield json.dumps({"lengths": lengths}).encode(), b"".join(tiles)


def _halved(request: dict[str, Any], file: BinaryIO) -> Answers:
    """A rectangle of tiles, decoded and averaged 2×2: uint8 (y, x, 3)."""
    pixels = _svs().read_halved(file, int(request["page"]), tuple(request["rows"]), tuple(request["columns"]))
    yield json.dumps({"shape": pixels.shape, "dtype": "|u1"}).encode(), pixels.tobytes()


def _svs() -> ModuleType:
    """Loaded when the first slide comes: an archive of series alone starts its parsers sooner."""
    from imaging.staging.parsing.slides import svs

    return svs


_OPERATIONS: dict[str, Callable[[dict[str, Any], BinaryIO], Answers]] = {
    "header": _header,
    "frames": _frames,
    "tiles": _tiles,
    "halved": _halved,
}
