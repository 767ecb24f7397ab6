"""One compressed frame → samples, by the decoder its transfer syntax has.

Arrays come back (rows, columns) or (rows, columns, samples) as the codestream holds them, before anything the
header says of bits, signs and colour; :class:`Decoded` tells what the codestream itself says of these.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from rle.rle import decode_segment

from imaging.staging.parsing.dicom.pixel_format import PixelFormat
from imaging.staging.parsing.unreadable import Unreadable

Colour = Literal["rgb", "ybr", ""]


@dataclass(frozen=True, slots=True)
class Decoded:
    """``samples`` with what the codestream tells."""

    samples: NDArray[Any]
    precision: int
    """Bits of a sample."""
    colour: Colour
    """What three samples are, where the codestream tells: else Photometric Interpretation does."""
    lossy: bool | None = False
    """Whether values may differ from those that were compressed; None: the codestream does not tell."""


def decode(decoder: str, data: bytes, form: PixelFormat) -> Decoded:
    """Decode one frame; raises :class:`Unreadable` where it isn't of the size the header promises.

    The size is read from the codestream before any decoder is let loose on it.
    """
    try:
        return _DECODERS[decoder](data, form)
    except _FAILURES:
        raise Unreadable("decode-failed") from None


_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error)
"""Every codec of imagecodecs raises a subclass of RuntimeError."""


# JPEG (ISO 10918-1), all processes that libjpeg-turbo 3 knows


@dataclass(frozen=True, slots=True)
class JpegInfo:
    """What a JPEG codestream's markers say."""

    process: int
    """Second byte of the start-of-frame marker: C0 and C1 sequential, C2 progressive, C3 lossless, F7 JPEG-LS."""
    precision: int
    rows: int
    columns: int
    components: tuple[tuple[int, int], ...]
    """(identifier, sampling factors) of each."""
    adobe: int | None
    """Transform of the Adobe APP14 segment."""
    jfif: bool

    @property
    def lossy(self) -> bool:
        """Of a JPEG process: whether it is one of discrete cosines."""
        return self.process not in _LOSSLESS


def jpeg_info(data: bytes) -> JpegInfo:
    """Markers up to the frame's; raises ValueError where there are none."""
    at, adobe, jfif = 2, None, False
    if data[:2] != b"\xff\xd8":
        raise ValueError("no SOI")
    while True:
        while data[at] != 0xFF:
            raise ValueError("no marker")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        segment = data[at + 2 : at + length]
        if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker == 0xE0 and segment[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, count = struct.unpack_from(">BHHB", segment)
            components = tuple((segment[6 + 3 * n], segment[7 + 3 * n]) for n in range(count))
            return JpegInfo(marker, precision, rows, columns, components, adobe, jfif)
        elif marker in (0xD9, 0xDA):
            raise ValueError("no frame header")
        at += length


_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)


def _jpeg(data: bytes, form: PixelFormat) -> Decoded:
    info = jpeg_info(data)
    # Rows may be 0: a DNL marker tells them later; the decoder checks.
    if (
        info.columns != form.columns
        or info.rows not in (0, form.rows)
        or len(info.components) != form.samples
    ):
        raise Unreadable("decode-failed")
    if form.samples == 1:
        return Decoded(_sized(_jpeg_samples(data, info), form), info.precision, "", info.lossy)
    if not info.lossy:
        return Decoded(_sized(_jpeg_samples(data, info), form), info.precision, "")
    colour = "RGB" if _is_rgb(info, form) else "YCBCR"
    samples = imagecodecs.jpeg8_decode(data, colorspace=colour, outcolorspace="RGB")
    return Decoded(_sized(samples, form), info.precision, "rgb", True)


def _jpeg_samples(data: bytes, info: JpegInfo) -> NDArray[Any]:
    try:
        samples: NDArray[Any] = imagecodecs.jpeg8_decode(data)
    except RuntimeError:
        if info.lossy:
            raise
        # Second choice for lossless codestreams: takes table and restart oddities that libjpeg-turbo refuses.
        samples = np.ascontiguousarray(imagecodecs.jpegsof3_decode(data))
    return samples


def _is_rgb(info: JpegInfo, form: PixelFormat) -> bool:
    """Whether three components are RGB.  The codestream's own word goes before the header's: headers are
    changed by systems that do not look inside."""
    if info.adobe in (0, 1):
        return info.adobe == 0
    if bytes(identifier for identifier, _ in info.components) == b"RGB":
        return True
    if info.jfif or len({factors for _, factors in info.components}) > 1:
        return False
    return form.photometric == "RGB"


# JPEG-LS (ISO 14495-1)


def _jpeg_ls(data: bytes, form: PixelFormat) -> Decoded:
    info = jpeg_info(data)
    if info.process != 0xF7 or (info.rows, info.columns) != (form.rows, form.columns):
        raise Unreadable("decode-failed")
    return Decoded(_sized(imagecodecs.jpegls_decode(data), form), info.precision, "", _near(data) > 0)


