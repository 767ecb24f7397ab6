from __future__ import annotations

import copy
import io
import random
import warnings
from datetime import date
from pathlib import Path

import pydicom
import pytest
from phantom_phi_carriers import CARRIERS
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging.deid import object_profiles
from imaging.deid.engine import UndeidentifiableError, deidentify
from imaging.deid.files import NotDicomError, deidentify_file, deidentify_folder
from imaging.deid.keyed import DeidKey
from imaging.deid.object_profiles import ObjectProfile
from imaging.deid.profiles import UnknownProfileError

KEY = DeidKey(b"k" * 32)
OTHER_KEY = DeidKey(b"o" * 32)
BASIC = object_profiles.load("dicom-basic@1")
RESEARCH = object_profiles.load("dicom-research@1")


def read(name: str) -> Dataset:
    path = get_testdata_file(name)
    assert path is not None, name
    return pydicom.dcmread(str(path))


def ct(**values: object) -> Dataset:
    dataset = read("CT_small.dcm")
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def one(profile: ObjectProfile = RESEARCH, /, **values: object) -> Dataset:
    return deidentify(ct(**values), profile, KEY)


def test_the_source_is_not_changed() -> None:
    dataset = ct()
    before = copy.deepcopy(dataset)
    deidentify(dataset, RESEARCH, KEY)
    assert dataset == before


def test_it_says_that_it_was_deidentified_and_how() -> None:
    result = one()
    assert result.PatientIdentityRemoved == "YES"
    assert result.DeidentificationMethod == "hdrs-hpc dicom-research@1"
    assert [item.CodeValue for item in result.DeidentificationMethodCodeSequence] == [
        "113100", "113103", "113104", "113105", "113107", "113108", "113111",
    ]  # fmt: skip
    assert {item.CodingSchemeDesignator for item in result.DeidentificationMethodCodeSequence} == {"DCM"}


@pytest.mark.parametrize(("profile", "said"), [(BASIC, "REMOVED"), (RESEARCH, "MODIFIED")])
def test_it_says_what_became_of_its_dates(profile: ObjectProfile, said: str) -> None:
    assert one(profile).LongitudinalTemporalInformationModified == said


