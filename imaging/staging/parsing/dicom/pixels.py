"""Decoded frames of a DICOM image: stored values of grey images, RGB of coloured ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from imaging.staging.parsing.dicom.codestreams import Decoded, decode, has_end, native_samples, sniffed
from imaging.staging.parsing.dicom.colour import to_rgb
from imaging.staging.parsing.dicom.dataset import Opened, open_dataset
from imaging.staging.parsing.dicom.fragments import encoded_frames, read_fragments
from imaging.staging.parsing.dicom.mosaic import Mosaic, read_mosaic
from imaging.staging.parsing.dicom.overshoot import check_sign, clipped, lossy_grey
from imaging.staging.parsing.dicom.pixel_format import PixelFormat, pixel_format
from imaging.staging.parsing.dicom.values import integer, text
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.headers import Bare
from imaging.staging.radiology.transfer_syntaxes import DECODERS, GE_BIG_ENDIAN_PIXELS, LOSSY, NATIVE


@dataclass(frozen=True, slots=True)
class Frame:
    """``clipped``: how many values of ``pixels`` a lossy codec had set beyond what Bits Stored holds (of a mosaic's
    first tile: of the whole mosaic).  ``complete``: false where the codestream lacks its end marker, yet decodes."""

    pixels: NDArray[Any]
    clipped: int = 0
    complete: bool = True


def decode_frames(file: BinaryIO, indices: list[int]) -> Iterator[NDArray[Any]]:
    """The pixels alone of :func:`counted_frames`."""
    return (frame.pixels for frame in counted_frames(file, indices))


def counted_frames(file: BinaryIO, indices: list[int]) -> Iterator[Frame]:
    """Yield frames in the order of ``indices`` (from 0); raises :class:`Unreadable`.

    Grey: (rows, columns), little-endian integers of 8 to 64 bits, signed as declared, the bits outside Bits
    Stored cleared (PS3.5 8.1.1), since old files keep overlay graphics there, which may be burned-in text;
    uint8 of 0 and 1 for one-bit images; float32 and float64 as such.  Colour: (rows, columns, 3), RGB.
    What a lossy codec gives beyond the range of Bits Stored is set to the nearest value in it.
    A tile of a Siemens mosaic is a frame.
    """
    opened = open_dataset(file)
    form = pixel_format(opened)
    mosaic = read_mosaic(opened.dataset, form)
    count = form.frames if mosaic is None else mosaic.tiles
    if any(not 0 <= index < count for index in indices):
        raise Unreadable("truncated-pixel-data")
    frames = _frames(opened, form)
    if mosaic is None:
        for index in indices:
            yield frames(index)
    elif indices:
        whole = frames(0)
        for place, index in enumerate(indices):
            tile = np.ascontiguousarray(_tile(whole.pixels, mosaic, index))
            yield Frame(tile, 0 if place else whole.clipped, whole.complete)


def bare(opened: Opened, form: PixelFormat) -> Bare | None:
    """Where frames lie that need nothing but to be read (and the bits outside Bits Stored cleared)."""
    assert opened.pixels is not None
    grey = form.samples == 1 and form.palette is None and form.value_type != "bit"
    in_file = opened.pixels.length is not None and opened.syntax != uid.DeflatedExplicitVRLittleEndian
    little = not opened.big_endian and opened.syntax != GE_BIG_ENDIAN_PIXELS
    if not (grey and in_file and little and form.allocated == form.container):
        return None
    try:
        _Native(opened, form)
    except Unreadable:
        return None  # who asks for its frames hears why
    return Bare(offset=opened.pixels.offset, high_bit=form.high)


def _tile(whole: NDArray[Any], mosaic: Mosaic, index: int) -> NDArray[Any]:
    row, column = divmod(index, mosaic.across)
    return whole[
        row * mosaic.rows : (row + 1) * mosaic.rows, column * mosaic.columns : (column + 1) * mosaic.columns
    ]


def _frames(opened: Opened, form: PixelFormat) -> _Native | _Compressed:
    """Pixels of defined length lie bare in the file even where the syntax is a compressed one, and those of
    undefined length lie in fragments even where the syntax is an uncompressed one (PS3.5 A.4)."""
    assert opened.pixels is not None
    return _Compressed(opened, form) if opened.pixels.length is None else _Native(opened, form)


class _Native:
    """Frames read one by one: a part of a large object costs that part."""

    def __init__(self, opened: Opened, form: PixelFormat) -> None:
        assert opened.pixels is not None and opened.pixels.length is not None
        self._opened = opened
        self._form = form
        self._offset = opened.pixels.offset
        # A value under UN is little-endian in any file (PS3.5 6.2.2).
        swapped = opened.big_endian and opened.pixels.vr != "UN"
        self._big_endian = swapped or opened.syntax == GE_BIG_ENDIAN_PIXELS
        needed = (form.frame_bits * form.frames + 7) // 8
        if not opened.pixels.length:
            raise Unreadable("pixel-data-missing")
        there = opened.size - self._offset
        # Old writers leave out the last byte of an odd length.
        if min(opened.pixels.length, there) < needed or opened.pixels.length > there + 1:
            raise Unreadable("truncated-pixel-data")
        if DECODERS.get(opened.syntax) != NATIVE and opened.pixels.length > needed + 1:
            # Bare bytes under a compressed syntax that are not the size of bare pixels.
            raise Unreadable("decode-failed")
        self._end = self._offset + needed + (needed & 1)
        # Old big-endian writers keep pixels of one byte or less in words (VR OW).
        self._words = self._big_endian and form.allocated < 16 and opened.pixels.vr != "OB"

    def __call__(self, index: int) -> Frame:
        form = self._form
        first = form.frame_bits * index
        start, end = first // 8, (first + form.frame_bits + 7) // 8
        if self._words:
            start, end = start & ~1, end + (end & 1)
        self._opened.stream.seek(self._offset + start)
        raw = self._opened.stream.read(end - start)
        if self._big_endian and (self._words or form.allocated >= 16):
            raw = _swapped(raw, 2 if self._words else form.allocated // 8)
        if len(raw) < (first - start * 8 + form.frame_bits + 7) // 8:
            raise Unreadable("truncated-pixel-data")
        samples = native_samples(raw[first // 8 - start :], first % 8, form)
        return _given(Decoded(samples, form.container, "", False), form, form.high)


def _swapped(raw: bytes, width: int) -> bytes:
    """Bytes of big-endian words of ``width`` bytes as little-endian ones; a torn last word is left out."""
    whole = np.frombuffer(raw, dtype=np.uint8, count=len(raw) // width * width)
    return whole.reshape(-1, width)[:, ::-1].tobytes()


class _Compressed:
    """Frames decoded one by one from their fragments."""

    def __init__(self, opened: Opened, form: PixelFormat) -> None:
        decoder = DECODERS.get(opened.syntax)
        if decoder is None:
            raise Unreadable("unsupported-transfer-syntax")
        if form.value_type in ("float32", "float64"):
            raise Unreadable("unsupported-pixel-format")
        self._opened = opened
        self._form = form
        self._frames = encoded_frames(opened, form.frames)
        if decoder == NATIVE:
            decoder = sniffed(read_fragments(opened.stream, self._frames[0][:1])[:12])
            if not decoder:
                raise Unreadable("decode-failed")
        self._decoder = decoder
        # What a codestream leaves open its syntax tells, unless the header denies that anything was lost.
        denied = text(opened.dataset, "LossyImageCompression") == "00"
        self._may_lose = opened.syntax in LOSSY and not denied

    def __call__(self, index: int) -> Frame:
        data = read_fragments(self._opened.stream, self._frames[index])
        decoded = decode(self._decoder, data, self._form)
        if decoded.lossy is None:
            decoded = replace(decoded, lossy=self._may_lose)
        if decoded.lossy and _has_overlay_in_pixels(self._opened.dataset):
            # A value is image and overlay together: neither clearing bits nor clipping would tell them apart.
            raise Unreadable("unsupported-pixel-format")
        # Codestreams hold their samples at the bottom, where the header's High Bit would shift native ones.
        bare = self._decoder in ("uncompressed", "deflate", "rle")
        frame = _given(decoded, self._form, self._form.high if bare else self._form.stored - 1)
        return replace(frame, complete=bare or self._decoder == "jpeg-xl" or has_end(data))


def _has_overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether an overlay lies in unused bits of the pixels, as old objects have it (PS3.3 C.9.2, retired)."""
    return any(
        (integer(dataset, BaseTag(group << 16 | 0x0102)) or 0) > 0
        and dataset.get_item(BaseTag(group << 16 | 0x3000)) is None
        for group in range(0x6000, 0x6020, 2)
    )


