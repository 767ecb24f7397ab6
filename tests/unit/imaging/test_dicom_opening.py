"""Any file that holds a dataset is opened, whatever is wrong around it; all else ends in a reason code."""

import random
import struct
import zlib

import numpy as np
import pytest
from dicom_files import dataset, encoded, frames, header, refusal
from pydicom import uid

SYNTAXES = [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
WHOLE = encoded(dataset())
META_END = WHOLE.index(struct.pack("<HH", 0x0008, 0x0016))
PIXELS_AT = WHOLE.rindex(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))


def _as(syntax: str) -> bytes:
    made = dataset()
    if syntax == uid.ExplicitVRBigEndian:
        made.PixelData = np.arange(6, dtype=">u2").tobytes()
    return encoded(made, syntax)


def _dataset_bytes(syntax: str) -> bytes:
    data = _as(syntax)
    mark = struct.pack(">HH" if syntax == uid.ExplicitVRBigEndian else "<HH", 0x0008, 0x0016)
    return data[data.index(mark) :]


def _is_read(data: bytes) -> bool:
    return header(data)["rows"] == 2 and frames(data)[0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_in_any_uncompressed_encoding_is_read(syntax: str) -> None:
    assert _is_read(_as(syntax))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_bare_dataset_without_preamble_and_meta_is_read(syntax: str) -> None:
    assert _is_read(_dataset_bytes(syntax))
    assert header(_dataset_bytes(syntax))["transfer_syntax"] == syntax


@pytest.mark.parametrize("actual", SYNTAXES)
@pytest.mark.parametrize("declared", SYNTAXES)
def test_the_bytes_win_over_a_wrongly_declared_uncompressed_syntax(actual: str, declared: str) -> None:
    meta = _as(declared)
    mark = struct.pack(">HH" if declared == uid.ExplicitVRBigEndian else "<HH", 0x0008, 0x0016)
    assert _is_read(meta[: meta.index(mark)] + _dataset_bytes(actual))


def test_a_meta_with_a_wrong_or_no_group_length_ends_where_its_group_does() -> None:
    wrong = WHOLE[:140] + struct.pack("<L", 7) + WHOLE[144:]
    assert _is_read(wrong)
    assert _is_read(WHOLE[:132] + WHOLE[144:])


def test_a_preamble_without_its_prefix_is_passed_over() -> None:
    assert _is_read(bytes(128) + WHOLE[META_END:])
    assert _is_read(WHOLE[132:])


def test_a_command_set_before_the_dataset_is_passed_over() -> None:
    command = struct.pack("<HHLL", 0, 0, 4, 10) + struct.pack("<HHLH", 0, 0x0100, 2, 1)
    assert _is_read(command + _dataset_bytes(uid.ImplicitVRLittleEndian))


def test_what_follows_the_pixels_is_not_looked_at() -> None:
    assert _is_read(WHOLE + b"\xff" * 1000)


def test_the_last_of_equal_elements_counts_and_does_no_harm() -> None:
    rows = struct.pack("<HH2sHH", 0x0028, 0x0010, b"US", 2, 2)
    assert _is_read(WHOLE[:PIXELS_AT] + rows * 3 + WHOLE[PIXELS_AT:])


@pytest.mark.parametrize("window", [-15, 15], ids=["raw", "in a zlib wrapper"])
def test_a_deflated_dataset_is_read(window: int) -> None:
    meta = encoded(dataset(), uid.DeflatedExplicitVRLittleEndian)
    meta = meta[: 132 + 12 + struct.unpack_from("<L", meta, 140)[0]]
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    data = meta + packer.compress(_dataset_bytes(uid.ExplicitVRLittleEndian)) + packer.flush()
    assert _is_read(data)
    assert header(data)["transfer_syntax"] == uid.DeflatedExplicitVRLittleEndian
    assert refusal(data[:-5]) == "truncated-pixel-data"


def test_a_deflated_bomb_is_refused_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imaging.staging.parsing.dicom.dataset.INFLATED_LIMIT", 100_000)
    meta = encoded(dataset(), uid.DeflatedExplicitVRLittleEndian)
    meta = meta[: 132 + 12 + struct.unpack_from("<L", meta, 140)[0]]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(_dataset_bytes(uid.ExplicitVRLittleEndian) + bytes(1_000_000)) + packer.flush()
    assert refusal(meta + bomb) == "too-large"


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"Dear Jane,\n" * 50, bytes(5000), b"\xff" * 5000, random.Random(1).randbytes(5000)],
    ids=["empty", "short", "text", "zeros", "ones", "random"],
)
def test_what_is_no_dicom_is_told_as_such(data: bytes) -> None:
    assert refusal(data) == ("not-dicom" if data else "empty-file")


@pytest.mark.parametrize("end", range(136, len(WHOLE) - 2, 3))
def test_a_file_cut_anywhere_is_refused(end: int) -> None:
    cut = WHOLE[:end]
    assert refusal(cut) or refusal(cut, "frames") == "truncated-pixel-data"


def test_sequences_nested_to_death_cost_a_reason_code() -> None:
    deep = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert refusal(WHOLE[:META_END] + deep * 20_000) == "malformed-dicom"


def test_a_length_that_leads_into_black_pixels_ends_soon() -> None:
    data = WHOLE[:PIXELS_AT] + bytes(4_000_000)
    assert refusal(data) == "malformed-dicom"


def test_an_element_of_four_gigabytes_asks_for_no_such_memory() -> None:
    huge = struct.pack("<HH2sHL", 0x0009, 0x1010, b"OB", 0, 0xFFFFFFF0) + bytes(100_000)
    assert refusal(WHOLE[:META_END] + huge) in ("malformed-dicom", "required-attribute-missing")


@pytest.mark.parametrize(
    "charset", ["ISO 2022 IR 149", "GB18030", "nonsense", "\\\\", "ISO_IR 192\\ISO 2022 IR 87"]
)
def test_a_character_set_does_not_keep_an_image_out(charset: str) -> None:
    made = dataset(StudyDescription="x")
    data = encoded(made)
    at = data.index(struct.pack("<HH", 0x0008, 0x0016), META_END - 4)
    raw = charset.encode().ljust(len(charset) + len(charset) % 2)
    element = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", len(raw)) + raw
    assert _is_read(data[:at] + element + data[at:].replace(b"x ", b"\xff\xfe"))
