"""What became of data at staging is told to custodians, in counts and reasons, and to nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.broker.store import copies, transition
from tests.support.office import Office
from tests.support.party import REGISTRATION

FILE_NAME, PATIENT, ROW = "jones-mary-19520304.dcm", "NHS4857773456", 73_311_942
REPORT: dict[str, Any] = {
    "schema": "hdrs-hpc/staging-report/4",
    "made-for": {
        "project": "lung-fm",
        "dataset": "north-chest-ct",
        "grant": "version 1",
        "date": "2026-11-30",
    },
    "inventory": REGISTRATION["version"],
    "profile": "radiology-basic@1",
    "opt-out": {"list": "k" * 64, "about": 100},
    "in": {"items": 120, "bytes": 4096},
    "staged": {
        "volumes": 3,
        "slides": 0,
        "tables": 0,
        "items": 117,
        "patients": 2,
        "by-modality": [{"modality": PATIENT}],
    },
    "refused": {
        "not-dicom": {
            "count": 3,
            "items": [ROW],
            "failed": True,
            "meaning": "The file is neither DICOM nor a slide that this version reads.",
            "details": {FILE_NAME: 1},
        }
    },
    "unread": [{"items": [ROW], "lacks": [ROW]}],
    "notes": {FILE_NAME: 1},
}
"""Planted where a report never has them: what is told is chosen, not what is left of the whole."""


@pytest.fixture(scope="module")
def copy(office: Office) -> str:
    with office.db.write() as tx:
        made = copies.want(
            tx, "lung-fm", "north-chest-ct", REGISTRATION["version"], "isambard-ai", "{}", "k" * 64
        )
        transition.move(tx, "copy", made.subject, "PENDING", "STAGING")
        transition.move(tx, "copy", made.subject, "STAGING", "READY", report=REPORT)
    return made.id


def test_a_custodian_reads_counts_and_reasons_with_project_data_grant_and_date(
    office: Office, copy: str
) -> None:
    (told,) = office.get("/v1/projects/lung-fm/staging-reports", "ada").json()
    assert (told["copy"], told["state"], told["made-for"]) == (copy, "READY", REPORT["made-for"])
    assert (told["items-in"], told["items-staged"], told["patients"]) == (120, 117, 2)
    assert told["staged"] == {"volumes": 3, "slides": 0, "tables": 0}
    (reason,) = told["reasons"]
    assert (reason["code"], reason["count"], reason["failed"]) == ("not-dicom", 3, True)


def test_no_name_or_number_of_a_file_or_patient_is_in_it(office: Office, copy: str) -> None:
    text = office.get("/v1/projects/lung-fm/staging-reports", "ada").text
    for planted in (FILE_NAME, PATIENT, str(ROW), "k" * 64):
        assert planted not in text


@pytest.mark.parametrize("person", ["rae", "sam", "cy", "hal"])
def test_nobody_but_a_custodian_reads_it(office: Office, copy: str, person: str) -> None:
    """Neither the project's own researcher, nor that of another one, nor a checker, nor an admin."""
    answer = office.get("/v1/projects/lung-fm/staging-reports", person)
    assert answer.status_code == 404
    assert "volumes" not in answer.text and copy not in answer.text


def test_why_a_copy_could_not_be_made_is_told(office: Office) -> None:
    with office.db.write() as tx:
        made = copies.want(
            tx, "skin-fm", "north-chest-ct", REGISTRATION["version"], "isambard-ai", "{}", "k" * 64
        )
        transition.move(tx, "copy", made.subject, "PENDING", "DESTROYED", reason="too-many-failed")
    (told,) = office.get("/v1/projects/skin-fm/staging-reports", "ada").json()
    assert (told["state"], told["reason"]) == ("DESTROYED", "too-many-failed")
    assert (told["made-for"], told["reasons"]) == ({}, [])