def _near(data: bytes) -> int:
    """The largest error that any scan allows (NEAR, ISO 14495-1 C.2.3); 0 is lossless.  A scan's header is found by
    its marker alone: within coded data no byte above 7F follows FF."""
    most, at = 0, data.find(b"\xff\xda")
    while at >= 0:
        most = max(most, data[at + 5 + 2 * data[at + 4]])
        at = data.find(b"\xff\xda", at + 2)
    return most


# JPEG 2000 (ISO 15444-1, -2, -15)


@dataclass(frozen=True, slots=True)
class Jpeg2000Info:
    """What the SIZ and COD segments of a codestream say."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    reversible: bool
    """Whether the wavelet is the 5/3 one, which loses nothing unless the codestream was cut to a size."""
    transformed: bool
    """Whether a multiple component transform was applied: then the decoder gives RGB."""
    subsampled: bool

    @property
    def lossy(self) -> bool | None:
        """A reversible codestream does not say whether passes were left out of it."""
        return None if self.reversible else True


def jpeg_2000_info(data: bytes) -> Jpeg2000Info:
    """The main header of a codestream, bare or inside a JP2 file; raises ValueError where there is none."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if start < 0:
        raise ValueError("no SOC")
    x1, y1, x0, y0 = struct.unpack_from(">4L", data, start + 8)
    (count,) = struct.unpack_from(">H", data, start + 40)
    depths = [data[start + 42 + 3 * number] for number in range(count)]
    steps = {data[start + 43 + 3 * n : start + 45 + 3 * n] for n in range(count)}
    if not depths or len(set(depths)) != 1:
        raise ValueError("components of different depth")
    at = start + 4 + struct.unpack_from(">H", data, start + 4)[0]
    while data[at : at + 2] != b"\xff\x52":
        if data[at] != 0xFF or data[at + 1] == 0x90:
            raise ValueError("no COD")
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return Jpeg2000Info(
        rows=y1 - y0,
        columns=x1 - x0,
        components=count,
        precision=(depths[0] & 0x7F) + 1,
        signed=bool(depths[0] & 0x80),
        reversible=data[at + 13] == 1,
        transformed=bool(data[at + 8]),
        subsampled=steps != {b"\x01\x01"},
    )


def _jpeg_2000(data: bytes, form: PixelFormat) -> Decoded:
    info = _checked_2000(data, form)
    samples = imagecodecs.jpeg2k_decode(data, planar=False)
    return Decoded(_sized(samples, form), info.precision, "rgb" if info.transformed else "", info.lossy)


def _htj2k(data: bytes, form: PixelFormat) -> Decoded:
    info = _checked_2000(data, form)
    if not info.reversible:
        # OpenJPH hands out what lies beyond the range wrapped round: 256 as 0.  OpenJPEG clips.
        samples = imagecodecs.jpeg2k_decode(data, planar=False)
    else:
        try:
            samples = imagecodecs.htj2k_decode(data, planar=False)
        except RuntimeError:
            samples = imagecodecs.jpeg2k_decode(
                data, planar=False
            )  # some old codestreams, and plain JPEG 2000
    return Decoded(_sized(samples, form), info.precision, "rgb" if info.transformed else "", info.lossy)


def _checked_2000(data: bytes, form: PixelFormat) -> Jpeg2000Info:
    info = jpeg_2000_info(data)
    if (info.rows, info.columns, info.components) != (form.rows, form.columns, form.samples):
        raise Unreadable("decode-failed")
    if info.subsampled:
        raise Unreadable("unsupported-pixel-format")
    return info


# JPEG XL (ISO 18181)


def _jpeg_xl(data: bytes, form: PixelFormat) -> Decoded:
    samples = imagecodecs.jpegxl_decode(data, keeporientation=True, numthreads=1)
    # The decoder always converts to the image's own colour space, which DICOM wants to be RGB or grey.
    return Decoded(_sized(samples, form), max(form.stored, 8 * samples.dtype.itemsize), "rgb", None)


# Run lengths (PS3.5 G) and deflate


def _rle(data: bytes, form: PixelFormat) -> Decoded:
    """Segment by segment: whole-frame decoders index out of bounds on broken segments (imagecodecs crashes,
    pylibjpeg-rle panics)."""
    count, *offsets = struct.unpack_from("<16L", data)
    width = form.container // 8
    bit = form.value_type == "bit"
    if count != (1 if bit else width * form.samples) or form.allocated not in (1, form.container):
        raise Unreadable("decode-failed")
    bounds = [*offsets[:count], len(data)]
    if any(a >= b for a, b in itertools.pairwise(bounds)):
        raise Unreadable("decode-failed")
    segments = [decode_segment(data[a:b]) for a, b in itertools.pairwise(bounds)]
    if bit:
        return Decoded(unpacked_bits(segments[0], 0, form), 1, "")
    size = form.rows * form.columns
    if min(map(len, segments)) < size:
        raise Unreadable("truncated-pixel-data")
    # Segments are bytes of planes, the highest first, whatever Planar Configuration says; odd ones are padded.
    planes = np.empty((form.samples, size, width), dtype=np.uint8)
    for number, segment in enumerate(segments):
        plane, byte = divmod(number, width)
        planes[plane, :, width - 1 - byte] = np.frombuffer(segment, dtype=np.uint8, count=size)
    samples = planes.view(f"<u{width}")[..., 0].reshape(form.samples, form.rows, form.columns)
    return Decoded(samples[0] if form.samples == 1 else np.moveaxis(samples, 0, 2), form.container, "")


