"""A log whose broker let the wrong people register, grant or stop does not verify, however well it is signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audit_life import GRANT, PROJECT, Life, digest, line, root_payload, signed, state_opt_outs

from hdrs_hpc.audit.verify import verify_dir
from hdrs_hpc.core.errors import HdrsError

SOUTH = {"evans": "south", "farah": "south"}


def life(
    *, owner: str = "north", registered_by: tuple[str, ...] = ("adeyemi",),
    granted_by: tuple[str, ...] = ("adeyemi", "brandt"), sensitivity: str = "synthetic",
) -> Life:  # fmt: skip
    """Trust root of two hospitals, a registration and a grant."""
    made = Life()
    value = root_payload(organisations={"north": {"name": "North"}, "south": {"name": "South"}})
    for name, home in SOUTH.items():
        value["people"][name] = {
            "name": name, "organisation": home, "keys": [line(name)], "roles": ["custodian"],
        }  # fmt: skip
    root = signed("trust-root", value, "adeyemi", "brandt")
    made.root = root.to_bytes()
    made.accept("trust-root-accepted", {}, root, version=1, pinned=True)
    registration = {
        "name": "ct", "owner": owner, "kind": "radiology", "sensitivity": sensitivity,
        "source": {"type": "folder", "path": "archive"}, "version": digest("inventory"), "items": 960,
    }  # fmt: skip
    made.accept(
        "dataset-registered", {"dataset": "ct"}, signed("dataset-registration", registration, *registered_by),
        version=digest("inventory"), items=960, sensitivity=sensitivity, owner=owner,
    )  # fmt: skip
    made.accept(
        "grant-accepted", PROJECT, signed("grant", GRANT, *granted_by), version=1, signers=sorted(granted_by),
        reviewers=2, run_until="2026-12-30T00:00:00Z", destroy_by="2027-01-30T00:00:00Z",
    )  # fmt: skip
    return made


def close(made: Life, action: str, *people: str, freeze: str | None = None, number: int = 0) -> str:
    payload: dict[str, Any] = {
        "project": "lung-fm", "action": action, "reason": "A query.", "at": "2026-12-01T09:00:00Z",
        "nonce": f"{number:026d}",
    }  # fmt: skip
    if freeze is not None:
        payload["freeze"] = freeze
    return made.accept("closure-accepted", PROJECT, signed("closure", payload, *people), action=action)


def code(made: Life, folder: Path) -> str | None:
    made.checkpoint()
    try:
        verify_dir(made.write(folder), made.root, None)
    except HdrsError as error:
        return error.code
    return None


def test_an_honest_beginning_verifies(tmp_path: Path) -> None:
    assert code(life(), tmp_path / "audit") is None


@pytest.mark.parametrize(("signer", "found"), [("adeyemi", None), ("evans", "dataset-not-theirs")])
def test_who_opted_out_is_said_by_custodians_of_the_owner(
    signer: str, found: str | None, tmp_path: Path
) -> None:
    made = life()
    state_opt_outs(made, "a list", signer=signer)
    assert code(made, tmp_path / "audit") == found


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"granted_by": ("evans", "farah")}, "owner-signatures-missing"),
        ({"granted_by": ("adeyemi", "farah")}, "owner-signatures-missing"),
        ({"registered_by": ("evans",)}, "dataset-not-theirs"),
        ({"owner": "south"}, "dataset-not-theirs"),
        ({"sensitivity": "real"}, "real-data-needs-two"),
    ],
)
def test_a_grant_or_registration_by_the_wrong_people_is_found(
    tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    assert code(life(**changes), tmp_path / "audit") == found


def test_a_next_version_without_those_whose_data_were_granted_is_found(tmp_path: Path) -> None:
    for number, (people, found) in enumerate(
        [(("evans", "farah"), "owner-signatures-missing"), (("adeyemi", "brandt", "evans", "farah"), None)]
    ):
        made = life()
        registration = {
            "name": "mr", "owner": "south", "kind": "radiology", "sensitivity": "synthetic",
            "source": {"type": "folder", "path": "other"}, "version": digest("other"), "items": 960,
        }  # fmt: skip
        made.accept(
            "dataset-registered", {"dataset": "mr"}, signed("dataset-registration", registration, "evans"),
            version=digest("other"), items=960, sensitivity="synthetic", owner="south",
        )  # fmt: skip
        first = signed("grant", GRANT, "adeyemi", "brandt").digest
        data = {"mr": GRANT["data"]["ct"] | {"version": digest("other")}}
        second = signed("grant", GRANT | {"version": 2, "supersedes": first, "data": data}, *people)
        made.accept(
            "grant-accepted", PROJECT, second, version=2, supersedes=first, signers=sorted(people),
            reviewers=2, run_until="2026-12-30T00:00:00Z", destroy_by="2027-01-30T00:00:00Z",
        )  # fmt: skip
        assert code(made, tmp_path / str(number)) == found


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_a_strangers_closure_is_found(tmp_path: Path, action: str) -> None:
    made = life()
    close(made, action, "evans")
    assert code(made, tmp_path / "audit") == "not-their-project"


def test_a_freeze_lifted_by_too_few_or_twice_is_found(tmp_path: Path) -> None:
    for number, (people, found) in enumerate(
        ((("adeyemi",), "threshold-not-met"), (("adeyemi", "farah"), "not-their-project"),
         (("adeyemi", "brandt"), None))
    ):  # fmt: skip
        made = life()
        freeze = close(made, "freeze", "brandt")
        made.add("project-frozen", PROJECT, reason="freeze")
        close(made, "unfreeze", *people, freeze=freeze)
        made.add("project-unfrozen", PROJECT)
        assert code(made, tmp_path / str(number)) == found
    close(made, "unfreeze", "adeyemi", "brandt", freeze=freeze, number=1)
    assert code(made, tmp_path / "twice") == "audit-history-impossible"


def test_a_project_that_was_not_frozen_is_not_unfrozen(tmp_path: Path) -> None:
    made = life()
    made.add("project-unfrozen", PROJECT)
    assert code(made, tmp_path / "audit") == "audit-history-impossible"
