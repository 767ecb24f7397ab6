"""``imaging pseudonym``: from an id to what a copy has for it, and back by the map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from archive import series, uid
from click.testing import CliRunner

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone


def told(*argv: object, code: int = 0, given: str | None = None) -> list[dict[str, Any]]:
    result = CliRunner().invoke(imaging, [str(part) for part in ("pseudonym", "--json", *argv)], input=given)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pseudonym")
    standalone.new_secret(root / "secret")
    series(root / "archive" / "a", name="a", slices=2, patient="943 476 5919")
    series(root / "archive" / "b", name="b", slices=2, patient="X-1", IssuerOfPatientID="LEEDS")
    words = [
        "stage",
        root / "archive",
        root / "copy",
        "--secret",
        root / "secret",
        "--items",
        root / "map.csv",
    ]
    words += ["--no-opt-out", "made for tests"]
    result = CliRunner().invoke(imaging, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return root


def test_what_it_tells_is_what_the_copy_has(place: Path) -> None:
    rows = standalone.open_staged(place / "copy", place / "secret").index().to_pylist()
    by_patient = {row["patient"]: row for row in rows}
    secret = ("--secret", place / "secret")
    for spelled in ("943 476 5919", "9434765919", " 943 4765919 "):
        (one,) = told(spelled, *secret)
        assert one["stands-for-it"] in by_patient
    mine = by_patient[one["stands-for-it"]]
    for name in ("study", "series"):
        (found,) = told(uid("a", name), *secret)
        assert found["stands-for-it"] == mine[name]
    (other,) = told("x-1", "--issuer", "LEEDS", *secret)
    assert other["stands-for-it"] in by_patient
    assert told("x-1", *secret)[0]["stands-for-it"] not in by_patient, "ids of two issuers are two people"
    assert [one["id"] for one in told(*secret, given="943 476 5919\n\nX-1\n")] == ["943 476 5919", "X-1"]


def test_the_map_leads_back_from_whatever_a_copy_shows(place: Path) -> None:
    rows = standalone.open_staged(place / "copy", place / "secret").index().to_pylist()
    options = ("--secret", place / "secret", "--items", place / "map.csv")
    (theirs,) = told("x1", "--issuer", "LEEDS", "--secret", place / "secret")
    (mine,) = (row for row in rows if row["study"] == told(uid("b", "study"), *options)[0]["stands-for-it"])
    assert mine["patient"] != theirs["stands-for-it"], "a hyphen is part of an id"
    for shown in (mine["patient"], "X-1", "x-1"):
        (answer,) = told(shown, *options)
        assert answer["found"] == [{"issuer": "LEEDS", "patient_id": "X-1", "items": mine["item"]}]
    (answer,) = told(mine["series"], *options)
    assert answer["found"][0]["series"] == uid("b", "series")
    for shown in (mine["item"], mine["item"].partition("/")[2]):
        (answer,) = told(shown, *options)
        assert [one["path"].partition("/")[0] for one in answer["found"]] == ["b", "b"]
    (answer,) = told("nobody", *options, code=1)
    assert answer["found"] == []
