from __future__ import annotations

import importlib
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from hdrs_hpc.catalogue.data_kinds import DATA_KINDS
from imaging.deid import profiles
from imaging.deid.keyed import DeidKey
from imaging.deid.rules import RULES, Patient, age_between

KEY = DeidKey(b"k" * 32)
PATIENT = Patient(KEY, "P0000000000000000")
TABLE = importlib.import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
KEYED = {"patient-id", "uid", "shifted-date", "shifted-datetime"}
# Rule -> option of PS3.15 E.3 under which an attribute that the table removes may be kept by this rule.
BY_OPTION = {
    "age": "113108",
    "sex": "113108",
    "time": "113107",
    "shifted-date": "113107",
    "shifted-datetime": "113107",
    "harmless-words": "113105",
}
CHARACTERISTICS = {"PatientSize", "PatientWeight"}  # numbers, kept under 113108


def last(keyword: str) -> str:
    return keyword.rpartition(".")[2]


def actions(keyword: str) -> set[str]:
    """Names of the annex E lists of the maintained table that an attribute is in."""
    tag = tag_for_keyword(last(keyword))
    assert tag is not None, keyword
    pair = (tag >> 16, tag & 0xFFFF)
    return {
        name
        for name in dir(TABLE)
        if name.endswith("_TAGS") and name != "ALL_TAGS" and pair in getattr(TABLE, name)
    }


@pytest.mark.parametrize("name", profiles.names())
def test_nothing_that_annex_e_removes_is_kept_without_a_keyed_replacement(name: str) -> None:
    profile = profiles.load(name)
    for keyword, rule in profile.attributes.items():
        for step in keyword.split("."):
            if not actions(step) or rule in ("uid", "patient-id"):
                continue
            assert step == last(keyword), "no sequence that the table removes is looked into"
            option = "113108" if keyword in CHARACTERISTICS else BY_OPTION[rule]
            assert option in profile.options, keyword


@pytest.mark.parametrize("name", profiles.names())
def test_every_attribute_of_a_profile_is_in_the_dictionary_and_its_path_goes_through_sequences(
    name: str,
) -> None:
    for keyword in profiles.load(name).attributes:
        *path, leaf = keyword.split(".")
        assert all(dictionary_VR(step) == "SQ" for step in path), keyword
        assert dictionary_VR(leaf) != "SQ", keyword


def test_the_table_that_is_compared_with_is_the_real_one() -> None:
    assert actions("PatientName")
    assert actions("StudyDescription") == {"X_TAGS"}
    assert actions("SeriesInstanceUID") == {"U_TAGS"}
    assert not actions("KVP")


@pytest.mark.parametrize("name", profiles.names())
def test_every_uid_and_date_that_is_kept_is_replaced_under_the_key(name: str) -> None:
    for keyword, rule in profiles.load(name).attributes.items():
        kind = dictionary_VR(last(keyword))
        assert (rule == "uid") == (kind == "UI"), keyword
        assert (rule == "shifted-date") == (kind == "DA"), keyword
        assert (rule == "shifted-datetime") == (kind == "DT"), keyword
        assert (rule == "time") == (kind == "TM"), keyword


@pytest.mark.parametrize("name", profiles.names())
def test_no_attribute_of_free_text_is_kept(name: str) -> None:
    closed = {"manufacturer", "patient-id", "short-name", "coded"}
    for keyword, rule in profiles.load(name).attributes.items():
        if dictionary_VR(last(keyword)) in ("LO", "LT", "PN", "SH", "ST", "UC", "UT", "UN"):
            assert rule in closed or (rule == "harmless-words" and "113105" in profiles.load(name).options), (
                keyword
            )


def test_the_radiology_profile_keeps_some_forty_attributes() -> None:
    assert 35 <= len(profiles.load("radiology-basic@1").attributes) <= 60


@pytest.mark.parametrize(
    "keyword",
    ["StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments", "PatientName", "PatientBirthDate",
     "InstitutionName", "StationName", "AccessionNumber", "StudyTime", "OperatorsName", "DeviceSerialNumber"],
)  # fmt: skip
def test_attributes_that_carry_names_or_text_do_not_pass(keyword: str) -> None:
    profile = profiles.load("radiology-basic@1")
    assert profile.apply(PATIENT, {keyword: "CANARY", "Modality": "CT"}) == {"Modality": "CT"}


