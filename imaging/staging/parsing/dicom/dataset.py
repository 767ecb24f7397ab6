"""A DICOM dataset up to its pixels, from any file that holds one: with or without preamble and file meta, in
whatever encoding the bytes are, whatever the file meta says of it (PS3.10 7.1, PS3.5 A)."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import pydicom
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from imaging import unknown_vr
from imaging.staging.parsing.dicom.plain import Plain, read_plain
from imaging.staging.parsing.dicom.values import MALFORMED
from imaging.staging.parsing.unreadable import Unreadable

# Broken files make pydicom warn with their contents.
warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
unknown_vr.register()

INFLATED_LIMIT = 1 << 30
"""Bytes that a deflated dataset may grow to."""
PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_WHOLE = 64 << 10
"""Files up to this size are read at once."""
_EMPTY = bytes(8)
_MAX_EMPTY = 1000
_CLIP = 1 << 20
_MAX_ELEMENTS = 50_000
"""At the top of a dataset: a wrong length makes pixels look like millions of elements."""
_META_LIMIT = 1 << 20
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixels lie in :attr:`Opened.stream`."""

    keyword: str
    vr: str
    start: int
    """Of the element: its tag."""
    offset: int
    """Of its value."""
    length: int | None
    """None: undefined, hence encapsulated."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A dataset read up to its pixels."""

    dataset: Dataset
    syntax: UID
    media_class: str
    """Media Storage SOP Class UID of the file meta; "" where absent, as the next."""
    media_instance: str
    big_endian: bool
    pixels: PixelElement | None
    stream: BinaryIO
    """The file, or the inflated dataset: what ``pixels.offset`` counts in."""
    size: int
    """Bytes of ``stream``."""
    packed: int
    """Bytes of the file: fewer, where it was deflated."""
    plain: Plain | None = None
    """How it was read, if it was: for :func:`~imaging.staging.parsing.dicom.plain.remember`."""


class _Clipped(io.BufferedReader):
    """Reads no more than there is: a length of 4 GB in a broken element must not ask for 4 GB of memory.

    Reading ends at a run of zeros taken for elements: a wrong length has led into black pixels, where pydicom
    would find millions of empty elements.
    """

    def __init__(self, raw: io.FileIO | io.BytesIO, size: int) -> None:
        super().__init__(raw, _WHOLE)
        self._size = size
        self._empty = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _CLIP:
            size = max(0, min(size, self._size - self.tell()))
        data = super().read(size)
        if size == 8:
            self._empty = self._empty + 1 if data == _EMPTY else 0
            if self._empty > _MAX_EMPTY:
                raise ValueError("zeros where elements should be")
        return data


def open_dataset(file: BinaryIO) -> Opened:
    """Read up to the pixels; raises :class:`Unreadable` with ``not-dicom`` or ``malformed-dicom``."""
    stream, size = _readable(file)
    packed = size
    prefixed = False
    try:
        # Nearly always all that is wanted, at one go.
        stream.seek(0)
        head = stream.read(_WHOLE)
        prefixed = head[128:132] == b"DICM"
        begin = 132 if prefixed else _start(head)
        beginning = io.BytesIO(head)
        beginning.seek(begin)
        meta = _meta(beginning)
        stream.seek(beginning.tell())
        if beginning.tell() + 8 > len(head) and size > len(head):
            stream.seek(begin)
            meta = _meta(stream)
        declared = meta[0x00020010]
        if declared == uid.DeflatedExplicitVRLittleEndian:
            stream, size = _inflated(stream)
        implicit, big_endian = _encoding(stream, declared)
        if not implicit and not big_endian and declared != uid.DeflatedExplicitVRLittleEndian:
            plain = read_plain(head, stream.tell(), frozenset(PIXELS), _MAX_ELEMENTS)
            if plain is not None:
                return _plainly(stream, size, packed, meta, plain)
        return _read(stream, size, packed, meta, implicit, big_endian)
    except MALFORMED:
        raise Unreadable("malformed-dicom" if prefixed else "not-dicom") from None


def _read(
    stream: BinaryIO, size: int, packed: int, meta: dict[int, str], implicit: bool, big_endian: bool
) -> Opened:
    stopped: list[tuple[str, str, int]] = []
    elements = 0

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal elements
        elements += 1
        if elements > _MAX_ELEMENTS:
            raise ValueError("more elements than any dataset has")
        keyword = PIXELS.get(tag)
        if keyword is None:
            return False
        stopped.append((keyword, vr or "", length))
        return True

    dataset = read_dataset(stream, implicit, not big_endian, stop_when=at_pixels)
    tags = list(dataset.keys())
    # The first elements of any dataset are of groups 0004 to 0010; random bytes make others.
    if not stopped and not any(0x00040000 <= tag < 0x00110000 for tag in tags):
        raise ValueError("no dataset")
    if not stopped and _is_torn(dataset, size):
        raise EOFError
    dataset.set_original_encoding(implicit, not big_endian, dataset._character_set)
    pixels = None
    if stopped:
        keyword, vr, length = stopped[-1]
        start = stream.tell()
        offset = start + (12 if vr.encode() in _LONG else 8)
        pixels = PixelElement(keyword, vr, start, offset, None if length == 0xFFFFFFFF else length)
    syntax = _syntax(meta[0x00020010], implicit, big_endian)
    return Opened(
        dataset, syntax, meta[0x00020002], meta[0x00020003], big_endian, pixels, stream, size, packed
    )


