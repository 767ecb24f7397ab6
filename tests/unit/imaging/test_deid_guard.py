"""What an instance says of people is looked for in what a profile would keep of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from imaging.deid import profiles
from imaging.deid.guard import IDENTIFYING, guard
from imaging.deid.keyed import DeidKey
from imaging.deid.rules import Patient

PATIENT = Patient(DeidKey(b"k" * 32), "P0000000000000000")
SMITH = {
    "PatientName": "SMITH^JOHN",
    "PatientID": "9434765919",
    "PatientBirthDate": "19500412",
    "AccessionNumber": "RX-77120",
    "OperatorsName": "Lee^Mary",
    "InstitutionName": "Grimshaw Radiology Centre",
}
BASIC = profiles.load("radiology-basic@2")
REGION = "AnatomicRegionSequence."
ISOTOPE = "RadiopharmaceuticalInformationSequence.RadionuclideTotalDose"


def kept(attributes: dict[str, Any], name: str = "radiology-basic@2") -> dict[str, Any]:
    return profiles.load(name).apply(PATIENT, attributes)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ConvolutionKernel", "SMITH"),
        ("ConvolutionKernel", "Smith 30f"),
        ("ConvolutionKernel", "B30-SMITHJOHN"),
        ("ConvolutionKernel", ("B30f", "JOHN")),
        ("ConvolutionKernel", "1950"),
        ("ReceiveCoilName", "Grimshaw"),
        ("ReceiveCoilName", "LEE"),
        ("ReceiveCoilName", "C77120"),
        ("ImageType", ("ORIGINAL", "PRIMARY", "AXIAL", "SMITH")),
        ("ScanOptions", "SMITHJ"),
        ("ScanOptions", "J_SMITH"),
        ("ExposureControlMode", "MARY"),
        ("WindowCenter", 943476),
        ("WindowWidth", 19500412),
        ("WindowWidth", (400, 19500412.0)),
    ],
)  # fmt: skip
def test_a_value_with_a_name_or_an_id_of_the_same_instance_stays_behind(keyword: str, value: Any) -> None:
    people = {**SMITH, "StudyID": "943476"}
    assert keyword not in kept({**people, keyword: value})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ConvolutionKernel", "B30f"),
        ("ConvolutionKernel", ("Qr40d", "3")),
        ("ConvolutionKernel", "STANDARD"),
        ("ImageType", ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI")),
        ("ImageType", ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D")),
        ("ScanOptions", "HELICAL MODE"),
        ("Modality", "CT"),
        ("BodyPartExamined", "CHEST"),
        ("ReceiveCoilName", "HEAD_8"),
        ("WindowCenter", 40),
        ("XRayTubeCurrentInuA", 320000),
    ],
)
def test_what_says_nothing_of_people_stays(keyword: str, value: Any) -> None:
    assert kept({**SMITH, keyword: value})[keyword] == value


def test_a_name_that_is_a_word_of_the_standard_costs_no_closed_term() -> None:
    people = {"PatientName": "CHEST^CT", "PatientID": "CT"}
    assert kept({**people, "BodyPartExamined": "CHEST", "Modality": "CT"}).keys() >= {
        "BodyPartExamined",
        "Modality",
    }


@pytest.mark.parametrize("name", profiles.names())
@pytest.mark.parametrize("keyword", ["ConvolutionKernel", "ImageType", "Modality", "ScanOptions"])
def test_no_profile_keeps_a_name_in_a_code(name: str, keyword: str) -> None:
    assert keyword not in kept({**SMITH, keyword: "SMITH"}, name)


def test_a_description_loses_the_name_and_keeps_the_rest() -> None:
    said = {"PatientName": "STONE^WEST", "StudyDescription": "CT chest Stone West"}
    assert kept(said, "radiology-described@1")["StudyDescription"] == "CT chest"


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_asks_for_what_it_looks_for_and_keeps_none_of_it(name: str) -> None:
    profile = profiles.load(name)
    assert profile.keywords >= IDENTIFYING
    assert set(kept(dict.fromkeys(IDENTIFYING, "9434765919"), name)) <= {"PatientID"}
    assert {"PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber", "StudyID",
            "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName",
            } <= IDENTIFYING  # fmt: skip


def test_names_come_from_the_whole_instance_where_only_some_attributes_are_judged() -> None:
    some = {"ConvolutionKernel": "LEE"}
    assert BASIC.apply(PATIENT, some) == some
    assert BASIC.apply(PATIENT, some, {**SMITH, **some}) == {}


def test_one_patient_is_prepared_for_once() -> None:
    assert guard({**SMITH, "KVP": 100}) is guard({**SMITH, "KVP": 120})


@pytest.mark.parametrize("keyword", sorted(IDENTIFYING))
@pytest.mark.parametrize(
    "value", ["=^^=\\^ =", "J\u00e4ne^D\u00f6e=\u5c71\u7530", "*(", ("1CT1", "9434765919"), 9434765919, 1.5]
)
def test_identifiers_may_be_written_in_any_way(keyword: str, value: Any) -> None:
    assert all(tag_for_keyword(step) for step in keyword.split("."))
    assert kept({keyword: value, "Modality": "CT"})["Modality"] == "CT"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ConvolutionKernel", "John Smith 1950"),
        ("ReceiveCoilName", "NHS 9434765919"),
        ("ReceiveCoilName", "943 476 5919"),
        ("Modality", "SMITH JOHN"),
        ("Modality", "SMITH"),
        ("ImageType", ("ORIGINAL", "SMITH JOHN")),
        ("ImageType", ("SMITH", "PRIMARY")),
        ("ImageType", ("ORIGINAL", "PRIMARY", "SMITH JOHN")),
        ("ImageType", "SMITH JOHN"),
        ("ScanOptions", "9434765919"),
        ("ScanOptions", "943_476_5919"),
        ("ScanOptions", "SMITH JOHN"),
        ("PatientWeight", 9434765919),
        ("PatientWeight", 19500412),
        ("PatientWeight", -1),
        ("PatientSize", 172),
        ("KVP", 9434765919),
        ("KVP", "0043476591"),
        (REGION + "CodeValue", "9434765919"),
        (REGION + "CodeValue", "19500412"),
        (REGION + "CodeValue", "T-SMITH"),
        (REGION + "CodingSchemeDesignator", "SMITH"),
    ],
)  # fmt: skip
def test_what_has_the_form_of_a_person_stays_behind_though_nobody_is_named(keyword: str, value: Any) -> None:
    said = {REGION + "CodingSchemeDesignator": "SCT", REGION + "CodeValue": "818981001", keyword: value}
    assert keyword not in kept(said)


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientWeight", 82.5), ("PatientSize", 1.72), (ISOTOPE, 370123456.0)]
)
def test_weight_size_and_dose_stay(keyword: str, value: float) -> None:
    assert kept({keyword: value})[keyword] == value


def test_a_dose_as_long_as_an_id_is_rounded() -> None:
    assert kept({ISOTOPE: 9434765919.0})[ISOTOPE] == 9430000000.0


def test_a_code_stays_with_its_scheme_or_not_at_all() -> None:
    code = {REGION + "CodeValue": "818981001", REGION + "CodingSchemeDesignator": "SCT"}
    assert kept(code) == code
    assert kept({**code, REGION + "CodingSchemeDesignator": "99HERE"}) == {}
    assert kept({REGION + "CodeValue": "818981001"}) == {}
