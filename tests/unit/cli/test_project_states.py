"""What commands say of a project is true in each of its states."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.cli import closing, project
from hdrs_hpc.core.errors import ConflictError

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
