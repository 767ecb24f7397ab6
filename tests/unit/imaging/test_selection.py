from __future__ import annotations

from typing import Any

import pytest

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
    ],
)
def test_a_selection_that_means_nothing_is_refused(select: dict[str, Any]) -> None:
    with pytest.raises(SelectionError):
        Selection.parse(select)
