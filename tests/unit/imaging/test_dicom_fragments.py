"""Compressed frames are found in their fragments, whatever the offset tables say."""

import struct

import imagecodecs
import numpy as np
import pytest
from dicom_files import compressed, dataset, encoded, frames, header, refusal
from pydicom import uid

IMAGES = np.random.default_rng(2).integers(0, 4000, (3, 24, 20)).astype("<u2")
JPEG_LS = [bytes(imagecodecs.jpegls_encode(image)) for image in IMAGES]
SIZE = {"Rows": 24, "Columns": 20, "NumberOfFrames": 3}


def _file(**changes: object) -> bytes:
    return compressed(dataset(**SIZE), uid.JPEGLSLossless, JPEG_LS, **changes)  # type: ignore[arg-type]


def _is_read(data: bytes) -> bool:
    return np.array_equal(frames(data, 2, 0, 1), IMAGES[[2, 0, 1]])


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("fragments", [1, 2, 5])
def test_frames_in_fragments_are_read_with_and_without_a_table(fragments: int, table: bool) -> None:
    assert _is_read(_file(fragments=fragments, table=table))


@pytest.mark.parametrize("fault", [1, 7, 0xFFFFFF00])
def test_a_wrong_offset_table_is_not_believed(fault: int) -> None:
    data = _file(fragments=2)
    at = data.rindex(struct.pack("<HHL", 0xFFFE, 0xE000, 12)) + 8
    offsets = struct.unpack_from("<3L", data, at)
    wrong = struct.pack("<3L", offsets[0], (offsets[1] + fault) % 2**32, offsets[2])
    assert _is_read(data[:at] + wrong + data[at + 12 :])


def test_the_extended_offset_table_is_used_where_it_fits() -> None:
    made = dataset(**SIZE)
    padded = [frame + bytes(len(frame) % 2) for frame in JPEG_LS]
    starts = [sum(len(frame) + 8 for frame in padded[:number]) for number in range(3)]
    made.ExtendedOffsetTable = struct.pack("<3Q", *starts)
    made.ExtendedOffsetTableLengths = struct.pack("<3Q", *map(len, padded))
    assert _is_read(compressed(made, uid.JPEGLSLossless, JPEG_LS, table=False))
    made.ExtendedOffsetTable = struct.pack("<3Q", 0, 3, 2**63)
    assert _is_read(compressed(made, uid.JPEGLSLossless, JPEG_LS, table=False))


def test_a_missing_last_delimiter_does_no_harm_and_a_torn_last_fragment_is_refused() -> None:
    data = _file()
    assert _is_read(data[:-8])
    assert refusal(data[:-12], "frames") == "truncated-pixel-data"


def test_more_frames_than_fragments_are_refused() -> None:
    data = compressed(dataset(**SIZE | {"NumberOfFrames": 4}), uid.JPEGLSLossless, JPEG_LS)
    assert refusal(data, "frames") == "truncated-pixel-data"


def test_fragments_that_cannot_be_told_apart_are_refused() -> None:
    pieces = [bytes(500), bytes(300), bytes(800)]
    data = compressed(dataset(**SIZE | {"NumberOfFrames": 2}), uid.RLELossless, pieces, table=False)
    assert refusal(data, "frames") == "decode-failed"


def test_compressed_pixels_under_an_uncompressed_syntax_are_known_by_their_first_bytes() -> None:
    data = _file()
    assert _is_read(data.replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0"))


def test_bare_pixels_under_a_compressed_syntax_are_taken_only_if_their_length_is_right() -> None:
    data = encoded(dataset()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert frames(data)[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    longer = encoded(dataset(PixelData=bytes(20))).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert refusal(longer, "frames") == "decode-failed"


def test_a_codestream_of_another_size_or_number_of_samples_is_refused() -> None:
    for changes in (
        {"Rows": 20, "Columns": 24},
        {"Rows": 23},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
    ):
        data = compressed(dataset(**SIZE | changes), uid.JPEGLSLossless, JPEG_LS)
        assert refusal(data, "frames") == "decode-failed"


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.107"]
)
def test_films_are_not_images(syntax: str) -> None:
    assert refusal(compressed(dataset(**SIZE), syntax, [b"film"])) == "unsupported-sop-class"


def test_an_unknown_syntax_has_a_header_and_no_frames() -> None:
    data = compressed(dataset(**SIZE), "1.2.3.4.5.6.7", JPEG_LS)
    assert header(data)["transfer_syntax"] == "1.2.3.4.5.6.7"
    assert refusal(data, "frames") == "unsupported-transfer-syntax"


@pytest.mark.parametrize("fault", ["signed and narrow", "wider than said"])
def test_a_codestream_whose_bits_leave_the_sign_open_is_refused(fault: str) -> None:
    image = np.full((24, 20), 4095, dtype="<u2")
    narrow = bytes(imagecodecs.jpegls_encode(image, bitspersample=12))
    made = dataset(**SIZE | {"NumberOfFrames": 1}, PixelRepresentation=1)
    if fault == "wider than said":
        narrow = bytes(imagecodecs.jpegls_encode(image * 16))
        made = dataset(**SIZE | {"NumberOfFrames": 1}, BitsAllocated=8, BitsStored=8, HighBit=7)
    assert refusal(compressed(made, uid.JPEGLSLossless, [narrow]), "frames") == "decode-failed"
