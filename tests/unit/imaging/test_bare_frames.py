"""Uncompressed frames that the stager reads itself, and headers read along the file before."""

import io
import json
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import uid

from imaging.staging.parsing.operations import answer
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.arrays import ArrayPlan
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.slabs import _stored
from imaging.staging.shards import shard
from tests.support.dicom_files import dataset, encoded


def header_of(data: bytes) -> InstanceHeader:
    ((raw, _),) = answer({"op": "header", "keywords": ["PatientID", "StudyDescription"]}, io.BytesIO(data))
    return InstanceHeader.model_validate_json(raw)


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("signed", [0, 1])
def test_bare_frames_are_what_a_parser_gives(high: int, signed: int) -> None:
    values = np.arange(6, dtype="<u2") * 9999
    data = encoded(
        dataset(BitsStored=12, HighBit=high, PixelRepresentation=signed, PixelData=values.tobytes())
    )
    header = header_of(data)
    stored = _stored(header, 0)
    assert stored is not None
    read = np.frombuffer(data, "<i2" if signed else "<u2", 6, stored.offset)
    ((said, blob),) = answer({"op": "frames", "frames": [0]}, io.BytesIO(data))
    parsed = np.frombuffer(blob, json.loads(said)["dtype"])
    assert ((read << stored.up) >> stored.down).tolist() == parsed.tolist()


@pytest.mark.parametrize(
    "data",
    [
        encoded(dataset(), uid.ExplicitVRBigEndian),
        encoded(dataset(BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x15\0")),
        encoded(
            dataset(
                SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8,
                BitsStored=8, HighBit=7, PixelData=bytes(18),
            )
        ),
    ],
    ids=["big-endian", "bits", "colour"],
)  # fmt: skip
def test_frames_that_need_more_than_reading_are_left_to_a_parser(data: bytes) -> None:
    assert header_of(data).bare is None


def test_a_header_does_not_depend_on_the_file_read_before() -> None:
    files = [
        encoded(dataset(PatientID="ONE", StudyDescription="M\xfcller", SpecificCharacterSet="ISO_IR 100")),
        encoded(dataset(PatientID="ONE", StudyDescription="M\xfcller", SpecificCharacterSet="ISO_IR 192")),
        encoded(dataset(PatientID="TWO", Rows=3, Columns=2)),
        encoded(dataset(PatientID="ONE")),
    ]
    forwards = [header_of(data) for data in files]
    backwards = [header_of(data) for data in reversed(files)]
    assert forwards == backwards[::-1]
    assert [header.patient_id for header in forwards] == ["ONE", "ONE", "TWO", "ONE"]
    assert (
        forwards[0].attributes["StudyDescription"] == forwards[1].attributes["StudyDescription"] == "Müller"
    )


def test_a_shard_is_its_chunks_then_where_each_lies() -> None:
    made = shard(np.arange(6, dtype="u1").reshape(2, 3), (2, 2), (1, 2), lambda chunk: chunk.tobytes())
    assert made[:8] == bytes([0, 1, 3, 4, 2, 0, 5, 0])
    assert np.frombuffer(made, "<u8", 4, 8).tolist() == [0, 4, 4, 4]
    assert len(made) == 8 + 32 + 4


def test_samples_of_two_bytes_are_compressed_as_planes_of_bits() -> None:
    assert ArrayPlan("zyx", (40, 40, 40), "<i2")._codec == (1, "bitshuffle", 256 << 10)


def test_text_is_read_under_the_character_set_of_its_own_file() -> None:
    said = encoded(dataset(StudyDescription="Müller", SpecificCharacterSet="ISO_IR 192"))
    start, length = said.index(b"\x08\x00\x05\x00CS"), 8 + len("ISO_IR 192")
    silent = said[:start] + said[start + length :]
    alone = header_of(silent).attributes["StudyDescription"]
    assert header_of(said).attributes["StudyDescription"] == "Müller" != alone
    assert header_of(silent).attributes["StudyDescription"] == alone


def test_an_element_that_comes_twice_teaches_nothing_to_the_files_after() -> None:
    victim = encoded(dataset(PatientID="VICTIM01", BurnedInAnnotation="YES"))
    evil = encoded(dataset(PatientID="EVIL0001", BurnedInAnnotation="NO"))
    for before, after in ((b"LO\x08\0VICTIM01", b"LO\x08\0EVIL0001"), (b"CS\x04\0YES ", b"CS\x02\0NO")):
        at = victim.index(before)
        stolen = victim[at - 4 : at + len(before)]
        place = evil.index(after) - 4
        evil = evil[:place] + stolen + evil[place:]
    keywords = ["PatientID", "BurnedInAnnotation"]

    def read(data: bytes) -> InstanceHeader:
        ((raw, _),) = answer({"op": "header", "keywords": keywords}, io.BytesIO(data))
        return InstanceHeader.model_validate_json(raw)

    # The victim's file was never read before: what is remembered of it is not what is tried here.
    assert read(evil).patient_id == "EVIL0001"
    after_it = read(victim)
    assert (after_it.patient_id, after_it.attributes["BurnedInAnnotation"]) == ("VICTIM01", "YES")


REAL = sorted(Path(pydicom.data.__file__).parent.glob("test_files/*.dcm"))


@pytest.mark.parametrize("taught_by", ["CT_small.dcm", "MR_small.dcm", "emri_small.dcm", "nothing"])
def test_headers_of_real_files_are_what_pydicom_alone_gives(
    taught_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = next((path.read_bytes() for path in REAL if path.name == taught_by), None)

    def told(data: bytes) -> object:
        try:
            return header_of(data)
        except Unreadable as refused:
            return refused.code

    compared = 0
    for path in REAL:
        data = path.read_bytes()
        if teacher is not None:
            header_of(teacher)
        along = told(data)
        with monkeypatch.context() as patched:
            patched.setattr("imaging.staging.parsing.dicom.dataset.read_plain", lambda *_: None)
            assert told(data) == along, path.name
        compared += isinstance(along, InstanceHeader)
    assert compared > 20