def test_codes_of_an_earlier_deidentification_stay_and_foreign_text_does_not() -> None:
    def code(value: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        return item

    result = one(
        DeidentificationMethod="by Grimshaw",
        DeidentificationMethodCodeSequence=Sequence([code("113110", "Grimshaw"), code("999", "Grimshaw")]),
    )
    codes = {item.CodeValue: item.CodeMeaning for item in result.DeidentificationMethodCodeSequence}
    assert codes["113110"] == "Retain UIDs Option"
    assert "999" not in codes
    assert "Grimshaw" not in str(result)


def test_the_same_patient_has_one_pseudonym_however_the_id_is_written() -> None:
    first, second = one(PatientID="943 476 5919"), one(PatientID="9434765919")
    assert first.PatientID == second.PatientID == KEY.patient("", "9434765919")
    assert first.PatientName == first.PatientID


def test_two_trusts_with_one_number_are_two_people() -> None:
    here, there = one(PatientID="12345", IssuerOfPatientID="A"), one(PatientID="12345", IssuerOfPatientID="B")
    assert here.PatientID != there.PatientID


def test_the_issuer_of_the_caller_stands_in_for_one_that_the_object_lacks() -> None:
    given = deidentify(ct(PatientID="1"), RESEARCH, KEY, "TRUST-A")
    named = one(PatientID="1", IssuerOfPatientID="TRUST-A")
    assert given.PatientID == named.PatientID


def test_accession_numbers_stay_one_to_one_and_apart_from_patient_ids() -> None:
    result = one(PatientID="777", AccessionNumber="777")
    assert result.AccessionNumber == one(AccessionNumber="777").AccessionNumber
    assert result.AccessionNumber not in result.PatientID
    assert len(result.AccessionNumber) <= 16


def test_dates_move_by_one_number_of_days_and_times_stay() -> None:
    result = one(
        StudyDate="20200228", AcquisitionDate="20200301", StudyTime="101112",
        AcquisitionDateTime="20200228235959.123456+0530", TimezoneOffsetFromUTC="+0530",
    )  # fmt: skip
    first, second = (date.fromisoformat(d) for d in (result.StudyDate, result.AcquisitionDate))
    assert (second - first).days == 2
    assert result.StudyDate != "20200228"
    assert result.AcquisitionDateTime == f"{result.StudyDate}235959.123456+0530"
    assert (result.StudyTime, result.TimezoneOffsetFromUTC) == ("101112", "+0530")


@pytest.mark.parametrize("value", ["2020", "202002", "20200228", "2020022810", "20200228101112.5-0100"])
def test_a_date_time_keeps_its_precision(value: str) -> None:
    moved = one(AcquisitionDateTime=value).AcquisitionDateTime
    assert len(moved) == len(value)
    assert moved[8:] == value[8:]


@pytest.mark.parametrize("value", ["tomorrow", "20209999", "Grimshaw", "20200228 Grimshaw"])
def test_a_date_that_is_none_goes(value: str) -> None:
    dataset = ct()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, where its validation is on
        dataset.StudyDate = value
    assert deidentify(dataset, RESEARCH, KEY).StudyDate == ""


def test_without_the_option_no_date_or_time_is_left() -> None:
    result = one(BASIC)
    for element in result.iterall():
        if element.VR in ("DA", "DT", "TM"):
            assert element.value in ("", "19000101", "19000101000000", "000000"), element.keyword


@pytest.mark.parametrize(
    ("age", "kept"), [("045Y", "045Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("104Y", "090Y")]
)
def test_ages_over_89_are_one_age(age: str, kept: str) -> None:
    assert one(PatientAge=age).PatientAge == kept


def test_an_age_inside_a_report_is_folded_too() -> None:
    dataset = read("test-SR.dcm")
    item, measured, unit = Dataset(), Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "a", "UCUM", "year"
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "97", Sequence([unit])
    item.ValueType, item.RelationshipType, item.MeasuredValueSequence = (
        "NUM",
        "CONTAINS",
        Sequence([measured]),
    )
    dataset.ContentSequence.append(item)
    result = deidentify(dataset, RESEARCH, KEY)
    assert result.ContentSequence[-1].MeasuredValueSequence[0].NumericValue == 90


def test_characteristics_of_the_patient_stay_only_under_their_option() -> None:
    assert one(PatientWeight="70").PatientWeight == 70
    assert "PatientWeight" not in one(BASIC, PatientWeight="70")


def test_uids_of_objects_change_and_those_of_the_standard_stay() -> None:
    dataset = read("rtplan.dcm")
    result = deidentify(dataset, RESEARCH, KEY)
    assert result.SOPClassUID == dataset.SOPClassUID
    assert result.SOPInstanceUID == KEY.uid(dataset.SOPInstanceUID)
    reference, before = result.ReferencedStructureSetSequence[0], dataset.ReferencedStructureSetSequence[0]
    assert reference.ReferencedSOPClassUID == before.ReferencedSOPClassUID
    assert reference.ReferencedSOPInstanceUID == KEY.uid(before.ReferencedSOPInstanceUID)


def test_file_meta_information_is_new_and_names_the_new_instance() -> None:
    dataset = ct()
    dataset.file_meta.SourceApplicationEntityTitle = "GRIMSHAW"
    result = deidentify(dataset, RESEARCH, KEY)
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID
    assert result.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID
    assert "SourceApplicationEntityTitle" not in result.file_meta
    assert getattr(result, "preamble", None) is None


def test_safe_private_numbers_stay_with_their_creator_and_all_else_private_goes() -> None:
    dataset = ct()
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0D, "CS", "GRIMSHAW LTD 1")
    block.add_new(0x08, "LO", "Grimshaw")
    dataset.PatientName = "Grimshaw^P"
    dataset.add_new(0x00471001, "LO", "nobody's")
    result = deidentify(dataset, RESEARCH, KEY)
    kept = result.private_block(0x0019, "SIEMENS MR HEADER")
    assert kept[0x0C].value == 1000
    assert 0x0D not in kept
    assert 0x08 not in kept
    assert 0x00471001 not in result
    assert not [e for e in deidentify(dataset, BASIC, KEY) if e.tag.is_private]


def test_a_safe_place_with_another_vr_is_not_safe() -> None:
    dataset = ct()
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "LO", "Grimshaw")
    assert "Grimshaw" not in str(deidentify(dataset, RESEARCH, KEY))


def test_overlays_stay_only_as_regions_and_only_under_their_option() -> None:
    dataset = ct()
    for group, kind in ((0x6000, "R"), (0x6002, "G")):
        dataset.add_new((group << 16) | 0x0040, "CS", kind)
        dataset.add_new((group << 16) | 0x0022, "LO", "Grimshaw")
        dataset.add_new((group << 16) | 0x3000, "OW", b"\1\2")
    dataset.add_new(0x50003000, "OW", b"\1\2")
    result = deidentify(dataset, RESEARCH, KEY)
    assert 0x60003000 in result
    assert 0x60000022 not in result
    groups = {element.tag.group for element in result}
    assert not groups & {0x6002, 0x5000}
    assert not {element.tag.group for element in deidentify(dataset, BASIC, KEY)} & {0x5000, 0x6000, 0x6002}


def test_the_tree_of_a_report_stays_valid_and_says_nothing_of_people() -> None:
    dataset = read("test-SR.dcm")
    result = deidentify(dataset, RESEARCH, KEY)

    def kinds(items: Sequence) -> list[object]:
        return [
            (i.get("ValueType"), i.get("RelationshipType"), kinds(i.get("ContentSequence", [])))
            for i in items
        ]

    assert kinds(result.ContentSequence) == kinds(dataset.ContentSequence)
    for element in result.iterall():
        if element.VR == "PN" and element.keyword != "PatientName":
            assert element.value in ("REMOVED", ""), element.keyword


def test_without_its_option_a_report_has_one_item_that_says_nothing() -> None:
    result = deidentify(read("test-SR.dcm"), BASIC, KEY)
    (item,) = result.ContentSequence
    assert (item.ValueType, item.TextValue) == ("TEXT", "REMOVED")


def test_what_lies_behind_the_last_sample_is_cut_off() -> None:
    dataset = ct()
    pixels = bytes(dataset.PixelData)
    dataset.PixelData = pixels + b"Grimshaw  "
    assert deidentify(dataset, RESEARCH, KEY).PixelData == pixels


def test_pixels_stay_to_the_bit() -> None:
    for name in (
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "JPEG-lossy.dcm",
        "liver_1frame.dcm",
    ):
        dataset = read(name)
        assert deidentify(dataset, RESEARCH, KEY).PixelData == dataset.PixelData


def test_text_of_no_known_attribute_and_bytes_of_no_known_kind_go() -> None:
    dataset = ct()
    dataset.add_new(0x00080099, "LO", "Grimshaw")
    dataset.add_new(0x00189999, "UN", b"Grimshaw")
    dataset.EncryptedAttributesSequence = Sequence([Dataset()])
    dataset.EncryptedAttributesSequence[0].EncryptedContent = b"Grimshaw"
    file = io.BytesIO()
    deidentify(dataset, RESEARCH, KEY).save_as(file, enforce_file_format=True)
    assert b"Grimshaw" not in file.getvalue()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("SOMATOM Definition AS+", "SOMATOM Definition AS+"),
        ("Ingenia Ambition X", "Ingenia Ambition X"),
        ("LightSpeed VCT", "LightSpeed VCT"),
        ("MAGNETOM Skyra Blenkinsop", "MAGNETOM Skyra"),
        ("Blenkinsop", "REMOVED"),
    ],
)
def test_a_model_keeps_its_name_and_nobody_elses(written: str, kept: str) -> None:
    assert one(ManufacturerModelName=written).ManufacturerModelName == kept


