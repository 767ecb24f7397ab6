"""The table of PS3.15 E.1-1 and its options, held against rows that were read in the standard by a person."""

from __future__ import annotations

import importlib

import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.sr.codedict import codes

from imaging.deid import annex_e, object_profiles
from imaging.deid.annex_e import Action, Option

TABLE = importlib.import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
NONE: frozenset[Option] = frozenset()


def action(keyword: str, *options: Option) -> Action | None:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return annex_e.action(tag, dictionary_VR(tag), frozenset(options))


@pytest.mark.parametrize(
    ("keyword", "wanted"),
    [
        ("PatientName", Action.EMPTY),
        ("PatientID", Action.DUMMY),
        ("PatientBirthDate", Action.EMPTY),
        ("PatientAge", Action.REMOVE),
        ("StudyDescription", Action.REMOVE),
        ("StudyDate", Action.EMPTY),
        ("ContentDate", Action.DUMMY),
        ("AcquisitionDateTime", Action.DUMMY),
        ("StudyInstanceUID", Action.UID),
        ("DeviceUID", Action.UID),
        ("ReferencedImageSequence", Action.GO_IN),
        ("RequestAttributesSequence", Action.REMOVE),
        ("ContentSequence", Action.DUMMY),
        ("InstitutionName", Action.DUMMY),
        ("KVP", None),
        ("Rows", None),
    ],
)
def test_without_options_the_last_alternative_of_the_table_is_taken(
    keyword: str, wanted: Action | None
) -> None:
    assert action(keyword) is wanted


@pytest.mark.parametrize(
    ("keyword", "option", "wanted"),
    [
        ("StudyDate", Option.RETAIN_MODIFIED_DATES, Action.SHIFT),
        ("StudyDate", Option.RETAIN_FULL_DATES, Action.KEEP),
        ("StudyTime", Option.RETAIN_MODIFIED_DATES, Action.SHIFT),
        ("TimezoneOffsetFromUTC", Option.RETAIN_MODIFIED_DATES, Action.KEEP),
        ("PatientBirthDate", Option.RETAIN_FULL_DATES, Action.EMPTY),
        ("PatientBirthDate", Option.RETAIN_MODIFIED_DATES, Action.EMPTY),
        ("PatientAge", Option.RETAIN_PATIENT_CHARACTERISTICS, Action.KEEP),
        ("Allergies", Option.RETAIN_PATIENT_CHARACTERISTICS, Action.CLEAN),
        ("StudyInstanceUID", Option.RETAIN_UIDS, Action.KEEP),
        ("DeviceUID", Option.RETAIN_DEVICE_IDENTITY, Action.KEEP),
        ("StudyInstanceUID", Option.RETAIN_DEVICE_IDENTITY, Action.UID),
        ("DeviceSerialNumber", Option.RETAIN_DEVICE_IDENTITY, Action.KEEP),
        ("InstitutionName", Option.RETAIN_INSTITUTION_IDENTITY, Action.KEEP),
        ("InstitutionName", Option.RETAIN_DEVICE_IDENTITY, Action.DUMMY),
        ("StudyDescription", Option.CLEAN_DESCRIPTORS, Action.CLEAN),
        ("RequestAttributesSequence", Option.CLEAN_DESCRIPTORS, Action.GO_IN),
        ("PatientAddress", Option.CLEAN_DESCRIPTORS, Action.REMOVE),
        ("ContentSequence", Option.CLEAN_STRUCTURED_CONTENT, Action.GO_IN),
        ("AcquisitionContextSequence", Option.CLEAN_STRUCTURED_CONTENT, Action.GO_IN),
        ("GraphicAnnotationSequence", Option.CLEAN_GRAPHICS, Action.GO_IN),
    ],
)
def test_an_option_changes_what_its_column_names(keyword: str, option: Option, wanted: Action) -> None:
    assert action(keyword, option) is wanted


def test_every_row_of_the_table_has_an_action_under_every_option() -> None:
    rows = [tag for tag in TABLE.ALL_TAGS if len(tag) == 2]
    assert len(rows) > 600
    for options in (NONE, frozenset(Option) - {Option.RETAIN_FULL_DATES}):
        for group, element in rows:
            assert annex_e.action((group << 16) | element, "LO", options) is not None


@pytest.mark.parametrize("tag", [0x50000005, 0x50FE2000, 0x60003000, 0x60023000, 0x60104000])
def test_curves_and_overlays_are_found_by_their_masks(tag: int) -> None:
    assert annex_e.listed(tag) == "X"


def test_attributes_of_options_are_rows_of_the_table() -> None:
    table = annex_e.option_table()
    for column in ("device", "institution", "characteristics", "descriptors", "structured", "graphics"):
        for tag in getattr(table, column):
            assert annex_e.listed(tag) is not None, hex(tag)


def test_no_identifier_is_taken_for_a_description() -> None:
    names = {keyword_for_tag(tag) for tag in annex_e.option_table().descriptors}
    assert not {n for n in names if n.endswith(("ID", "Name", "Number", "Address")) and n not in
                {"ProtocolName", "ROIName", "RTPlanName", "StructureSetName", "EntityName",
                 "PositionAcquisitionTemplateName"}}  # fmt: skip


@pytest.mark.parametrize("name", object_profiles.names())
def test_a_profile_of_objects_says_what_it_does_in_the_codes_of_the_standard(name: str) -> None:
    profile = object_profiles.load(name)
    assert "113100" in profile.codes
    assert set(profile.codes) == {"113100", *map(str, profile.options)}
    assert all(profile.codes.values())


def test_the_codes_are_those_of_the_standard() -> None:
    group = {
        code.value: code.meaning for code in (getattr(codes.cid7050, name) for name in codes.cid7050.dir())
    }
    for code, meaning in annex_e.MEANINGS.items():
        assert group[str(code)] == meaning
