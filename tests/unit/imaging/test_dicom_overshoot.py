"""What a lossy codec gives beyond Bits Stored is clipped; what lies above lossless values is cut off, as before."""

from typing import Any

import imagecodecs
import numpy as np
import pytest
from dicom_files import compressed, dataset, frames, refusal
from numpy.typing import NDArray
from pydicom import uid
from pydicom.tag import Tag

SIZE = 64
JPEG_XL = "1.2.840.10008.1.2.4.112"


def edges(low: int, high: int) -> NDArray[Any]:
    """Black and white in stripes, noise, and flat parts: what lossy codecs ring at."""
    values = np.full((SIZE, SIZE), (low + high) // 2)
    values[:, ::8], values[:, 4::8] = low, high
    values[:8], values[-8:] = low, high
    middle = slice(SIZE // 2, SIZE // 2 + 8)
    values[middle] = np.random.default_rng(1).choice([low, high], (8, SIZE))
    return values


def grey(stored: int, *, signed: bool = False, allocated: int = 16, **more: Any) -> Any:
    return dataset(
        Rows=SIZE, Columns=SIZE, BitsAllocated=allocated, BitsStored=stored, HighBit=stored - 1,
        PixelRepresentation=int(signed), **more,
    )  # fmt: skip


def jpeg_2000(values: NDArray[Any]) -> bytes:
    quality = 20 * np.log10(20 * 65535 / np.ptp(values))  # an error of a twentieth of the values' range
    return bytes(imagecodecs.jpeg2k_encode(values, level=quality, codecformat="j2k", reversible=False))


def htj2k(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(values, level=float(np.ptp(values)) / 65535, reversible=False))


def near_lossless(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegls_encode(values, level=7))


def jpeg_xl(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(values, level=40, lossless=False))


def jpeg(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, level=40, bitspersample=12))


LOSSY = [
    (uid.JPEG2000, jpeg_2000, imagecodecs.jpeg2k_decode),
    (uid.JPEG2000MC, jpeg_2000, imagecodecs.jpeg2k_decode),
    (uid.HTJ2K, htj2k, imagecodecs.jpeg2k_decode),
    (uid.JPEGLSNearLossless, near_lossless, imagecodecs.jpegls_decode),
    (JPEG_XL, jpeg_xl, imagecodecs.jpegxl_decode),
]


@pytest.mark.parametrize(("syntax", "encode", "decode"), LOSSY)
@pytest.mark.parametrize("stored", [9, 10, 12, 15])
def test_white_stays_white_under_every_lossy_compression(
    syntax: str, encode: Any, decode: Any, stored: int
) -> None:
    top = (1 << stored) - 1
    stream = encode(edges(0, top).astype(np.uint16))
    wanted = np.minimum(decode(stream).astype(np.int64), top)
    assert decode(stream).max() > top, "the codec did not overshoot: nothing is tried"
    assert np.array_equal(frames(compressed(grey(stored), syntax, [stream]))[0], wanted)


@pytest.mark.parametrize("stored", [9, 12])
def test_both_ends_of_signed_values_are_clipped(stored: int) -> None:
    low, top = -(1 << (stored - 1)), (1 << (stored - 1)) - 1
    stream = jpeg_2000(edges(low, top).astype(np.int16))
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert decoded.max() > top and decoded.min() < low
    got = frames(compressed(grey(stored, signed=True), uid.JPEG2000, [stream]))[0]
    assert np.array_equal(got, np.clip(decoded, low, top))


def test_signed_values_in_a_codestream_that_knows_no_sign_are_clipped_at_both_ends() -> None:
    values = edges(-2048, 2047)
    stream = near_lossless(values.astype(np.int16).view(np.uint16))
    decoded = imagecodecs.jpegls_decode(stream).view(np.int16)
    assert decoded.max() > 2047 and decoded.min() < -2048
    got = frames(compressed(grey(12, signed=True), uid.JPEGLSNearLossless, [stream]))[0]
    assert np.array_equal(got, np.clip(decoded, -2048, 2047))


def test_negative_values_of_which_only_bits_stored_were_compressed_stay_negative() -> None:
    values = np.repeat(np.arange(-1000, -1000 + SIZE)[:, None], SIZE, axis=1)
    stream = near_lossless((values & 0xFFF).astype(np.uint16))
    got = frames(compressed(grey(12, signed=True), uid.JPEGLSNearLossless, [stream]))[0]
    assert np.abs(got - values).max() <= 7


def test_twelve_bit_jpeg_is_clipped_to_fewer_bits_stored() -> None:
    stream = jpeg(edges(0, 1023).astype(np.uint16))
    decoded = imagecodecs.jpeg8_decode(stream)
    assert decoded.max() > 1023
    got = frames(compressed(grey(10), uid.JPEGExtended12Bit, [stream]))[0]
    assert np.array_equal(got, np.minimum(decoded, 1023))


@pytest.mark.parametrize("encode", [jpeg_2000, jpeg_xl])
def test_colour_is_clipped_too(encode: Any) -> None:
    values = np.stack([edges(0, 4095)] * 3, axis=2).astype(np.uint16)
    stream = encode(values)
    decode = imagecodecs.jpegxl_decode if encode is jpeg_xl else imagecodecs.jpeg2k_decode
    decoded = decode(stream)
    assert decoded.max() > 4095
    made = grey(12, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    syntax = JPEG_XL if encode is jpeg_xl else uid.JPEG2000
    assert np.array_equal(frames(compressed(made, syntax, [stream]))[0], np.minimum(decoded, 4095))


GARBAGE = (np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 65536).astype(np.uint16) | np.uint16(0xA000)
LOSSLESS = [
    (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(GARBAGE, level=0, codecformat="j2k", reversible=True), None),
    # The codestream says neither that something was lost nor that nothing was: the header does.
    (uid.JPEG2000, imagecodecs.jpeg2k_encode(GARBAGE, level=0, codecformat="j2k", reversible=True), "00"),
    (uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(GARBAGE, level=0), None),
    (uid.JPEGLSLossless, imagecodecs.jpegls_encode(GARBAGE, level=0), "01"),
    (uid.JPEGLosslessSV1, imagecodecs.jpeg8_encode(GARBAGE, lossless=True, bitspersample=16), None),
]  # fmt: skip


@pytest.mark.parametrize(("syntax", "stream", "told"), LOSSLESS)
def test_bits_above_lossless_values_are_cut_off_not_clipped(
    syntax: str, stream: bytes, told: str | None
) -> None:
    made = grey(12, LossyImageCompression=told)
    assert np.array_equal(frames(compressed(made, syntax, [bytes(stream)]))[0], GARBAGE & 0xFFF)


def test_a_reversible_codestream_cut_to_a_size_is_lossy_where_its_syntax_may_be() -> None:
    stream = bytes(
        imagecodecs.jpeg2k_encode(
            edges(0, 4095).astype(np.uint16), level=25, codecformat="j2k", reversible=True
        )
    )
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert decoded.max() > 4095
    made = compressed(grey(12, LossyImageCompression="01"), uid.JPEG2000, [stream])
    assert np.array_equal(frames(made)[0], np.minimum(decoded, 4095))


def test_values_far_beyond_a_pixel_are_another_image_and_are_refused() -> None:
    stream = jpeg_2000(edges(0, 4095).astype(np.uint16))
    assert refusal(compressed(grey(8, allocated=8), uid.JPEG2000, [stream]), "frames") == "decode-failed"


def test_an_overlay_within_lossy_pixels_is_refused_since_clipping_would_draw_it() -> None:
    made = grey(12)
    made.add_new(Tag(0x6000, 0x0100), "US", 16)
    made.add_new(Tag(0x6000, 0x0102), "US", 12)
    stream = jpeg_2000(edges(0, 4095).astype(np.uint16))
    assert refusal(compressed(made, uid.JPEG2000, [stream]), "frames") == "unsupported-pixel-format"
