"""What commands tell people: crashes as sentences, remedies, the log one entry a line."""

from __future__ import annotations

import json
from importlib import util
from typing import Any

import pytest
from click.testing import CliRunner

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.cli import audit, closing, reasons, watching
from hdrs_hpc.cli.demo import play
from hdrs_hpc.cli.project import project
from hdrs_hpc.protocol.progress import Stop


def crashed(**more: Any) -> dict[str, Any]:
    nothing = {"exit-code": None, "signal": None, "exception-type": None, "bundle-line": None}
    return {"ending": "crashed", **nothing, **more}


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        (
            crashed(
                **{
                    "exit-code": 1,
                    "exception-type": "NoSuchItemError",
                    "bundle-line": {"file": "cohort/main.py", "line": 14},
                }
            ),
            "your code stopped with NoSuchItemError at cohort/main.py line 14",
        ),
        (crashed(**{"exception-type": "KeyError"}), "your code stopped with KeyError"),
        (crashed(**{"exit-code": 3}), "your code stopped with exit code 3"),
        (crashed(signal=9), "your code was ended by signal 9 (the kernel does so when memory runs out)"),
        ({"ending": "out-of-time"}, "your code was stopped at its time limit"),
        ({"ending": "exited", "exit-code": 2}, "your code stopped with exit code 2"),
        ({"nodes": 2, "empty": None}, "nodes 2"),
    ],
)
def test_a_crash_is_told_as_a_sentence(detail: dict[str, Any], sentence: str) -> None:
    assert watching.crash(detail) == sentence


def test_a_job_that_the_site_lost_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    job = {
        "id": "7K3QW2",
        "state": "PURGED",
        "outcome": "FAILED",
        "reason": "agent-stopped-scratch",
        "decision": None,
        "detail": {},
        "artefacts": [],
    }
    watching.end(job)
    assert "→ Ask the site for room" in capsys.readouterr().out
    assert watching.mend({**job, "outcome": "SUCCEEDED"}) is None
    assert watching.mend({**job, "reason": "workload-failed"}) is None, "its crash tells more"
    assert "hdrs-hpc job show 7K3QW2" in str(watching.mend({**job, "reason": "nothing-releasable"}))


def test_every_reason_for_which_an_agent_stops_is_explained() -> None:
    known = {item.code for item in reasons.known()}
    assert {f"agent-stopped-{stop}" for stop in Stop if stop != Stop.NONE} | {"node-failed"} <= known


def test_the_log_is_shown_one_entry_a_line_that_fits(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    entry = Entry(
        7,
        "2027-01-15T12:00:00Z",
        "job-decided",
        {"project": "lung-fm", "job": "7K3QW2"},
        "broker/controller",
        {"allowed": False, "grant": f"sha256:{'a' * 64}", "codes": ["nodes-over-limit", "not-a-researcher"]},
    )
    (tmp_path / "documents").mkdir()
    export = {"checkpoints.jsonl": b"", "entries.jsonl": entry.to_bytes() + b"\n"}
    for name, raw in export.items():
        (tmp_path / name).write_bytes(raw)
    (line,) = CliRunner().invoke(audit.audit, ["show", str(tmp_path)]).stdout.splitlines()
    assert len(line) == 110, "cut, not wrapped"
    assert line.startswith("    7 2027-01-15T12:00:00Z job-decided          lung-fm 7K3QW2 ")
    assert "allowed=False codes=nodes-over" in line


def test_a_client_only_install_learns_which_extra_the_demo_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    real = util.find_spec
    monkeypatch.setattr(play, "find_spec", lambda name: None if name == "wsidicom_data" else real(name))
    result = CliRunner().invoke(play.demo, ["--dir", str(tmp_path / "site")])
    assert "wsidicom_data" in str(result.exception)
    assert "pip install 'hdrs-hpc[demo]'" in vars(result.exception)["remedy"]
    assert not (tmp_path / "site").exists()


def test_a_freeze_tells_what_it_stops_and_who_lifts_it() -> None:
    told = " ".join((project.commands["freeze"].help or "").split())
    assert "running jobs are cancelled" in told and "hdrs-hpc project unfreeze" in told
    assert "As many custodians as grant the data can lift it" in told
    assert "running jobs are being cancelled" in closing._DONE["freeze"]
    assert json.dumps(closing._DONE).count("being destroyed; certificate follows") == 2


def test_an_entry_that_is_not_there_is_told_as_such() -> None:
    detail = {"ending": "crashed", "exit-code": 1, "exception-type": "EntryError"}
    place = {"bundle-line": {"file": "mine/main.py", "line": 1}}
    assert watching.crash({**detail, **place}) == (
        "your code did not start: mine/main.py has no function of the entry's name"
    )
    assert watching.crash(detail) == "your code stopped with EntryError"
