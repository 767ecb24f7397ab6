"""Frames of uncompressed images: every size of pixel, sign, colour and byte order comes out as meant."""

import zlib
from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, encoded, frames, header, item, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

RGB = {
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
}


@pytest.mark.parametrize(
    ("allocated", "stored", "high", "signed", "raw", "wanted"),
    [
        (16, 12, 11, 0, [0xF001, 0x8FFF], [0x001, 0xFFF]),  # an overlay in the four high bits
        (16, 12, 11, 1, [0xF001, 0x0FFF], [1, -1]),
        (16, 12, 15, 0, [0x001F, 0xFFFF], [0x001, 0xFFF]),
        (16, 12, 15, 1, [0x0010, 0xFFF0], [1, -1]),
        (16, 16, 15, 1, [0x8000, 0x7FFF], [-32768, 32767]),
        (8, 7, 6, 0, [0xFF, 0x80], [127, 0]),
        (8, 8, 7, 1, [0xFF, 0x80], [-1, -128]),
        (32, 20, 19, 1, [0xFFF80000, 0x7FFFF], [-(1 << 19), (1 << 19) - 1]),
        (64, 64, 63, 0, [(1 << 64) - 1, 7], [(1 << 64) - 1, 7]),
        (64, 40, 39, 1, [(1 << 40) - 1, 7], [-1, 7]),
    ],
)
def test_bits_outside_those_stored_are_cleared_or_the_sign(
    allocated: int, stored: int, high: int, signed: int, raw: list[int], wanted: list[int]
) -> None:
    made = dataset(
        Rows=1, Columns=2, BitsAllocated=allocated, BitsStored=stored, HighBit=high, PixelRepresentation=signed,
        PixelData=np.array(raw, dtype=f"<u{allocated // 8}").tobytes(),
    )  # fmt: skip
    got = frames(encoded(made))[0]
    assert got.tolist() == [wanted]
    assert got.dtype == np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(1, 3), st.data())