@pytest.mark.parametrize(
    ("rule", "value", "kept"),
    [
        ("age", "045Y", "045Y"),
        ("age", "89Y", "089Y"),
        ("age", "090Y", "090Y"),
        ("age", "103Y", "090Y"),
        ("age", "1099M", None),
        ("age", "014W", "014W"),
        ("age", "forty", None),
        ("sex", "F", "F"),
        ("sex", "JANE DOE", None),
        ("body-part", "CHEST", "CHEST"),
        ("body-part", "chest ", "CHEST"),
        ("body-part", "JANE DOE", None),
        ("manufacturer", "SIEMENS Healthineers", "SIEMENS"),
        ("manufacturer", "GE MEDICAL SYSTEMS", "GE"),
        ("manufacturer", "Jane Doe's workshop", "OTHER"),
        ("code", "AXIAL", "AXIAL"),
        ("code", ("ORIGINAL", "PRIMARY"), ("ORIGINAL", "PRIMARY")),
        ("code", "Jane", None),
        ("code", ("AXIAL", "SEEN BY DR. X"), None),
        ("code", "A" * 17, None),
        ("short-name", "B30f", "B30f"),
        ("short-name", "a name that is far too long", None),
        ("short-name", "J\u00e4ne", None),
        ("number", 1.5, 1.5),
        ("number", "2.5", 2.5),
        ("number", (1, 2), (1, 2)),
        ("number", "19880412 JANE", None),
        ("number", float("nan"), None),
        ("number", "inf", None),
        ("number", 943476591900000000, None),
        ("time", "121530.25", "121530"),
        ("time", "12:15:30", "121530"),
        ("time", "noon", None),
        ("coded", "T-D4000", "T-D4000"),
        ("coded", "818981001", "818981001"),
        ("coded", "SCT", "SCT"),
        ("coded", "Jane Doe", None),
        ("harmless-words", "AX T1 brain, Jane Doe", "AX T1 brain"),
        ("harmless-words", "seen by Dr Grimshaw 12/03/2014", "seen by"),
        ("harmless-words", "Grimshaw", None),
    ],
)
def test_a_rule_keeps_only_what_it_names(rule: str, value: Any, kept: Any) -> None:
    assert RULES[rule](PATIENT, value) == kept


@pytest.mark.parametrize(
    ("birth", "study", "age"),
    [
        ("19600615", "20200614", "059Y"),
        ("19600615", "20200615", "060Y"),
        ("19300101", "20191231", "089Y"),
        ("19300101", "20200101", "090Y"),
        ("18800101", "20200101", "090Y"),
        ("20210101", "20200101", None),
        ("", "20200101", None),
    ],
)
def test_an_absent_age_comes_from_two_dates(birth: str, study: str, age: str | None) -> None:
    assert age_between(birth, study) == age


def test_the_newest_profile_of_a_kind_is_its_default() -> None:
    for kind in DATA_KINDS.values():
        profile = profiles.load(kind.profile)
        family = profile.name.partition("@")[0]
        assert profile.kind == kind.name
        assert profile.name == sorted(name for name in profiles.names() if name.startswith(family + "@"))[-1]


def test_the_inputs_of_an_uptake_value_are_kept() -> None:
    injection = "RadiopharmaceuticalInformationSequence."
    wanted = {"PatientWeight", "Units", "DecayCorrection", "SeriesDate", "SeriesTime", "AcquisitionDate",
              "AcquisitionTime", "FrameReferenceTime", injection + "RadionuclideTotalDose",
              injection + "RadionuclideHalfLife", injection + "RadiopharmaceuticalStartTime",
              injection + "RadiopharmaceuticalStartDateTime"}  # fmt: skip
    assert wanted <= set(profiles.load("radiology-basic@2").attributes)


def test_the_time_from_injection_to_scan_survives_the_shift() -> None:
    start = "RadiopharmaceuticalInformationSequence.RadiopharmaceuticalStartDateTime"
    kept = profiles.load("radiology-basic@2").apply(
        PATIENT, {start: "20200229101500.000000+0100", "SeriesDate": "20200229", "SeriesTime": "111500"}
    )
    assert kept[start] == f"{kept['SeriesDate']}101500.000000+0100"
    assert kept["SeriesDate"] != "20200229"
    assert kept["SeriesTime"] == "111500"


def test_the_strict_profile_keeps_nothing_of_time_or_body() -> None:
    kept = set(profiles.load("radiology-strict@1").attributes)
    assert not kept & {"StudyDate", "SeriesTime", "PatientAge", "PatientSex", "PatientSize", "PatientWeight"}


def test_released_profiles_do_not_change() -> None:
    assert len(profiles.load("radiology-basic@1").attributes) == 49
    assert set(profiles.load("slide-basic@1").attributes) == {
        "Manufacturer",
        "Modality",
        "ObjectiveLensPower",
    }


def test_an_item_of_nobody_known_gets_no_pseudonym() -> None:
    assert profiles.load("slide-basic@2").apply(Patient(KEY, ""), {"PatientID": "123"}) == {}


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(profiles.UnknownProfileError):
        profiles.load("../radiology-basic@1")
