"""Decoding of one inner chunk, without the interpreter's lock and no more of it than a window needs.

What is decoded is the same to the bit as what zarr's codecs give.  Two things are done that zarr does not:

- A JPEG is decoded down to the last row wanted, by stating that height in a copy of its header: entropy decoding of
  the rest, half of the work, never happens.  Only of baseline codestreams with one scan.
- Of a Blosc chunk only those of its blocks are decoded that hold a part of the box wanted (of a volume at level 1 a
  block is one slice), by making a smaller chunk out of them.

Decoders keep their buffers, one a thread: what :meth:`ChunkDecoder.decode` gives is valid until that thread's next
call.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import imagecodecs
import numpy as np
from imagecodecs.zarr import Jpeg, Jpeg2k
from numpy.typing import NDArray
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec, ZstdCodec

type Pixels = NDArray[Any]
type Stream = memoryview | bytes | bytearray


class ChunkDecoder(Protocol):
    """Thread safe; holds no data of a copy beyond its buffers."""

    interleaved: bool
    """Whether neighbours in memory are the first axis's (channels of a colour JPEG), not the last's."""

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        """The chunk in the array's axes; only the box from ``low`` to ``high`` of it holds what the chunk holds.

        Raises what imagecodecs raises (subclasses of RuntimeError, ValueError) on what is no such codestream.
        """
        ...


def decoder_of(codecs: Iterable[Codec], chunk: Sequence[int], dtype: np.dtype[Any]) -> ChunkDecoder | None:
    """For an inner chain of zarr codecs; None for a chain that is not known here."""
    chain = list(codecs)
    order = tuple(range(len(chunk)))
    if chain and isinstance(first := chain[0], TransposeCodec):
        order = tuple(first.order)
        del chain[0]
    match chain:
        case [Jpeg() as jpeg] if jpeg.header is None:
            return JpegChunks.of(jpeg, chunk, order, dtype)
        case [Jpeg2k() as jpeg2k]:
            return Jpeg2kChunks(jpeg2k, chunk, order, dtype)
        case [BytesCodec() as serializer, *rest] if len(rest) <= 1 and _as_in_memory(serializer, dtype):
            return _of_bytes(rest, chunk, order, dtype)
    return None


def _as_in_memory(serializer: BytesCodec, dtype: np.dtype[Any]) -> bool:
    """Whether the bytes need no swapping (and are numbers)."""
    if dtype.kind not in "biuf" or not dtype.isnative:
        return False
    little = np.little_endian if serializer.endian == "little" else not np.little_endian
    return dtype.itemsize == 1 or (serializer.endian is not None and little)


def _of_bytes(
    rest: list[Codec], chunk: Sequence[int], order: tuple[int, ...], dtype: np.dtype[Any]
) -> ChunkDecoder | None:
    match rest:
        case []:
            return RawChunks(chunk, order, dtype)
        case [BloscCodec()]:
            return BloscChunks(chunk, order, dtype)
        case [ZstdCodec()]:
            return ZstdChunks(chunk, order, dtype)
    return None


class _Chunks:
    """What all have: a buffer a thread in the order of the codestream, and its view in the array's axes."""

    def __init__(self, chunk: Sequence[int], order: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shape = tuple(chunk[axis] for axis in order)
        self._dtype = dtype
        self._back = tuple(int(place) for place in np.argsort(order))
        self._local = threading.local()
        self.interleaved = len(order) > 1 and order[-1] == 0

    def _buffer(self) -> tuple[Pixels, Pixels]:
        try:
            found: tuple[Pixels, Pixels] = self._local.buffer
        except AttributeError:
            whole = np.empty(self._shape, self._dtype)
            found = self._local.buffer = (self._flat(whole), whole.transpose(self._back))
        return found

    def _flat(self, whole: Pixels) -> Pixels:
        return whole.reshape(-1).view(np.uint8)


class RawChunks(_Chunks):
    """Numbers as they lie in memory."""

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        return np.frombuffer(stream, self._dtype).reshape(self._shape).transpose(self._back)


class ZstdChunks(_Chunks):
    """RFC 8878 frames of numbers."""

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        flat, view = self._buffer()
        _full(imagecodecs.zstd_decode(stream, out=flat.data), flat)
        return view


class BloscChunks(_Chunks):
    """Blosc 1 buffers of numbers, whatever compressor and shuffle they name."""

    def __init__(self, chunk: Sequence[int], order: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(chunk, order, dtype)
        self._order = order
        self._bytes = math.prod(self._shape) * dtype.itemsize
        self._strides = [math.prod(self._shape[place + 1 :]) * dtype.itemsize for place in range(len(order))]

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        flat, view = self._buffer()
        first, stop = 0, self._dtype.itemsize
        for axis, stride in zip(self._order, self._strides, strict=True):
            first += low[axis] * stride
            stop += (high[axis] - 1) * stride
        if 2 * (stop - first) <= self._bytes:
            part = blosc_part(stream, first, stop, self._bytes)
            if part is not None:
                into = flat[part.first : part.stop]
                _full(imagecodecs.blosc_decode(part.stream, numthreads=1, out=into.data), into)
                return view
        _full(imagecodecs.blosc_decode(stream, numthreads=1, out=flat.data), flat)
        return view


class JpegChunks(_Chunks):
    """JPEG (ITU-T T.81) of one plane, or of three channels interleaved."""

    def __init__(
        self, codec: Jpeg, chunk: Sequence[int], order: tuple[int, ...], plane: tuple[int, ...], rows: int
    ) -> None:
        super().__init__(chunk, order, np.dtype(np.uint8))
        self._plane = plane
        self._row_axis = rows
        options: dict[str, Any] = {
            "tables": codec.tables,
            "colorspace": codec.colorspace_jpeg,
            "outcolorspace": codec.colorspace_data,
            "fancyupsampling": codec.fancyupsampling,
        }
        self._options = {name: value for name, value in options.items() if value is not None}
        self._head: JpegHead | None = None

    @classmethod
    def of(
        cls, codec: Jpeg, chunk: Sequence[int], order: tuple[int, ...], dtype: np.dtype[Any]
    ) -> JpegChunks | None:
        coded = [axis for axis in order if chunk[axis] != 1]
        plane = tuple(chunk[axis] for axis in coded)
        if dtype != np.uint8 or not (len(plane) == 2 or (len(plane) == 3 and plane[2] == 3)):
            return None
        return cls(codec, chunk, order, plane, coded[0])

    def _flat(self, whole: Pixels) -> Pixels:
        return whole.reshape(self._plane)

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        plane, view = self._buffer()
        rows, height = high[self._row_axis], self._plane[0]
        if rows < height:
            copy = bytearray(stream)
            head = self._head
            if head is None or not copy.startswith(head.head):
                head = self._head = jpeg_head(copy)  # tiles of an array mostly have the same
            stated = head.rows_for(rows)
            if head.height == height and stated < height:
                struct.pack_into(">H", copy, head.height_at, stated)
                imagecodecs.jpeg8_decode(copy, out=plane[:stated], **self._options)
                return view
        imagecodecs.jpeg8_decode(stream, out=plane, **self._options)
        return view


class Jpeg2kChunks(_Chunks):
    """JPEG 2000 (ITU-T T.800)."""

    def __init__(
        self, codec: Jpeg2k, chunk: Sequence[int], order: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        super().__init__(chunk, order, dtype)
        self._options: dict[str, Any] = {"planar": codec.planar, "skipres": codec.skipres}

    def decode(self, stream: Stream, low: Sequence[int], high: Sequence[int]) -> Pixels:
        pixels = imagecodecs.jpeg2k_decode(stream, numthreads=1, **self._options)
        whole: Pixels = pixels.reshape(self._shape).astype(self._dtype, copy=False)
        return whole.transpose(self._back)


def _full(decoded: Stream, into: Pixels) -> None:
    if len(decoded) != into.nbytes:
        raise ValueError("a chunk holds fewer bytes than its shape")


@dataclass(frozen=True, slots=True)
class JpegHead:
    """A codestream up to its first scan's data.  ``height`` is 0 where rows can't be left out."""

    head: bytes
    height: int = 0
    height_at: int = 0
    beyond: int = 0
    """Rows below the last wanted one that it is interpolated from."""

    def rows_for(self, rows: int) -> int:
        return rows + self.beyond


def jpeg_head(stream: Stream) -> JpegHead:
    """Read the markers before the first scan.  Anything but a plain baseline picture has a height of 0."""
    at, frame = 2, JpegHead(b"")
    components = 0
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + length
        if marker in (0xC0, 0xC1) and length >= 8:  # baseline or extended, Huffman: SOF0, SOF1
            components = stream[at + 9]
            down = {stream[place] & 15 for place in range(at + 11, min(end, len(stream)), 3)}
            beyond = 2 * max(down) if len(down) > 1 else 0
            frame = JpegHead(b"", int.from_bytes(stream[at + 5 : at + 7]), at + 5, beyond)
        elif marker == 0xDA:  # SOS; one scan has all components, or more scans follow
            head = bytes(stream[:end])
            if components and stream[at + 4] == components:
                return JpegHead(head, frame.height, frame.height_at, frame.beyond)
            return JpegHead(head)
        at = end
    return JpegHead(bytes(stream))


_BLOSC = struct.Struct("<BBBBIII")
_MEMCPYED = 0x2


@dataclass(frozen=True, slots=True)
class BloscPart:
    """A Blosc buffer of which ``first`` to ``stop`` are the bytes it stands for in the whole one."""

    stream: bytes
    first: int
    stop: int


def blosc_part(stream: Stream, first: int, stop: int, nbytes: int) -> BloscPart | None:
    """The blocks of a Blosc buffer that hold bytes ``first`` to ``stop``, as a buffer of their own.

    None where that is no gain (one block, or stored without compression) or the buffer is not of ``nbytes``.
    Layout: header of 16 bytes, start of each block (u32), blocks in any order.
    """
    if len(stream) < _BLOSC.size:
        return None
    version, inner, flags, typesize, stated, block, size = _BLOSC.unpack_from(stream)
    blocks = -(-stated // block) if block else 0
    if stated != nbytes or size != len(stream) or blocks < 2 or flags & _MEMCPYED:
        return None
    head = _BLOSC.size + 4 * blocks
    if head > size:
        return None
    begin, end = first // block, -(-stop // block)
    if end == blocks and end - begin == 1 and nbytes % block:
        begin -= 1  # a buffer of less than one block is not one to Blosc
    starts = np.frombuffer(stream, "<u4", blocks, _BLOSC.size).astype(np.int64)
    bounds = np.append(np.sort(starts), size)
    ends = bounds[np.searchsorted(bounds, starts[begin:end], side="right")]
    pieces = [bytes(stream[low:high]) for low, high in zip(starts[begin:end], ends, strict=True)]
    lengths = [len(piece) for piece in pieces]
    new_head = _BLOSC.size + 4 * len(pieces)
    places = np.cumsum([new_head, *lengths[:-1]]).astype("<u4").tobytes()
    until = min(end * block, nbytes)
    header = _BLOSC.pack(
        version, inner, flags, typesize, until - begin * block, block, new_head + sum(lengths)
    )
    return BloscPart(b"".join([header, places, *pieces]), begin * block, until)
