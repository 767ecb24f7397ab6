"""Tables fit the screen by leaving columns out, never letters; durations; attempts of failed jobs."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.cli import show, watching

COLUMNS = ("job", "project", "name", "state", "received", "why")
ROWS = [
    ("7K3QW2", "lung-foundation-model", "mae-chest-pretraining", "QUEUED", "2027-01-15T12:00:00Z",
     "nodes that it needs are down, drained or reserved; the site's admins bring them back"),
    ("8M4RX3", "lung-foundation-model", "cohort", "PURGED FAILED", "2027-01-15T12:00:01Z", None),
]  # fmt: skip
DROP = ("received", "project", "name")


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_screen_and_no_word_is_cut(width: int) -> None:
    lines = list(show.table_lines(COLUMNS, ROWS, DROP, width))
    assert max(map(len, map(plain, lines))) <= width
    text = " ".join(" ".join(map(plain, lines)).split())
    for word in (*ROWS[0][5].split(), "7K3QW2", "PURGED FAILED"):
        assert word in text


def test_what_is_not_shown_is_told() -> None:
    lines = [plain(line) for line in show.table_lines(COLUMNS, ROWS, DROP, 80)]
    assert lines[-1] == "not shown (--json has it): received, project, name"
    assert lines[0].split() == ["job", "state", "why"]


def test_in_a_pipe_everything_is_there_on_one_line_a_row() -> None:
    lines = list(show.table_lines(COLUMNS, ROWS, DROP, None))
    assert len(lines) == 1 + len(ROWS)
    assert all(str(cell) in lines[1] for cell in ROWS[0])


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert watching.duration(seconds) == told


def test_a_failed_job_shows_no_attempt_that_completed() -> None:
    attempt: dict[str, Any] = {"state": "COMPLETED"}
    assert watching.attempt_state({"outcome": "FAILED"}, attempt).startswith("FAILED")
    assert watching.attempt_state({"outcome": "SUCCEEDED"}, attempt) == "COMPLETED"
    assert watching.attempt_state({"outcome": "FAILED"}, {"state": "NODE_FAIL"}) == "NODE_FAIL"
    assert watching.attempt_state({"outcome": None}, {"state": None}) == "not yet seen"


def test_a_running_job_moves_by_the_brokers_clock() -> None:
    job = {"changed-at": "2027-01-15T12:00:00Z", "now": "2027-01-15T12:02:05Z"}
    assert watching.lasted(job) == 125
    assert watching.lasted({**job, "now": "2027-01-15T11:00:00Z"}) == 0


def plain(line: str) -> str:
    import click

    return click.unstyle(line)


def test_facts_of_a_site_do_not_rewrite_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    show.facts([("reason", "down\x1b[2J\u2028all well\nsecond"), ("name\x1b", "x")])
    told = plain(capsys.readouterr().out)
    assert "\x1b" not in told and "\u2028" not in told
    assert told.splitlines() == ["reason  down\ufffd[2J\ufffdall well", "        second", "name\ufffd   x"]
