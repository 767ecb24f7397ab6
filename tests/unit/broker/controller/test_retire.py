"""Which staged copies a new version of the grant leaves alone, and which it retires.  Pure."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.broker.controller.steps import retire, stage
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.documents.models.grant import Grant
from tests.support.party import GRANT

NAME = "outcomes"
DATA: dict[str, Any] = {
    "version": "sha256:" + "9" * 64,
    "profile": "table-basic@1",
    "cohort": "sha256:" + "1" * 64,
    "columns": {
        "nhs_number": {"rule": "patient-id", "issuer": "NHS"},
        "stage": {"rule": "category", "values": ["I", "II"]},
        "age": "age",
    },
    "select": {"Modality": ["CT", "MR"]},
}


def grant(**changes: Any) -> Grant:
    return Grant.model_validate(GRANT | {"data": {NAME: DATA | changes}})


def staged(select: dict[str, Any]) -> Copy:
    granted = grant().data[NAME]
    nothing: dict[str, Any] = dict.fromkeys(Copy.__dataclass_fields__)
    recipe = stage.recipe(granted, {**granted.select, **select})
    return Copy(**nothing | {"dataset": NAME, "version": granted.version, "recipe": recipe})


@pytest.mark.parametrize("select", [{}, {"Modality": ("CT",)}])
def test_a_copy_that_holds_what_the_grant_gives_or_less_of_its_items_stays(select: dict[str, Any]) -> None:
    assert retire.still_granted(grant(), staged(select))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "sha256:" + "8" * 64},
        {"profile": "table-basic@2"},
        {"cohort": "sha256:" + "2" * 64},
        {"columns": {name: said for name, said in DATA["columns"].items() if name != "age"}},
        {"columns": DATA["columns"] | {"stage": {"rule": "category", "values": ["I"]}}},
        {"columns": DATA["columns"] | {"nhs_number": "patient-id"}},
        {"pixels": {"deface": True}},
        {"select": {"Modality": ["CT"]}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_copy_of_other_or_more_data_is_retired(changes: dict[str, Any]) -> None:
    assert not retire.still_granted(grant(**changes), staged({}))
