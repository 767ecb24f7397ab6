"""Any element may come under VR UN (PS3.5 6.2.2): a file means the same, whichever of its elements do."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pydicom
import pytest
from archive import SHARED, real
from dicom_files import dataset, frames, header, item
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from unknown_vr import rewritten

from imaging.deid import object_profiles
from imaging.deid.engine import deidentify
from imaging.deid.keyed import DeidKey
from imaging.staging.parsing.dicom import dataset as opening

KEYWORDS = (
    "ImageType", "PatientName", "StudyDescription", "EchoTime", "BodyPartExamined", "SliceThickness", "KVP",
    "ReferencedImageSequence.ReferencedSOPInstanceUID", "SmallestImagePixelValue",
)  # fmt: skip


def said(data: bytes) -> dict[str, Any]:
    """The parser's header without the place of the pixels, which moves."""
    found = header(data, *KEYWORDS)
    found["bare"] = found["bare"] and found["bare"]["high_bit"]
    return found


def enhanced(count: int = 3, **more: Any) -> Dataset:
    """A multi-frame CT whose geometry lies in functional groups."""
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, 2.5 * number])],
            FrameContentSequence=[
                item(TemporalPositionIndex=1, StackID="1", InStackPositionNumber=number + 1)
            ],
        )
        for number in range(count)
    ]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=2)],
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5, RescaleType="HU")],
    )
    return dataset(
        uid.EnhancedCTImageStorage, NumberOfFrames=count, SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups, PixelData=np.arange(6 * count, dtype="<u2").tobytes(), **more,
    )  # fmt: skip


def with_text() -> Dataset:
    made = dataset(
        PixelRepresentation=1, SmallestImagePixelValue=-3, PatientName="Müller^Jörg", StudyDescription="Größe",
        ReferencedImageSequence=[item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.3")],
        ModalityLUTSequence=[
            item(LUTDescriptor=[3, 0, 16], ModalityLUTType="HU", LUTData=struct.pack("<3H", 1, 2, 3))
        ],
        KVP=120, SliceThickness=2.5, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip
    made["SmallestImagePixelValue"].VR = "SS"
    made.ModalityLUTSequence[0]["LUTDescriptor"].VR = "SS"
    made.ModalityLUTSequence[0]["LUTData"].VR = "OW"
    block = made.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "700")
    return made


def palette() -> Dataset:
    tables = {
        f"{colour}PaletteColorLookupTableData": np.array([0, start, 65535], "<u2").tobytes()
        for colour, start in (("Red", 100), ("Green", 200), ("Blue", 300))
    }
    made = dataset(
        PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelData=bytes([0, 1, 2, 2, 1, 0]), **tables,
        **{f"{colour}PaletteColorLookupTableDescriptor": [3, 0, 16] for colour in ("Red", "Green", "Blue")},
    )  # fmt: skip
    for colour in ("Red", "Green", "Blue"):
        made[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        made[f"{colour}PaletteColorLookupTableData"].VR = "OW"
    made["PixelData"].VR = "OB"
    return made


MADE: dict[str, Callable[[], Dataset]] = {"enhanced": enhanced, "text": with_text, "palette": palette}


@pytest.mark.parametrize("plainly", [True, False])
@settings(max_examples=25, deadline=None)
@example(1.0, 0, False)
@given(st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.integers(0, 1 << 20), st.booleans())
@pytest.mark.parametrize("name", MADE)
def test_elements_under_un_mean_the_same(
    name: str, plainly: bool, share: float, seed: int, undefined: bool
) -> None:
    made = MADE[name]()
    random = Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        if not plainly:
            patch.setattr(opening, "read_plain", lambda *_: None)
        original = rewritten(made, uid.ExplicitVRLittleEndian, lambda _: False)
        # Headers are read along the file before: the original, then twice the same.
        wanted, pixels = said(original), frames(original)
        changed = rewritten(
            made, uid.ExplicitVRLittleEndian, lambda element: random.random() < share, undefined
        )
        for _ in range(2):
            assert said(changed) == wanted
            assert np.array_equal(frames(changed), pixels)
        assert said(original) == wanted


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.3, 1.0]), st.integers(0, 1 << 20))
def test_a_value_under_un_is_little_endian_in_a_big_endian_file(share: float, seed: int) -> None:
    random = Random(seed)
    made = enhanced()
    little = rewritten(made, uid.ExplicitVRLittleEndian, lambda _: False)
    wanted = said(little) | {"transfer_syntax": str(uid.ExplicitVRBigEndian), "bare": None}
    swapped = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()

    def unknown(element: Any) -> bool:
        return element.keyword != "PixelData" and random.random() < share

    made.PixelData = swapped
    changed = rewritten(made, uid.ExplicitVRBigEndian, unknown)
    assert said(changed) == wanted
    assert np.array_equal(frames(changed), frames(little))


