"""What holds for any object: nobody's name survives anywhere, and equal input gives equal output."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from imaging.deid import object_profiles
from imaging.deid.annex_e import Option
from imaging.deid.engine import deidentify
from imaging.deid.keyed import DeidKey
from imaging.deid.object_profiles import ObjectProfile

KEY = DeidKey(b"k" * 32)
CANARY, NUMBER, DAY = "Quizzaciously", "9434765919", "19610502"
EVERYTHING = ObjectProfile(
    "everything@0", frozenset(Option) - {Option.RETAIN_FULL_DATES, Option.CLEAN_PIXELS, Option.RETAIN_UIDS}
)
PROFILES = [object_profiles.load("dicom-basic@1"), object_profiles.load("dicom-research@1"), EVERYTHING]
# Samples of pixels, waveforms and tables stay as they are: what is drawn or spoken in them is another matter.
SAMPLES = ("PixelData", "LUTData", "WaveformData", "ICCProfile", "PointIndexList", "CoordinatesData", "GridData",
           "ColorLookupTableData", "OffsetTable", "ChannelM", "WaveformPaddingValue")  # fmt: skip
KINDS: dict[str, Any] = {
    **dict.fromkeys(("LO", "SH", "PN", "ST", "LT", "UT", "UC", "AE"), CANARY),
    "CS": CANARY.upper(),
    "UR": f"http://{CANARY}.org",
    "UI": f"1.2.{NUMBER}.5",
    "IS": NUMBER[:9],
    "DS": NUMBER,
    "DA": DAY,
    "DT": DAY + "101500",
    **dict.fromkeys(("OB", "OW", "UN", "OB or OW"), (CANARY + " ").encode()),
    **dict.fromkeys(("OF", "OL"), (CANARY + "   ").encode()),
    **dict.fromkeys(("OD", "OV"), (CANARY + "   ").encode()),
}


def known() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_original_encoding(False, True)
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.{NUMBER}.4"
    dataset.StudyInstanceUID = f"1.2.{NUMBER}"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = f"{CANARY}^Zaphod", NUMBER, DAY
    dataset.OtherPatientIDs = NUMBER[:9]
    return dataset


def attributes() -> Iterator[tuple[int, str, str]]:
    """Every attribute of the dictionary that can hold a canary: tag, VR, keyword."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        refused = keyword in ("EncapsulatedDocument", "BurnedInAnnotation")
        if vr in KINDS and group >= 8 and not refused and not any(word in keyword for word in SAMPLES):
            yield tag, vr, keyword


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def element(tag: int, vr: str, value: Any) -> DataElement:
    return DataElement(tag, "OB" if vr == "OB or OW" else vr, value, validation_mode=config.IGNORE)


def is_clean(raw: bytes) -> bool:
    low = raw.lower()
    return not any(c.lower().encode() in low for c in (CANARY, "Zaphod", NUMBER, NUMBER[:9], DAY))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_attribute_of_the_whole_dictionary_lets_a_known_identifier_through(profile: ObjectProfile) -> None:
    dataset, item = known(), Dataset()
    count = 0
    for tag, vr, _ in attributes():
        if tag not in dataset:
            dataset[tag] = element(tag, vr, KINDS[vr])
        item[tag] = element(tag, vr, KINDS[vr])
        count += 1
    dataset.ReferencedSeriesSequence = Sequence([item])
    assert count > 2500
    result = deidentify(dataset, profile, KEY)
    raw = written(result)
    if not is_clean(raw):  # say which
        leaks = [e.keyword for e in result.iterall() if e.VR != "SQ" and not is_clean(str(e.value).encode())]
        raise AssertionError(leaks)


values = st.sampled_from(sorted({(tag, vr) for tag, vr, _ in attributes()}))
sequences = st.sampled_from(
    [tag for tag, row in sorted(DicomDictionary.items()) if row[0] == "SQ" and tag >> 16 >= 8]
)


@st.composite
def datasets(draw: st.DrawFn, depth: int = 3) -> Dataset:
    dataset = Dataset()
    around = draw(st.sampled_from(["{}", "CT {} chest", "({})", "x{}", "{}_{}", "{}\r\n{}"]))
    for tag, vr in draw(st.lists(values, max_size=6)):
        value = KINDS[vr]
        if vr in ("LO", "SH", "ST", "LT", "UT", "UC"):
            value = around.format(value, value)
        dataset[tag] = element(tag, vr, value)
    if depth:
        for tag in draw(st.lists(sequences, max_size=2, unique=True)):
            if tag != 0x00041220:
                dataset[tag] = element(tag, "SQ", Sequence(draw(st.lists(datasets(depth - 1), max_size=2))))
    if draw(st.booleans()):
        dataset.add_new(0x00E10010, "LO", draw(st.sampled_from([CANARY, "SIEMENS MED", ""])))
        dataset.add_new(0x00E11001, draw(st.sampled_from(["LO", "UN", "OB"])), CANARY.encode())
    return dataset


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(extra=datasets(), profile=st.sampled_from(PROFILES))
def test_no_identifier_survives_in_any_vr_or_nesting(extra: Dataset, profile: ObjectProfile) -> None:
    dataset = known()
    for one in extra:
        if one.tag not in dataset:
            dataset[one.tag] = one
    first, again = deidentify(dataset, profile, KEY), deidentify(dataset, profile, KEY)
    raw = written(first)
    assert is_clean(raw)
    assert raw == written(again), "equal input gives equal bytes"
    # The structure is stable: a second pass over the output takes nothing out and puts nothing in.
    second = deidentify(first, profile, KEY)
    assert [e.tag for e in second.iterall()] == [e.tag for e in first.iterall()]


@settings(max_examples=40, deadline=None)
@given(one=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
def test_two_projects_have_nothing_to_compare(one: bytes, other: bytes) -> None:
    profile = PROFILES[1]
    first, second = deidentify(known(), profile, DeidKey(one)), deidentify(known(), profile, DeidKey(other))
    equal = first.PatientID == second.PatientID
    assert equal is (one == other)
    assert (first.StudyInstanceUID == second.StudyInstanceUID) is (one == other)
