"""Opt-outs over HTTP: ids go in, and nothing that comes out tells one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.core import clock, ids
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from tests.support.office import Office
from tests.support.party import OTHERS, REGISTRATION

OTHER = {"name": "south-ct"}
ROUTE = "/v1/opt-outs/south-ct"
PATIENT = "9434765919"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """With a dataset of which nobody said anything."""
    made = Office(tmp_path)
    made.accept("dataset-registration", REGISTRATION | OTHER, "ada", "bob")
    return made


def bring(office: Office, *patients: str, person: str = "ada") -> Any:
    return office.post(f"{ROUTE}/ids", OptOutIds.new(patients).to_bytes(), person)


def test_from_silence_to_a_list(office: Office) -> None:
    silent = office.get(ROUTE, "ada").json()
    assert (silent["version"], silent["list"], silent["about"]) == (0, None, None)
    told = bring(office, PATIENT, "A1").json()
    assert (told["count"], told["listed"]) == (2, [])
    value = OTHERS["opt-out-change"][1] | {
        "dataset": "south-ct",
        "ids": told["digest"],
        "nonce": ids.new_id(26),
        "at": clock.to_text(clock.now()),
    }
    assert office.accept("opt-out-change", value, "ada").kind == "opt-out-change"
    said = office.get(ROUTE, "ada").json()
    assert (said["version"], said["action"], said["about"]) == (1, "add", 10)
    assert bring(office, "943 476 5919", "B2").json()["listed"] == [0]
    assert PATIENT not in str(said)


def test_ids_that_are_none_are_refused_by_place_and_not_echoed(office: Office) -> None:
    answer = bring(office, "A1", "Jane Featherstone")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "patient-list-line")
    assert "line 2" in answer.text and "Featherstone" not in answer.text


def test_what_is_no_file_of_ids_or_too_large(office: Office) -> None:
    for raw in (b"", b"{}", b"[" * 50, b'{"schema":"hdrs-hpc/opt-out-ids/1","key":"!","ids":[]}'):
        assert office.post(f"{ROUTE}/ids", raw, "ada").status_code == 422
    assert office.post(f"{ROUTE}/ids", b"x" * (9 << 20), "ada").json()["error"]["code"] == "body-too-large"


def test_nobody_but_custodians_brings_ids(office: Office) -> None:
    for person in ("rae", "sam", "cy", "hal"):
        assert bring(office, "A1", person=person).status_code == 404
    assert office.post("/v1/opt-outs/other/ids", OptOutIds.new(["A1"]).to_bytes(), "ada").status_code == 404