def test_pixels_and_tables_under_un_are_little_endian_in_a_big_endian_file() -> None:
    made = palette()
    pixels = frames(rewritten(made, uid.ExplicitVRLittleEndian, lambda _: False))
    changed = rewritten(made, uid.ExplicitVRBigEndian, lambda element: True)
    assert np.array_equal(frames(changed), pixels)
    grey = dataset()
    assert frames(rewritten(grey, uid.ExplicitVRBigEndian, lambda element: True))[0].tolist() == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_groups_of_many_frames_are_longer_than_a_short_value_and_read_too() -> None:
    made = enhanced(1000)
    data = rewritten(made, uid.ExplicitVRLittleEndian, lambda element: element.VR == "SQ")
    assert len(data) - len(made.PixelData) > 1 << 16
    assert said(data) == said(rewritten(made, uid.ExplicitVRLittleEndian, lambda _: False))


NATIVE = ("CT_small.dcm", "MR_small.dcm", "rtdose_1frame.dcm", "examples_overlay.dcm", "SC_rgb_small_odd.dcm")


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("seed", range(4))
def test_real_files_mean_the_same(name: str, seed: int) -> None:
    _means_the_same(real(name), seed)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["eCT_Supplemental.dcm", "emri_small.dcm", "color-pl.dcm", "liver.dcm"])
def test_real_multi_frame_and_palette_files_mean_the_same(name: str) -> None:
    for seed in range(2):
        _means_the_same(SHARED / "radiology" / "pydicom-data" / name, seed)


def _means_the_same(path: Path, seed: int) -> None:
    made = pydicom.dcmread(path)
    pydicom.filewriter.correct_ambiguous_vr(made, True)
    made.walk(lambda _, element: None)  # all converted
    random = Random(seed)
    syntax = uid.ExplicitVRLittleEndian
    original = rewritten(made, syntax, lambda _: False)
    # What elements of an unknown private creator hold only their VR tells.
    changed = rewritten(
        made,
        syntax,
        lambda element: not element.tag.is_private and random.random() < (1.0 if seed == 0 else 0.4),
        undefined=seed % 2 == 1,
    )
    assert said(changed) == said(original)
    assert np.array_equal(frames(changed), frames(original))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("undefined", [False, True])
def test_whole_objects_are_deidentified_the_same(name: str, undefined: bool) -> None:
    made = MADE[name]()
    original = rewritten(made, uid.ExplicitVRLittleEndian, lambda _: False)
    changed = rewritten(made, uid.ExplicitVRLittleEndian, lambda element: True, undefined)
    profile, key = object_profiles.load("dicom-research@1"), DeidKey(b"k" * 32)
    results = [deidentify(pydicom.dcmread(io.BytesIO(data)), profile, key) for data in (original, changed)]
    written = []
    for result in results:
        buffer = io.BytesIO()
        result.save_as(buffer, enforce_file_format=True)
        written.append(buffer.getvalue())
    one, other = (pydicom.dcmread(io.BytesIO(data)) for data in written)
    for found in (one, other):
        del found.DeidentificationMethod
    assert str(one) == str(other)
    assert one.PixelData == other.PixelData
    assert b"ller" not in written[1] and b"UN" not in {element.VR.encode() for element in other}


def test_an_element_of_no_dictionary_stays_unknown() -> None:
    made = dataset()
    made.add_new(Tag(0x0018, 0x7777), "UN", b"\1\2")
    assert said(rewritten(made, uid.ExplicitVRLittleEndian, lambda _: True))["rows"] == 2
