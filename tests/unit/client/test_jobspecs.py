"""The examples in ``jobspecs/``: good ones pass, each bad one earns exactly its name, schemas are current."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hdrs_hpc.cli.spec import spec
from hdrs_hpc.client import context, speccheck
from hdrs_hpc.core.errors import all_errors
from hdrs_hpc.documents import schema
from hdrs_hpc.policy import refusals  # its codes must be known to all_errors

JOBSPECS = Path(__file__).parents[3] / "jobspecs"
INVALID = sorted((JOBSPECS / "invalid").iterdir())
GOOD = sorted(JOBSPECS.glob("*.yaml"))


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_each_bad_example_earns_exactly_its_name(path):
    result = CliRunner().invoke(spec, ["check", str(path), "--json"])
    report = json.loads(result.stdout)
    assert {item["code"] for item in report["findings"]} == {path.stem}
    known = all_errors()[path.stem]
    assert result.exit_code == known.exit_code in (3, 4)
    assert all(item["message"] and item["remedy"] for item in report["findings"])
    assert all(item["line"] for item in report["findings"])


def test_the_folder_of_bad_examples_holds_nothing_else():
    assert len(INVALID) >= 20
    assert {path.suffix for path in INVALID} == {".yaml"}
    assert {path.stem for path in INVALID} <= set(all_errors())
    assert refusals.ProjectUnknownError.code in {path.stem for path in INVALID}


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_each_good_example_is_allowed(path):
    result = CliRunner().invoke(spec, ["check", str(path), "--json"])
    assert result.exit_code == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["decision"]["allowed"] is True
    assert len(report["decision"]["rules"]) == 30
    assert len(report["not-applied"]) == 1, "who opted out is known to the broker only"


def test_examples_never_expire_because_their_time_is_pinned(monkeypatch):
    found = context.load(JOBSPECS / "hdrs-hpc.toml")
    monkeypatch.setattr("hdrs_hpc.core.clock.now", lambda: found.facts.now.replace(year=2199))
    later = context.load(JOBSPECS / "hdrs-hpc.toml")
    assert speccheck.check(GOOD[0], later).ok


def test_the_committed_schemas_are_those_of_the_models():
    assert schema.stale(JOBSPECS / "schema") == [], "run: python -m hdrs_hpc.documents.schema"


def test_a_stale_schema_is_found(tmp_path, capsys):
    assert schema.main([str(tmp_path)]) == 0
    assert schema.main([str(tmp_path), "--check"]) == 0
    (tmp_path / "grant.json").write_text("{}")
    (tmp_path / "extra.json").write_text("{}")
    assert schema.main([str(tmp_path), "--check"]) == 1
    assert "extra.json, grant.json" in capsys.readouterr().err


def test_no_private_key_is_committed_with_the_examples():
    for path in JOBSPECS.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes(), path


def test_the_bundle_of_the_examples_counts_patients_and_series(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(JOBSPECS / "own-code"))
    main = importlib.import_module("cohort.main")
    rows = [
        {"kind": "volume", "patient": "a", "modality": "CT"},
        {"kind": "volume", "patient": "a", "modality": "CT"},
        {"kind": "volume", "patient": "b", "modality": None},
        {"kind": "slide", "patient": "c", "modality": "SM"},
    ]
    copy = SimpleNamespace(index=lambda: SimpleNamespace(to_pylist=lambda: rows))
    given = SimpleNamespace(
        parameters={"by": "modality"}, data={"ct": copy}, output=lambda name: tmp_path / f"{name}.csv"
    )
    main.run(given)
    written = (tmp_path / "cohort.csv").read_text().splitlines()
    assert written == ["modality,n_patients,n_series", "CT,1,2", "unknown,1,1"]