@pytest.mark.parametrize("keyword", ["EncapsulatedDocument", "DirectoryRecordSequence"])
def test_documents_and_indexes_are_refused(keyword: str) -> None:
    dataset = ct()
    setattr(dataset, keyword, b"%PDF" if keyword == "EncapsulatedDocument" else Sequence([]))
    with pytest.raises(UndeidentifiableError):
        deidentify(dataset, RESEARCH, KEY)


def test_burned_in_text_is_refused_unless_something_cleans_it() -> None:
    dataset = CARRIERS["burned-in US"]()
    dataset.SOPInstanceUID = "1.2.3"
    pixels_profile = object_profiles.load("dicom-research-pixels@1")
    with pytest.raises(UndeidentifiableError, match="burned"):
        deidentify(dataset, RESEARCH, KEY)
    with pytest.raises(UndeidentifiableError, match="nothing is given"):
        deidentify(dataset, pixels_profile, KEY)

    def blank(result: Dataset) -> None:
        result.PixelData = b"\0" * len(result.PixelData)

    result = deidentify(dataset, pixels_profile, KEY, pixels=blank)
    assert result.BurnedInAnnotation == "NO"
    assert not any(result.PixelData)
    assert any(dataset.PixelData)


def test_sequences_nested_beyond_all_reason_are_refused_and_do_not_exhaust_the_stack() -> None:
    dataset = inner = ct()
    for _ in range(60):
        deeper = Dataset()
        inner.ReferencedImageSequence = Sequence([deeper])
        inner = deeper
    with pytest.raises(UndeidentifiableError, match="nested"):
        deidentify(dataset, RESEARCH, KEY)