def _plainly(stream: BinaryIO, size: int, packed: int, meta: dict[int, str], plain: Plain) -> Opened:
    """What :func:`_read` would give."""
    if not any(0x00040000 <= tag < 0x00110000 for _, tag, _ in plain.turns):
        raise ValueError("no dataset")
    dataset = plain.dataset()
    dataset.set_original_encoding(False, True, dataset._character_set)
    offset = plain.start + (12 if plain.vr.encode() in _LONG else 8)
    length = None if plain.length == 0xFFFFFFFF else plain.length
    pixels = PixelElement(PIXELS[plain.stop], plain.vr, plain.start, offset, length)
    syntax = _syntax(meta[0x00020010], False, False)
    return Opened(
        dataset, syntax, meta[0x00020002], meta[0x00020003], False, pixels, stream, size, packed, plain
    )


def _is_torn(dataset: Dataset, size: int) -> bool:
    """Whether the file ends within its last element, or within the head of the next."""
    last = dataset.get_item(max(list(dataset.keys())))
    if not isinstance(last, RawDataElement) or last.length == 0xFFFFFFFF:
        return False
    left = size - last.value_tell - last.length
    return left < 0 or 0 < left < 12


def _syntax(declared: str, implicit: bool, big_endian: bool) -> UID:
    """The declared transfer syntax if it says more than the bytes do, else what the bytes are."""
    if declared not in ("", uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        return UID(declared)
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRBigEndian if big_endian else uid.ExplicitVRLittleEndian


def _readable(file: BinaryIO) -> tuple[BinaryIO, int]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= _WHOLE:
        return io.BytesIO(file.read()), size
    # A copy of what lies in memory (it shares the bytes), since a buffered reader closes what it reads.
    raw = (
        io.BytesIO(file.getvalue())
        if isinstance(file, io.BytesIO)
        else io.FileIO(file.fileno(), closefd=False)
    )
    return _Clipped(raw, size), size


def _start(head: bytes) -> int:
    """Where a file without prefix begins: at once, or behind a preamble whose prefix was forgotten."""
    head = head[:136]
    for start in (0, 128):
        if len(head) < start + 8:
            break
        group, element = struct.unpack_from("<HH", head, start)
        if group == 0 and head[start + 4 : start + 8] in (b"\4\0\0\0", b"UL\4\0"):
            return start  # a command set begins with its length
        if group in (2, 8) and element <= 0x1000:
            return start
        if group in (0x0200, 0x0800) and head[start + 4 : start + 6].isalpha():
            return start
    raise ValueError("no element")


def _meta(stream: BinaryIO) -> dict[int, str]:
    """Transfer syntax, media class and instance by tag from the file meta, which ends where group 0002 does,
    whatever its declared length; "" where absent.  A command set (group 0000) is passed over."""
    found = {0x00020002: "", 0x00020003: "", 0x00020010: ""}
    while True:
        start = stream.tell()
        head = stream.read(8)
        if len(head) < 8:
            stream.seek(start)
            break
        group, element = struct.unpack_from("<HH", head)
        if group not in (0, 2) or head == bytes(8):
            stream.seek(start)
            break
        vr = head[4:6]
        if vr in _LONG:
            (length,) = struct.unpack("<L", stream.read(4))
        elif vr.isalpha() and vr.isupper():
            (length,) = struct.unpack_from("<H", head, 6)
        else:
            (length,) = struct.unpack_from("<L", head, 4)
        if length > _META_LIMIT:
            raise ValueError("an element of the file meta longer than any")
        content = stream.read(length)
        if group == 2 and group << 16 | element in found:
            found[group << 16 | element] = content.decode("latin-1").strip(" \0")[:64]
    return found


def _encoding(stream: BinaryIO, declared: str) -> tuple[bool, bool]:
    """(implicit VR, big-endian) as the first element's bytes show; what is declared is often wrong."""
    start = stream.tell()
    head = stream.read(8)
    stream.seek(start)
    if len(head) < 8:
        raise EOFError
    little, big = struct.unpack_from("<H", head)[0], struct.unpack_from(">H", head)[0]
    # A dataset begins with a low group (0008): the byte order that reads it lower is the right one.
    big_endian = big < little if little != big else declared == uid.ExplicitVRBigEndian
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return not explicit, big_endian


def _inflated(stream: BinaryIO) -> tuple[BinaryIO, int]:
    """The dataset of a deflated file (PS3.5 A.5), raw or (non-conformant) in a zlib wrapper."""
    packed = stream.read()
    for window in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
        inflater = zlib.decompressobj(window)
        try:
            unpacked = inflater.decompress(packed, INFLATED_LIMIT)
        except zlib.error:
            continue
        if inflater.unconsumed_tail:
            raise Unreadable("too-large")
        if not inflater.eof:
            raise Unreadable("truncated-pixel-data")
        return io.BytesIO(unpacked), len(unpacked)
    raise Unreadable("malformed-dicom")
