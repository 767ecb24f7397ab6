from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom
import pytest

from imaging.deid.body_parts import BODY_PARTS, term_of
from imaging.staging.selection import Selection, SelectionError

CT = {"Modality": "CT", "StudyDate": "20190131", "BodyPartExamined": "chest"}


@pytest.mark.parametrize(
    ("select", "holds"),
    [
        ({}, True),
        ({"Modality": ["CT"]}, True),
        ({"Modality": "CT"}, True),
        ({"Modality": ["MR", "CT"]}, True),
        ({"Modality": ["MR"]}, False),
        ({"BodyPartExamined": ["CHEST"]}, True),
        ({"BodyPartExamined": ["CHEST"], "Modality": ["MR"]}, False),
        ({"PatientSex": ["F"]}, False),
        ({"StudyDate": "2019-01-31/2019-01-31"}, True),
        ({"StudyDate": "2019-02-01/2023-12-31"}, False),
        ({"StudyDate": "2010-01-01/2019-01-30"}, False),
    ],
)
def test_all_conditions_must_hold(select: dict[str, Any], holds: bool) -> None:
    assert Selection.parse(select).holds(CT) is holds


@pytest.mark.parametrize("value", [None, "", "2019", "unknown"])
def test_an_item_without_a_readable_date_is_not_selected_by_date(value: str | None) -> None:
    attributes = {} if value is None else {"StudyDate": value}
    assert not Selection.parse({"StudyDate": "1900-01-01/2100-01-01"}).holds(attributes)


@pytest.mark.parametrize(
    "select",
    [
        {"PatientName": ["X"]},
        {"Modality": []},
        {"Modality": [1]},
        {"Modality": {"CT": 1}},
        {"StudyDate": "2019-01-01"},
        {"StudyDate": "2020-01-01/2019-01-01"},
        {"StudyDate": ["2019-01-01", "2020-01-01"]},
        {"StudyDate": "2019-13-01/2020-01-01"},
        {"PatientAge": ["young"]},
        {"PatientAge": ["64-18"]},
        {"PatientAge": []},
    ],
)
def test_a_selection_that_means_nothing_is_refused(select: dict[str, Any]) -> None:
    with pytest.raises(SelectionError):
        Selection.parse(select)


ABDOMEN = {
    "AnatomicRegionSequence.CodeValue": "818981001",
    "AnatomicRegionSequence.CodingSchemeDesignator": "SCT",
}
HEAD_OLD = {
    "AnatomicRegionSequence.CodeValue": "T-D1100",
    "AnatomicRegionSequence.CodingSchemeDesignator": "SRT",
}


@pytest.mark.parametrize(
    ("attributes", "wanted", "holds"),
    [
        (ABDOMEN, "ABDOMEN", True),
        (ABDOMEN, "CHEST", False),
        (HEAD_OLD, "HEAD", True),
        ({**ABDOMEN, "AnatomicRegionSequence.CodingSchemeDesignator": "99HERE"}, "ABDOMEN", False),
        ({**ABDOMEN, "BodyPartExamined": "CHEST"}, "CHEST", True),
        ({"BodyPartExamined": ""}, "CHEST", False),
    ],
)
def test_a_body_part_is_also_known_by_its_code(attributes: dict[str, Any], wanted: str, holds: bool) -> None:
    assert Selection.parse({"BodyPartExamined": [wanted]}).holds(attributes) is holds


def test_every_code_of_a_body_part_is_that_of_the_standard() -> None:
    regions = json.loads(
        (Path(highdicom.__file__).parent / "_standard" / "anatomic_regions.json").read_text("utf-8")
    )
    checked = 0
    for term in BODY_PARTS & set(regions):
        scheme, code = regions[term][:2]
        found = term_of(code, scheme)
        assert found is not None and regions[found][1] == code, term
        checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    ("attributes", "ranges", "holds"),
    [
        ({"PatientAge": "045Y"}, ["18-64"], True),
        ({"PatientAge": "018Y"}, ["18-64"], True),
        ({"PatientAge": "064Y"}, ["18-64"], True),
        ({"PatientAge": "065Y"}, ["18-64"], False),
        ({"PatientAge": "065Y"}, ["18-64", "65-"], True),
        ({"PatientAge": "030M"}, ["0-2"], True),
        ({"PatientAge": "036M"}, ["0-2"], False),
        ({"PatientBirthDate": "20000615", "StudyDate": "20180614"}, ["18-64"], False),
        ({"PatientBirthDate": "20000615", "StudyDate": "20180615"}, ["18-64"], True),
        ({"PatientBirthDate": "20000615"}, ["0-"], False),
        ({"PatientAge": "old"}, ["0-"], False),
        ({}, ["0-"], False),
    ],
)
def test_ages_are_whole_years_at_the_study(
    attributes: dict[str, Any], ranges: list[str], holds: bool
) -> None:
    assert Selection.parse({"PatientAge": ranges}).holds(attributes) is holds


def test_a_selection_names_what_it_must_be_told() -> None:
    assert Selection.parse({}).keywords == frozenset()
    assert Selection.parse({"Modality": ["CT"]}).keywords == {"Modality"}
    assert Selection.parse({"PatientAge": ["0-9"]}).keywords == {
        "PatientAge",
        "PatientBirthDate",
        "StudyDate",
    }
    assert "AnatomicRegionSequence.CodeValue" in Selection.parse({"BodyPartExamined": ["CHEST"]}).keywords