def test_another_key_gives_nothing_to_compare() -> None:
    first, second = deidentify(ct(), RESEARCH, KEY), deidentify(ct(), RESEARCH, OTHER_KEY)
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "StudyDate", "StudyID"):
        assert first[keyword].value != second[keyword].value, keyword


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(UnknownProfileError):
        object_profiles.load("annex-e-options")


def test_a_folder_is_written_under_new_names_and_what_is_refused_is_counted(tmp_path: Path) -> None:
    source, dest = tmp_path / "in" / "Grimshaw", tmp_path / "out"
    source.mkdir(parents=True)
    ct().save_as(source / "Grimshaw.dcm")
    (source / "notes.txt").write_text("Grimshaw")
    done = deidentify_folder(tmp_path / "in", dest, RESEARCH, KEY)
    assert (done.written, done.refused) == (1, {"deidentify-not-dicom": 1})
    (written,) = [path for path in dest.rglob("*") if path.is_file()]
    assert "Grimshaw" not in str(written.relative_to(tmp_path / "out"))
    assert pydicom.dcmread(written).PatientID == KEY.patient("", "1CT1")


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_file_is_written_clean_or_refused_and_never_a_crash(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    name = rng.choice(["CT_small.dcm", "MR_small_bigendian.dcm", "test-SR.dcm", "rtplan.dcm", "image_dfl.dcm",
                       "nested_priv_SQ.dcm", "JPEG2000.dcm"])  # fmt: skip
    path = get_testdata_file(name)
    assert path is not None
    raw = bytearray(Path(path).read_bytes())
    for _ in range(12):
        at = rng.randrange(132, min(len(raw), 3000))
        match rng.randrange(3):
            case 0:
                raw[at] = rng.randrange(256)
            case 1:
                del raw[at : at + rng.randrange(1, 20)]
            case 2:
                raw[at:at] = rng.randbytes(rng.randrange(1, 9))
    (tmp_path / "in").write_bytes(raw)
    try:
        deidentify_file(tmp_path / "in", tmp_path / "out", RESEARCH, KEY)
    except (NotDicomError, UndeidentifiableError):
        assert not (tmp_path / "out").exists()
    else:
        assert pydicom.dcmread(tmp_path / "out").PatientIdentityRemoved == "YES"


def test_a_broken_file_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0" * 400)
    with pytest.raises(NotDicomError):
        deidentify_file(tmp_path / "x", tmp_path / "y", RESEARCH, KEY)
    assert not (tmp_path / "y").exists()
