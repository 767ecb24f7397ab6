"""What commands say of a project is true in each of its states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.cli import closing, project, show
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.policy.facts import project_stands

SHOWN: dict[str, Any] = {"name": "lung-fm", "state": "ACTIVE", "run-until": "2027-06-30", "days-left": 12}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("APPROVED", "2027-06-30 (12 days left)"),
        ("ACTIVE", "2027-06-30 (12 days left)"),
        ("CLOSING", "nothing any more; it was granted until 2027-06-30"),
        ("CLOSED", "nothing any more; it was granted until 2027-06-30"),
    ],
)
def test_days_are_left_only_of_what_may_still_run(state: str, told: str) -> None:
    assert project._runs_until({**SHOWN, "state": state}) == told
    assert project._runs_until({**SHOWN, "days-left": 1}) == "2027-06-30 (1 day left)"


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_nothing_is_signed_about_a_closed_project(action: str) -> None:
    with pytest.raises(ConflictError) as caught:
        closing._require_open({**SHOWN, "state": "CLOSED"}, action)
    assert "project certificate lung-fm" in caught.value.remedy
    closing._require_open(SHOWN, action)


def test_a_closing_project_can_still_be_revoked_and_nothing_else() -> None:
    closing._require_open({**SHOWN, "state": "CLOSING"}, "revoke")
    for action in ("freeze", "close"):
        with pytest.raises(ConflictError):
            closing._require_open({**SHOWN, "state": "CLOSING"}, action)


def test_the_freeze_of_a_closed_project_is_not_lifted() -> None:
    for state in ("CLOSING", "CLOSED"):
        with pytest.raises(ConflictError):
            closing._require_open({**SHOWN, "state": state}, "unfreeze")


def test_nothing_is_left_to_destroy_of_a_closed_project(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"project": "lung-fm", "state": "CLOSED"}
    session = SimpleNamespace(api=SimpleNamespace(get=lambda path: plan))
    monkeypatch.setattr(closing.options, "session", lambda context: session)
    closing.show_plan("lung-fm", context=None, as_json=False)
    assert capsys.readouterr().out == "lung-fm is closed: nothing is left to destroy.\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frozen": False}, "It is in force."),
        ({"frozen": True}, "The project is frozen: nothing runs under its grant until"),
        ({"frozen": True, "state": "CLOSING"}, "The project is closing: nothing runs"),
        ({"frozen": False, "state": "CLOSED"}, "The project is closed: nothing runs"),
    ],
)
def test_a_grant_is_said_to_be_in_force_only_where_something_may_run(
    changes: dict[str, Any], said: str
) -> None:
    assert project.standing({**SHOWN, **changes}).startswith(said)


@pytest.mark.parametrize(("number", "said"), [(0, ""), (1, " of 1 patient"), (3, " of 3 patients")])
def test_nothing_is_said_to_be_of_no_patient(number: int, said: str) -> None:
    assert show.of_patients(number) == said


@pytest.mark.parametrize(
    ("state", "frozen", "said"),
    [
        ("ACTIVE", False, "ACTIVE"),
        ("APPROVED", True, "FROZEN"),
        ("ACTIVE", True, "FROZEN"),
        ("CLOSING", True, "CLOSING"),
        ("CLOSED", True, "CLOSED"),
    ],
)
def test_a_closed_project_is_not_told_to_be_frozen(state: str, frozen: bool, said: str) -> None:
    """A freeze can be lifted: who reads that of a closed project asks for what nobody can give."""
    assert project_stands(state, frozen=frozen) == said


def test_a_closed_project_has_nothing_left_and_was_destroyed() -> None:
    hours = {"gpu-hours": 10, "gpu-hours-used": 2.5, "destroy-by": "2027-07-31"}
    closed, active = ({**SHOWN, **hours, "state": state} for state in ("CLOSED", "ACTIVE"))
    assert project._gpu_hours_told(closed) == "2.5 of 10 were used"
    assert project._gpu_hours_told(active) == "7.5 of 10 left"
    assert project._destroyed(closed)[0] == "destroyed"
    assert project._destroyed(active) == ("destroyed by", "2027-07-31")