def _given(decoded: Decoded, form: PixelFormat, high: int) -> Frame:
    """A decoded frame as the stager gets it."""
    if form.samples == 3:
        photometric = {"rgb": "RGB", "ybr": "YBR_FULL", "": form.photometric}[decoded.colour]
        coloured = to_rgb(_unsigned(decoded.samples, form), photometric)
        given, beyond = clipped(coloured, 0, (1 << form.stored) - 1) if decoded.lossy else (coloured, 0)
        return Frame(np.ascontiguousarray(given), beyond)
    if form.value_type != "integer":
        dtype = {"bit": "u1", "float32": "<f4", "float64": "<f8"}[form.value_type]
        if form.value_type == "bit" and decoded.samples.max(initial=0) > 1:
            raise Unreadable("decode-failed")
        return Frame(np.ascontiguousarray(decoded.samples, dtype=dtype))
    if decoded.samples.dtype.kind not in "iu":
        raise Unreadable("decode-failed")
    values, beyond = lossy_grey(decoded, form) if decoded.lossy else (_stored_values(decoded, form, high), 0)
    if form.palette is not None:
        values = form.palette.colours(values)
    return Frame(np.ascontiguousarray(values), beyond)


def _unsigned(samples: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Colour samples in the declared container."""
    if samples.dtype.kind != "u" or samples.dtype.itemsize * 8 > form.container:
        raise Unreadable("decode-failed")
    return samples.astype(f"<u{form.container // 8}", copy=False)


def _stored_values(decoded: Decoded, form: PixelFormat, high: int) -> NDArray[Any]:
    """Bits below ``high`` down to Bits Stored, sign-extended where Pixel Representation says so."""
    samples = decoded.samples
    container, stored = form.container, form.stored
    wide = samples.dtype.itemsize * 8 > container
    if wide and (int(samples.max()) >> container or int(samples.min()) < -(1 << (container - 1))):
        raise Unreadable("decode-failed")
    check_sign(decoded, form)
    values = samples.astype(f"<{'i' if form.signed else 'u'}{container // 8}", copy=False)
    if stored < container and not (samples.dtype.kind == "i" and form.signed):
        # Up to the top of the container, then back: the second shift keeps the sign of signed types.
        values = (values << (container - 1 - high)) >> (container - stored)
    return values
