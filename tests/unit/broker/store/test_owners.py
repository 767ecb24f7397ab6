"""At the desk: other people's data and projects, real data under a weak root, freezes lifted, keys replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import documents, projects
from hdrs_hpc.core import ids
from hdrs_hpc.documents import sshsig
from tests.support.desk import PROJECT, Desk
from tests.support.party import GRANT, OTHERS, REGISTRATION, TWOS

ELSEWHERE = {"type": "folder", "path": "/elsewhere/mr"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home").begin()


def closure(action: str, **more: Any) -> dict[str, Any]:
    return OTHERS["closure"][1] | {"action": action, "nonce": ids.new_id(26)} | more


def frozen(desk: Desk) -> bool:
    with desk.db.read() as tx:
        return projects.get(tx, PROJECT).frozen


def test_two_custodians_of_another_hospital_grant_nothing(desk: Desk) -> None:
    value = desk.grant(project="theft")
    assert desk.refused(lambda: desk.file("grant", value, "eli", "fay")) == "owner-signatures-missing"
    assert desk.refused(lambda: desk.file("grant", value, "ada", "eli")) == "owner-signatures-missing"


def test_each_owner_of_a_grants_data_signs(desk: Desk) -> None:
    south = REGISTRATION | {"name": "south-mr", "owner": "south", "version": TWOS, "source": ELSEWHERE}
    desk.file("dataset-registration", south, "eli", "fay")
    granted = GRANT["data"]["north-chest-ct"]
    data = {"north-chest-ct": granted, "south-mr": granted | {"version": TWOS}}
    value = desk.grant(project="both", data=data)
    for people in (("ada", "bob"), ("ada", "bob", "eli"), ("eli", "fay")):
        assert (
            desk.refused(lambda people=people: desk.file("grant", value, *people))
            == "owner-signatures-missing"
        )
    assert desk.file("grant", value, "ada", "bob", "eli", "fay").project == "both"
    for person in ("ada", "fay"):  # either owner may stop it
        desk.file("closure", closure("freeze", project="both", reason=person), person)


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "north", "version": TWOS},
        {"owner": "nowhere", "version": TWOS},
        {"owner": "uni", "version": TWOS},
    ],
)
def test_nobody_registers_data_for_an_owner_they_are_no_custodian_of(
    desk: Desk, changes: dict[str, Any]
) -> None:
    value = REGISTRATION | changes
    assert (
        desk.refused(lambda: desk.file("dataset-registration", value, "eli", "fay")) == "dataset-not-theirs"
    )
    assert (
        desk.refused(lambda: desk.file("dataset-registration", value, "ada", "eli")) == "dataset-not-theirs"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"version": TWOS, "source": ELSEWHERE},  # its name
        {"name": "south-ct", "source": ELSEWHERE},  # its inventory
        {"name": "south-ct", "version": TWOS},  # its place
        {"name": "south-ct", "version": TWOS, "source": {"type": "folder", "path": "/archive/ct/2021"}},
        {"name": "south-ct", "version": TWOS, "source": {"type": "folder", "path": "/archive"}},
        {"name": "south-ct", "version": TWOS, "source": {"type": "folder", "path": "/x/../archive/./ct/"}},
        {"name": "south-ct", "version": TWOS, "source": {"type": "zip", "path": "/archive/ct/all.zip"}},
        {"name": "south-ct", "version": TWOS, "source": {"type": "dicomdir", "path": "/archive/ct/DICOMDIR"}},
    ],
)
def test_what_one_owner_registered_no_other_registers(desk: Desk, changes: dict[str, Any]) -> None:
    value = REGISTRATION | {"owner": "south"} | changes
    assert (
        desk.refused(lambda: desk.file("dataset-registration", value, "eli", "fay"))
        == "dataset-owned-by-another"
    )


def test_the_owner_registers_further_versions(desk: Desk) -> None:
    desk.file("dataset-registration", REGISTRATION | {"version": TWOS}, "ada", "bob")


def _weak(desk: Desk, **changes: Any) -> Desk:
    made = desk.party.root_value
    desk.party.root_value = lambda **more: made(**(changes | more))  # type: ignore[method-assign]
    desk.pin()
    return desk


@pytest.mark.parametrize("name", ["trust-root", "grant", "dataset-registration", "organisation"])
def test_real_data_needs_thresholds_of_two(tmp_path: Path, name: str) -> None:
    desk = Desk(tmp_path / "home")
    value = desk.party.root_value()
    if name == "organisation":
        value["organisations"]["north"]["threshold"] = 1
        _weak(desk, organisations=value["organisations"])
    else:
        _weak(desk, thresholds=value["thresholds"] | {name: 1})
    real = lambda: desk.file("dataset-registration", REGISTRATION, "ada", "bob")  # noqa: E731
    assert desk.refused(real) == "real-data-needs-two"
    desk.file("dataset-registration", REGISTRATION | {"sensitivity": "synthetic"}, "ada", "bob")
    assert desk.file("grant", desk.grant(), "ada", "bob").project == PROJECT


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_a_stranger_stops_nobodys_project(desk: Desk, action: str) -> None:
    assert desk.refused(lambda: desk.file("closure", closure(action), "eli")) == "not-their-project"
    assert desk.refused(lambda: desk.file("closure", closure(action), "bob", "fay")) == "not-their-project"
    desk.file("job-spec", desk.spec(), "rae")


def test_a_freeze_is_lifted_by_its_grants_people_and_the_project_goes_on(desk: Desk) -> None:
    freeze = desk.file("closure", closure("freeze"), "bob").digest
    assert frozen(desk)
    value = closure("unfreeze", freeze=freeze)
    assert desk.refused(lambda: desk.file("closure", value, "ada")) == "threshold-not-met"
    assert desk.refused(lambda: desk.file("closure", value, "ada", "fay")) == "not-their-project"
    desk.file("closure", value, "ada", "bob")
    assert not frozen(desk)
    assert desk.entries()[-1].event == "project-unfrozen"
    desk.ask(m.CreateKey(PROJECT, "output", "A1", None, None))
    assert desk.refused(lambda: desk.file("closure", value | {"reason": "Once more."}, "ada", "bob")) == (
        "freeze-not-in-force"
    )


def test_keyd_learns_of_a_lifted_freeze_from_the_loop_if_the_web_died(desk: Desk) -> None:
    from hdrs_hpc.broker.store import checkpoint

    freeze = desk.file("closure", closure("freeze"), "bob").digest
    ask = desk.ask
    desk.ask = lambda request: _dies(request) if isinstance(request, m.AdmitUnfreeze) else ask(request)  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        desk.file("closure", closure("unfreeze", freeze=freeze), "ada", "bob")
    desk.ask = ask  # type: ignore[method-assign]
    with desk.db.read() as tx:
        lifted = projects.unfreezes(tx, PROJECT)
    assert lifted and not set(lifted) & set(desk.ask(m.HeldGrant(PROJECT)).unfrozen)
    checkpoint.tell_keyd(desk.db, desk.ask, PROJECT)
    assert set(desk.ask(m.HeldGrant(PROJECT)).unfrozen) == set(lifted)


def _dies[R](request: m.Ask[R]) -> R:
    raise ConnectionError


@pytest.mark.parametrize("action", ["close", "revoke"])
def test_the_end_of_a_project_is_never_lifted(desk: Desk, action: str) -> None:
    freeze = desk.file("closure", closure("freeze"), "ada").digest
    desk.file("closure", closure(action), "ada")
    value = closure("unfreeze", freeze=freeze)
    assert desk.refused(lambda: desk.file("closure", value, "ada", "bob")) == "project-closed"


def test_a_custodians_key_is_replaced_and_old_grants_stay_good(desk: Desk) -> None:
    fresh = Ed25519PrivateKey.generate()
    value = desk.party.root_value(version=2, supersedes=desk.root.digest)
    value["broker-keys"] = {kind: [line] for kind, line in desk.ask(m.SigningKeys()).lines.items()}
    size = len(desk.entries())

    def with_mark(entry: int) -> dict[str, Any]:
        lost = {"key": desk.party.line("bob"), "retired-from": entry}
        keys = [lost, sshsig.public_line(fresh, "bob")]
        return value | {"people": value["people"] | {"bob": value["people"]["bob"] | {"keys": keys}}}

    ahead = with_mark(size + 100)
    assert (
        desk.refused(lambda: desk.file("trust-root", ahead, "ada", "bob", fresh)) == "trust-root-succession"
    )
    alone = with_mark(size)
    assert desk.refused(lambda: desk.file("trust-root", alone, "ada", fresh)) == "threshold-not-met"
    desk.file("trust-root", with_mark(size), "ada", "bob", fresh)
    with desk.db.read() as tx:
        desk.root = documents.current_root(tx).envelope
    desk.ask(m.CreateKey(PROJECT, "output", "A1", None, None))
    second = desk.grant(version=2, supersedes=desk.in_force("grant"), title="Second")
    assert desk.refused(lambda: desk.file("grant", second, "ada", "bob")) == "key-retired"
    assert desk.file("grant", second, "ada", fresh).project == PROJECT
