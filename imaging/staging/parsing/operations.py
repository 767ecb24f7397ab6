"""What the stager can ask of a parser."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, BinaryIO

from imaging.staging.parsing import other_files
from imaging.staging.parsing.dicom import header as dicom
from imaging.staging.parsing.dicom import identity as dicom_identity
from imaging.staging.parsing.dicom import media as dicom_media
from imaging.staging.parsing.dicom import pixels as dicom_pixels
from imaging.staging.parsing.slides.opening import FOR_OPENSLIDE, TIFF_STARTS
from imaging.staging.parsing.unreadable import Unreadable

__all__ = ["Unreadable", "answer"]

_LISTS_OF_FILES = (
    b"[Virtual Microscope Specimen]",
    b"[Uncompressed Virtual Microscope Specimen]",
    b"[NanoZoomer Digital Pathology Image Set]",
    b"[GENERAL]\r\nSLIDE_",
)
"""How the file begins that lists the others of a slide: VMS, VMU, NDPIS, MIRAX."""

Answers = Iterator[tuple[bytes, bytes | memoryview]]


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
    if start[128:] != b"DICM" and start.startswith(TIFF_STARTS + FOR_OPENSLIDE):
        yield _slides().read_header(file, frozenset(request["keywords"])).model_dump_json().encode(), b""
    elif start.startswith(_LISTS_OF_FILES):
        raise Unreadable("unsupported-slide-layout")
    elif start[128:] != b"DICM" and _is_table(start, file):
        with _telling_content("malformed-table", file):
            yield _tables().read_header(file).model_dump_json().encode(), b""
    else:
        with _telling_content("not-dicom", file):
            header = dicom.read_header(file, frozenset(request["keywords"]))
        yield header.model_dump_json(exclude_defaults=False).encode(), b""


def _series(request: dict[str, Any], file: BinaryIO) -> Answers:
    """To which series an instance belongs, and nothing else of it."""
    if file.read(132)[128:] != b"DICM":
        raise Unreadable("not-dicom")  # nobody could count on finding a series in it
    file.seek(0)
    yield dicom_identity.read_series(file).model_dump_json().encode(), b""


@contextlib.contextmanager
def _telling_content(code: str, file: BinaryIO) -> Iterator[None]:
    """Adds to a refusal by ``code`` what the file is by its bytes."""
    try:
        yield
    except Unreadable as unreadable:
        if unreadable.code == code and (found := other_files.content(file)):
            raise Unreadable(code, found) from None
        raise


def _frames(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Decoded frames in the order asked, one answer each: little-endian, row-major; see ``counted_frames``."""
    for frame in dicom_pixels.counted_frames(file, [int(index) for index in request["frames"]]):
        header = {
            "shape": frame.pixels.shape,
            "dtype": frame.pixels.dtype.str,
            "clipped": frame.clipped,
            "complete": frame.complete,
        }
        yield json.dumps(header).encode(), frame.pixels.tobytes()


def _tiles(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Codestreams of a rectangle of a slide's tiles, row-major, as some answers: lengths, then the bytes."""
    for tiles in _slides().read_tiles(file, request):
        yield json.dumps({"lengths": [len(tile) for tile in tiles]}).encode(), b"".join(tiles)


def _present(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Which of a rectangle of a slide's tiles there are: a bit each, row-major, the highest of a byte first."""
    yield b"{}", _slides().read_present(file, request)


def _pixels(request: dict[str, Any], file: BinaryIO) -> Answers:
    """A box of a slide's pixels, decoded (and averaged over 2×2): (y, x, samples), and where there are none."""
    pixels, holes = _slides().read_pixels(file, request)
    header = {"shape": pixels.shape, "dtype": pixels.dtype.str, "holes": holes}
    yield json.dumps(header).encode(), memoryview(pixels).cast("B")


def _shard(request: dict[str, Any], file: BinaryIO) -> Answers:
    """All tiles of a shard of a copy, which is the whole file, as one picture (y, x, samples), averaged."""
    pixels = _slides().read_shard(file, request)
    yield json.dumps({"shape": list(pixels.shape)}).encode(), pixels.tobytes()


def _rows(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Cells of a table's columns as JSON text, some rows an answer."""
    for cells in _tables().read_rows(file, request["columns"], request["rows"]):
        yield b"{}", json.dumps(cells).encode()


def _is_table(start: bytes, file: BinaryIO) -> bool:
    if start[:4] != b"PAR1" and (b"," not in start or b"\0" in start):
        return False  # before the library is loaded for it
    beginning = file.read(1 << 16)
    file.seek(0)
    return bool(_tables().is_parquet(beginning) or _tables().is_csv(beginning))


def _tables() -> ModuleType:
    from imaging.staging.parsing import tables

    return tables


def _media(request: dict[str, Any], file: BinaryIO) -> Answers:
    """The files that a DICOMDIR refers to, as JSON: a list of lists of components."""
    yield b"{}", json.dumps(dicom_media.referenced_files(file)).encode()


def _slides() -> ModuleType:
    """Loaded when the first slide comes: an archive of series alone starts its parsers sooner."""
    from imaging.staging.parsing.slides import reading

    return reading


def _text(request: dict[str, Any], file: BinaryIO) -> Answers:
    """Where frames show text: a list of boxes [y0, x0, y1, x1] a frame, in the order asked."""
    from imaging.staging.parsing import text  # needs an optional detector, and only where a grant wants it

    boxes = text.find(file, [int(index) for index in request["frames"]])
    yield json.dumps({"boxes": [[list(map(int, box)) for box in found] for found in boxes]}).encode(), b""


_OPERATIONS: dict[str, Callable[[dict[str, Any], BinaryIO], Answers]] = {
    "header": _header,
    "series": _series,
    "frames": _frames,
    "tiles": _tiles,
    "present": _present,
    "pixels": _pixels,
    "shard": _shard,
    "rows": _rows,
    "media": _media,
    "text": _text,
}