def _deflate(data: bytes, form: PixelFormat) -> Decoded:
    wanted = (form.frame_bits + 7) // 8
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    raw = inflater.decompress(data, wanted + 1)
    return _uncompressed(raw, form)


def _uncompressed(data: bytes, form: PixelFormat) -> Decoded:
    if len(data) < (form.frame_bits + 7) // 8:
        raise Unreadable("truncated-pixel-data")
    return Decoded(native_samples(data, 0, form), form.container, "")


def unpacked_bits(packed: bytes, first: int, form: PixelFormat) -> NDArray[np.uint8]:
    """(rows, columns) of 0 and 1; the first pixel is the lowest bit at bit offset ``first`` (PS3.5 8.1.1)."""
    size = form.rows * form.columns
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")[first : first + size]
    if len(bits) < size:
        raise Unreadable("truncated-pixel-data")
    return bits.reshape(form.rows, form.columns)


def native_samples(raw: bytes, first: int, form: PixelFormat) -> NDArray[Any]:
    """Samples of one uncompressed little-endian frame beginning at bit ``first`` of ``raw``.

    (rows, columns) or (rows, columns, 3); subsampled chroma is repeated.  Unsigned, but for floating point.
    """
    shape = (form.rows, form.columns)
    if form.value_type == "bit":
        return unpacked_bits(raw, first, form)
    if form.allocated not in (8, 16, 32, 64):
        return _odd_bits(raw, first, form).reshape(shape)
    kind = "f" if form.value_type != "integer" else "u"
    samples = np.frombuffer(
        raw, dtype=f"<{kind}{form.allocated // 8}", count=form.frame_bits // form.allocated
    )
    if form.samples == 1:
        return samples.reshape(shape)
    if form.subsampled:
        return _doubled(samples, form)
    if form.photometric == "YBR_PARTIAL_420":
        raise Unreadable("unsupported-pixel-format")
    if form.planar:
        return np.moveaxis(samples.reshape(3, *shape), 0, 2)
    return samples.reshape(*shape, 3)


def _doubled(samples: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Y Y Cb Cr for each two pixels of a row (PS3.3 C.7.6.3.1.2)."""
    if form.columns % 2:
        raise Unreadable("malformed-dicom")
    pairs = samples.reshape(form.rows, form.columns // 2, 4)
    full = np.empty((form.rows, form.columns, 3), dtype=samples.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    full[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    return full


def _odd_bits(raw: bytes, first: int, form: PixelFormat) -> NDArray[Any]:
    """Pixel cells of any size, packed without gaps, lowest bit first (PS3.5 8.1.1)."""
    size, width, container = form.rows * form.columns, form.allocated, form.container
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")
    padded = np.zeros((size, container), dtype=np.uint8)
    padded[:, :width] = bits[first : first + size * width].reshape(size, width)
    return np.packbits(padded, axis=1, bitorder="little").view(f"<u{container // 8}")[:, 0]


def _sized(samples: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    wanted = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
    if samples.shape != wanted:
        raise Unreadable("decode-failed")
    return samples


_DECODERS: dict[str, Callable[[bytes, PixelFormat], Decoded]] = {
    "uncompressed": _uncompressed,
    "deflate": _deflate,
    "rle": _rle,
    "jpeg": _jpeg,
    "jpeg-ls": _jpeg_ls,
    "jpeg-2000": _jpeg_2000,
    "htj2k": _htj2k,
    "jpeg-xl": _jpeg_xl,
}


def has_end(data: bytes) -> bool:
    """Whether a JPEG, JPEG-LS or JPEG 2000 codestream has its end marker, which no coded data holds.  Decoders make do
    with what there is of one that was cut."""
    return b"\xff\xd9" in data[-_PADDED:]


_PADDED = 64
"""Bytes at the end of a frame among which the end marker is looked for, since writers fill up."""


def sniffed(data: bytes) -> str:
    """The decoder that a codestream asks for by its first bytes; "" where they tell nothing."""
    if data.startswith((b"\xff\xd8\xff\xf7", b"\xff\xd8\xff\xe8")):
        return "jpeg-ls"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")):
        return "jpeg-2000"
    if data.startswith((b"\x00\x00\x00\x0cJXL ", b"\xff\x0a")):
        return "jpeg-xl"
    return ""