def test_pixel_cells_of_any_size_are_packed_lowest_bit_first(
    allocated: int, rows: int, columns: int, count: int, data: st.DataObject
) -> None:
    size = rows * columns * count
    values = data.draw(st.lists(st.integers(0, (1 << allocated) - 1), min_size=size, max_size=size))
    packed = sum(value << (allocated * place) for place, value in enumerate(values))
    raw = packed.to_bytes((allocated * size + 7) // 8, "little")
    made = dataset(
        Rows=rows, Columns=columns, NumberOfFrames=count, BitsAllocated=allocated, BitsStored=allocated,
        HighBit=allocated - 1, PixelData=raw + bytes(len(raw) % 2),
    )  # fmt: skip
    got = frames(encoded(made), *range(count))
    assert got.ravel().tolist() == values
    said = header(encoded(made))
    assert said["bits_allocated"] == (1 if allocated == 1 else got.dtype.itemsize * 8)


def test_one_bit_frames_that_begin_within_a_byte_are_cut_rightly() -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    made = dataset(
        Rows=5, Columns=7, NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=packed
    )
    assert np.array_equal(frames(encoded(made), 2, 0, 1), bits[[2, 0, 1]])


@pytest.mark.parametrize("width", [16, 32, 64])
def test_big_endian_words_are_turned(width: int) -> None:
    values = np.arange(6).reshape(2, 3) * 257
    made = dataset(
        BitsAllocated=width,
        BitsStored=width,
        HighBit=width - 1,
        PixelData=values.astype(f">u{width // 8}").tobytes(),
    )
    assert frames(encoded(made, uid.ExplicitVRBigEndian))[0].tolist() == values.tolist()


@pytest.mark.parametrize("frame", [0, 1])
def test_big_endian_bytes_in_words_are_turned_even_where_frames_are_odd(frame: int) -> None:
    values = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    words = values.reshape(-1, 2)[:, ::-1].tobytes()
    made = dataset(
        Rows=5, Columns=3, NumberOfFrames=2, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=words
    )
    made["PixelData"].VR = "OW"
    assert frames(encoded(made, uid.ExplicitVRBigEndian), frame)[0].tolist() == values[frame].tolist()


def test_big_endian_bytes_as_bytes_are_left() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    made = dataset(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=values.tobytes())
    made["PixelData"].VR = "OB"
    assert frames(encoded(made, uid.ExplicitVRBigEndian))[0].tolist() == values.tolist()


def test_a_private_syntax_of_old_has_big_endian_pixels_in_a_little_endian_file() -> None:
    values = np.arange(6).reshape(2, 3) * 257
    data = encoded(dataset(PixelData=values.astype(">u2").tobytes()), uid.ImplicitVRLittleEndian)
    data = data.replace(b"1.2.840.10008.1.2\0", b"1.2.840.113619.5.2")
    assert frames(data)[0].tolist() == values.tolist()


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_given_as_they_are(keyword: str, dtype: str) -> None:
    values = np.array([[1.5, -np.inf, 3e-30], [0, np.pi, -2]], dtype=dtype)
    made = dataset(
        uid.ParametricMapStorage, PixelData=None, BitsAllocated=8 * values.itemsize, BitsStored=None, HighBit=None,
        **{keyword: values.tobytes()},
    )  # fmt: skip
    got = frames(encoded(made))[0]
    assert got.dtype == dtype
    assert got.tobytes() == values.tobytes()
    assert header(encoded(made))["value_type"] == {"<f4": "float32", "<f8": "float64"}[dtype]


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour_by_pixel_and_by_plane_is_the_same(planar: int, bits: int) -> None:
    values = (np.arange(18) * (1 if bits == 8 else 3000)).astype(f"<u{bits // 8}").reshape(2, 3, 3)
    stored = values if planar == 0 else np.moveaxis(values, 2, 0)
    form = RGB | {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    made = dataset(**form, PlanarConfiguration=planar, PixelData=stored.tobytes())
    assert frames(encoded(made))[0].tolist() == values.tolist()
    assert header(encoded(made))["samples"] == 3


YBR = {  # luminance and chrominance, and what red, green and blue they are
    (76, 85, 255): (254, 0, 0),
    (150, 44, 21): (0, 255, 1),
    (29, 255, 107): (0, 0, 254),
    (255, 128, 128): (255, 255, 255),
    (90, 128, 128): (90, 90, 90),
}


def test_full_range_luminance_and_chrominance_become_rgb() -> None:
    stored = np.array(list(YBR), dtype=np.uint8)
    made = dataset(
        **RGB | {"PhotometricInterpretation": "YBR_FULL"},
        Rows=1,
        Columns=5,
        PixelData=stored.tobytes() + b"\0",
    )
    assert np.abs(frames(encoded(made))[0, 0].astype(int) - list(YBR.values())).max() <= 1


def test_subsampled_chrominance_is_repeated() -> None:
    stored = bytes([90, 200, 128, 128, 76, 76, 85, 255])  # Y Y Cb Cr, twice
    made = dataset(**RGB | {"PhotometricInterpretation": "YBR_FULL_422"}, Rows=1, Columns=4, PixelData=stored)
    got = frames(encoded(made))[0, 0].astype(int)
    assert np.abs(got - [[90] * 3, [200] * 3, [254, 0, 0], [254, 0, 0]]).max() <= 1


def test_pixels_called_subsampled_that_have_the_full_length_are_not() -> None:
    stored = np.array(list(YBR)[:4], dtype=np.uint8)
    made = dataset(
        **RGB | {"PhotometricInterpretation": "YBR_FULL_422"}, Rows=2, Columns=2, PixelData=stored.tobytes()
    )
    got = frames(encoded(made))[0].reshape(-1, 3).astype(int)
    assert np.abs(got - list(YBR.values())[:4]).max() <= 1


def test_studio_range_black_and_white_become_full_range() -> None:
    stored = bytes([16, 235, 128, 128])
    made = dataset(
        **RGB | {"PhotometricInterpretation": "YBR_PARTIAL_422"}, Rows=1, Columns=2, PixelData=stored
    )
    assert frames(encoded(made))[0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


def _palette(
    entries: int, first: int, bits: int, tables: list[bytes], segmented: bool = False
) -> dict[str, object]:
    found: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        name = f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"
        found[name] = table
    return found


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_palette_colours_of_sixteen_bits_are_clamped_at_both_ends(syntax: str) -> None:
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    tables = [(np.array([10, 20, 60000]) + step).astype(f"{order}u2").tobytes() for step in range(3)]
    values = np.array([[0, 4, 5], [6, 7, 900]], dtype=f"{order}u2")
    made = dataset(
        **_palette(3, 4, 16, tables),
        PixelData=values.tobytes(),
    )
    got = frames(encoded(made, syntax))[0]
    assert got[..., 0].tolist() == [[10, 10, 20], [60000, 60000, 60000]]
    assert got[..., 2].tolist() == [[12, 12, 22], [60002, 60002, 60002]]
    said = header(encoded(made, syntax))
    assert (said["samples"], said["bits_allocated"], said["signed"]) == (3, 16, False)


def test_palette_colours_of_eight_bits_are_bytes() -> None:
    made = dataset(**_palette(4, 0, 8, [bytes([1, 2, 3, 4]), bytes([5, 6, 7, 8]), bytes([9, 9, 9, 9])]))
    got = frames(encoded(made))[0]
    assert got.dtype == np.uint8
    assert got[0, 2].tolist() == [3, 7, 9]


def test_segmented_palettes_are_drawn_out() -> None:
    red = np.array([0, 2, 100, 200, 1, 4, 600], dtype="<u2").tobytes()  # 100 200, then a line to 600
    flat = np.array([0, 1, 7, 1, 5, 7], dtype="<u2").tobytes()
    copied = np.array([0, 3, 1, 2, 3, 2, 1, 0, 0], dtype="<u2").tobytes()  # the first segment again
    made = dataset(**_palette(6, 0, 16, [red, flat, copied], segmented=True))
    got = frames(encoded(made))[0].reshape(6, 3)
    assert got[:, 0].tolist() == [100, 200, 300, 400, 500, 600]
    assert got[:, 1].tolist() == [7] * 6
    assert got[:, 2].tolist() == [1, 2, 3, 1, 2, 3]


def test_a_palette_image_without_a_palette_is_refused() -> None:
    assert refusal(encoded(dataset(PhotometricInterpretation="PALETTE COLOR"))) == "malformed-dicom"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Rows": 0}, "malformed-dicom"),
        ({"Columns": None}, "required-attribute-missing"),
        ({"BitsAllocated": 65}, "malformed-dicom"),
        ({"BitsAllocated": None}, "required-attribute-missing"),
        ({"BitsStored": 17}, "malformed-dicom"),
        ({"HighBit": 3}, "malformed-dicom"),
        ({"PhotometricInterpretation": None}, "required-attribute-missing"),
        ({"PhotometricInterpretation": "CMYK", "SamplesPerPixel": 4}, "unsupported-pixel-format"),
        ({"PhotometricInterpretation": "RGB"}, "malformed-dicom"),
        ({"SamplesPerPixel": 3}, "malformed-dicom"),
        ({"NumberOfFrames": 200_000}, "malformed-dicom"),
        ({"NumberOfFrames": -1}, "malformed-dicom"),
        ({"PixelData": None}, "pixel-data-missing"),
        ({"StudyInstanceUID": None}, "required-attribute-missing"),
        ({"SeriesInstanceUID": None}, "required-attribute-missing"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_true_is_refused(changes: dict[str, object], code: str) -> None:
    assert refusal(encoded(dataset(**changes))) == code


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_small_file_is_not_believed_to_have_very_many_frames(syntax: str) -> None:
    tiny: dict[str, Any] = {"Rows": 1, "Columns": 1, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    tiny["PixelData"] = bytes(100_000)
    assert refusal(encoded(dataset(**tiny, NumberOfFrames=100_000), syntax)) == "malformed-dicom"
    few = encoded(dataset(**tiny, NumberOfFrames=1500), syntax)
    assert len(header(few)["frames"]) == 1500
    assert (
        len(header(encoded(dataset(**{**tiny, "PixelData": bytes(1000)}, NumberOfFrames=1000)))["frames"])
        == 1000
    )


def test_deflating_makes_no_room_for_frames() -> None:
    made = dataset(Rows=64, Columns=1, BitsAllocated=8, BitsStored=8, HighBit=7, NumberOfFrames=10_000,
                   PixelData=bytes(640_000))  # fmt: skip
    assert len(header(encoded(made))["frames"]) == 10_000
    plain = encoded(made, uid.DeflatedExplicitVRLittleEndian)
    start = plain.index(b"\x08\x00\x16\x00")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = plain[:start] + packer.compress(plain[start:]) + packer.flush()
    assert len(deflated) < 10_000
    assert refusal(deflated) == "malformed-dicom"


@pytest.mark.parametrize(
    "changes", [{"NumberOfFrames": 2}, {"Rows": 3}, {"BitsAllocated": 32}, {"Rows": 65535, "Columns": 65535}]
)
def test_fewer_pixels_than_the_header_promises_are_refused(changes: dict[str, object]) -> None:
    assert refusal(encoded(dataset(**changes)), "frames") in ("truncated-pixel-data", "too-large")


def test_label_maps_with_a_palette_stay_labels() -> None:
    made = dataset(
        "1.2.840.10008.5.1.4.1.1.66.7", SegmentationType="LABELMAP", SegmentSequence=[item(SegmentNumber=1)],
        **_palette(3, 0, 16, [bytes(6)] * 3),
    )  # fmt: skip
    assert frames(encoded(made))[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert header(encoded(made))["segmentation"] == "LABELMAP"
