"""What a JPEG 2000 codestream says in its main header (ITU-T T.800 annex A), and its pixels."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.staging.parsing.slides.color import ycbcr_to_rgb
from imaging.staging.parsing.unreadable import Unreadable

_SOC, _SIZ, _COD, _SOT, _COM = 0xFF4F, 0xFF51, 0xFF52, 0xFF90, 0xFF64
_HEADER_LIMIT = 1 << 16
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


@dataclass(frozen=True, slots=True)
class Codestream:
    """``mct``: the codestream's own colour transform is used, which every decoder undoes."""

    width: int
    height: int
    components: int
    bits: int
    signed: bool
    subsampled: bool
    mct: bool
    reversible: bool
    header: tuple[tuple[int, int], ...]
    """(start, end) of the main header's comment segments."""


def inspect(stream: bytes) -> Codestream:
    """Raises :class:`Unreadable`."""
    if stream[:2] != b"\xff\x4f":
        raise Unreadable("unsupported-slide" if stream[:12] == _JP2 else "truncated-tile")
    at = 2
    siz: tuple[int, int, int, int, bool, bool] | None = None
    cod: tuple[bool, bool] | None = None
    comments = []
    while at + 4 <= min(len(stream), _HEADER_LIMIT):
        marker, length = struct.unpack_from(">HH", stream, at)
        body = stream[at + 4 : at + 2 + length]
        if marker == _SOT:
            break
        if length < 2 or len(body) != length - 2:
            raise Unreadable("truncated-tile")
        if marker == _SIZ:
            siz = _size(body)
        elif marker == _COD and len(body) >= 10:
            cod = (bool(body[4]), body[9] == 1)
        elif marker == _COM:
            comments.append((at, at + 2 + length))
        at += 2 + length
    if siz is None or cod is None:
        raise Unreadable("truncated-tile")
    width, height, components, bits, signed, subsampled = siz
    return Codestream(width, height, components, bits, signed, subsampled, cod[0], cod[1], tuple(comments))


def without_comments(stream: bytes) -> bytes:
    """The codestream less the comments of its main header, where writers put text, and less what follows its
    end; raises :class:`Unreadable`."""
    end = stream.rfind(b"\xff\xd9")
    if end < 0:
        raise Unreadable("truncated-tile")
    out = bytearray()
    at = 0
    for start, stop in inspect(stream).header:
        out += stream[at:start]
        at = stop
    out += stream[at : end + 2]
    return bytes(out)


def decode(stream: bytes, *, ycbcr: bool) -> NDArray[Any]:
    """(y, x, samples); ``ycbcr``: its components are YCbCr that no transform of its own undoes."""
    if inspect(stream).subsampled:
        return _decode_subsampled(stream)
    try:
        pixels: NDArray[Any] = np.asarray(imagecodecs.jpeg2k_decode(stream, numthreads=1))
    except (imagecodecs.Jpeg2kError, ValueError):
        raise Unreadable("truncated-tile") from None
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return ycbcr_to_rgb(pixels) if ycbcr else pixels


def _decode_subsampled(stream: bytes) -> NDArray[Any]:
    """Chroma at half the size, which imagecodecs does not decode; Pillow takes it for sYCC and gives RGB."""
    try:
        with Image.open(io.BytesIO(stream), formats=["JPEG2000"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unreadable("truncated-tile") from None


def _size(body: bytes) -> tuple[int, int, int, int, bool, bool]:
    if len(body) < 36:
        raise Unreadable("truncated-tile")
    _, right, bottom, left, top = struct.unpack_from(">HIIII", body)
    (components,) = struct.unpack_from(">H", body, 34)
    if len(body) < 36 + 3 * components or not components:
        raise Unreadable("truncated-tile")
    depth = body[36]
    steps = [body[36 + 3 * number + 1 : 36 + 3 * number + 3] for number in range(components)]
    depths = {body[36 + 3 * number] for number in range(components)}
    if len(depths) != 1:
        raise Unreadable("unsupported-slide")
    return (
        right - left,
        bottom - top,
        components,
        (depth & 0x7F) + 1,
        bool(depth & 0x80),
        any(step != b"\x01\x01" for step in steps),
    )
