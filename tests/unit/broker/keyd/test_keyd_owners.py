"""keyd by itself: whose data a grant gives, who may stop a project, and who lifts a freeze.  It believes nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.grants import DatasetNotGrantedError, GrantNotLoggedError, ProjectFrozenError
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from tests.support.keyroom import KeyRoom, Node
from tests.support.party import GRANT, ONES, TWOS


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


def refused(room: KeyRoom, request: m.Ask[Any]) -> str:
    with pytest.raises(HdrsError) as caught:
        room.ask(request)
    return caught.value.code


def of(room: KeyRoom, value: dict[str, Any], *people: str) -> tuple[Envelope, int]:
    envelope = room.party.sign("grant", value, *people)
    return envelope, room.tell_grant(envelope)


def test_two_custodians_of_another_hospital_grant_nothing(room: KeyRoom) -> None:
    envelope, entry = of(room, GRANT | {"project": "theft"}, "eli", "fay")
    assert refused(room, room.admit_request(envelope, entry)) == "owner-signatures-missing"
    mixed, entry = of(room, GRANT | {"project": "theft"}, "ada", "fay")
    assert refused(room, room.admit_request(mixed, entry)) == "owner-signatures-missing"
    assert refused(room, m.CreateKey("theft", "output", "A1", None, None)) == "keyd-project-unknown"


def test_they_do_not_register_it_as_the_owners_either(room: KeyRoom) -> None:
    envelope, entry = of(room, GRANT | {"project": "theft"}, "eli", "fay")
    forged = room.registration("eli", "fay")
    assert refused(room, room.admit_request(envelope, entry, forged)) == "dataset-not-theirs"
    mixed = room.registration("ada", "fay")
    assert refused(room, room.admit_request(envelope, entry, mixed)) == "dataset-not-theirs"


@pytest.mark.parametrize("changes", [{}, {"version": TWOS}, {"name": "south-ct"}])
def test_nor_as_their_own_under_its_name_or_its_inventory(room: KeyRoom, changes: dict[str, str]) -> None:
    name = changes.get("name", "north-chest-ct")
    granted = GRANT["data"]["north-chest-ct"]
    data = {name: granted | ({"version": TWOS} if "version" in changes else {})}
    envelope, entry = of(room, GRANT | {"project": "theft", "data": data}, "eli", "fay")
    taken = room.registration("eli", "fay", owner="south", **changes)
    assert refused(room, room.admit_request(envelope, entry, taken)) == "dataset-owned-by-another"


def test_a_grant_of_two_owners_needs_both(room: KeyRoom) -> None:
    granted = GRANT["data"]["north-chest-ct"]
    data = {"north-chest-ct": granted, "south-mr": granted | {"version": TWOS}}
    south = room.registration("eli", "fay", owner="south", name="south-mr", version=TWOS, source={
        "type": "folder", "path": "/archive/mr",
    })  # fmt: skip
    rests_on = (room.registration(), south)
    for people in (("ada", "bob"), ("ada", "bob", "eli"), ("ada", "eli"), ("eli", "fay")):
        envelope, entry = of(room, GRANT | {"project": "both", "data": data}, *people)
        assert refused(room, room.admit_request(envelope, entry, *rests_on)) == "owner-signatures-missing"
    envelope, entry = of(room, GRANT | {"project": "both", "data": data}, "ada", "bob", "eli", "fay")
    assert room.ask(room.admit_request(envelope, entry, *rests_on)) == m.Done()


def test_no_other_hospital_takes_a_project_over_by_a_version_of_its_grant_without_its_owners_data(
    room: KeyRoom,
) -> None:
    """Attack: the next version gives only south's data, so only south signs; and it rules over north's copies."""
    held = room.ask(m.HeldGrant("lung-fm")).grant
    data = {"south-mr": GRANT["data"]["north-chest-ct"] | {"version": TWOS}}
    value = GRANT | {"version": 2, "supersedes": held, "data": data}
    south = room.registration("eli", "fay", owner="south", name="south-mr", version=TWOS, source={
        "type": "folder", "path": "/archive/mr",
    })  # fmt: skip
    for people in (("eli", "fay"), ("ada", "eli", "fay")):
        envelope, entry = of(room, value, *people)
        assert refused(room, room.admit_request(envelope, entry, south)) == "owner-signatures-missing"
    assert room.ask(m.HeldGrant("lung-fm")).grant == held
    together, entry = of(room, value, "ada", "bob", "eli", "fay")
    ask = room.admit_request(together, entry, south)
    assert room.ask(ask) == room.ask(ask) == m.Done()


def test_a_registration_that_is_not_logged_or_of_something_else_or_missing(room: KeyRoom) -> None:
    envelope, entry = of(room, GRANT | {"project": "heart-fm"}, "ada", "bob")
    raw = (room.registration().to_bytes(),)
    with pytest.raises(GrantNotLoggedError):
        room.ask(m.AdmitGrant(envelope.to_bytes(), raw, room.proof(entry)))
    with pytest.raises(DatasetNotGrantedError):
        room.ask(room.admit_request(envelope, entry, room.registration(name="other-ct")))
    with pytest.raises(DatasetNotGrantedError):
        room.ask(room.admit_request(envelope, entry, room.registration(version=ONES)))


def test_real_data_meets_no_root_under_which_one_person_decides(tmp_path: Path) -> None:
    for place, weak in (("thresholds", {"grant": 1}), ("thresholds", {"trust-root": 1}),
                        ("thresholds", {"dataset-registration": 1}), ("organisations", {"threshold": 1})):  # fmt: skip
        room = KeyRoom(tmp_path / f"{place}-{'-'.join(weak)}")
        value = room.party.root_value()
        changed = value[place]["south"] if place == "organisations" else value[place]
        changed |= weak
        raw = room.root(**{place: value[place]})
        room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
        envelope, entry = of(room, GRANT, "ada", "bob")
        assert refused(room, room.admit_request(envelope, entry)) == "real-data-needs-two"
        synthetic = room.registration(sensitivity="synthetic")
        assert room.ask(room.admit_request(envelope, entry, synthetic)) == m.Done()


def test_keys_of_real_data_stop_when_a_later_root_lets_one_person_decide(room: KeyRoom) -> None:
    thresholds = room.party.root_value()["thresholds"] | {"grant": 1}
    value = room.party.root_value(version=2, supersedes=room.ask(m.Status()).root, thresholds=thresholds)
    lines = room.ask(m.SigningKeys()).lines
    value["broker-keys"] = {kind: [line] for kind, line in lines.items()}
    room.ask(m.PinRoot(room.party.sign("trust-root", value, "ada", "bob", "eli", "fay").to_bytes(), None))
    assert refused(room, room.bind_request(Node())) == "real-data-needs-two"


# --- stopping


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_a_stranger_stops_nothing(room: KeyRoom, action: str) -> None:
    for person in ("eli", "fay"):
        assert refused(room, m.AdmitClosure(room.closure(action, person))) == "not-their-project"
    together = room.party.sign(
        "closure", Envelope.parse(room.closure(action)).payload, "ada", "eli"
    ).to_bytes()
    assert refused(room, m.AdmitClosure(together)) == "not-their-project"
    assert room.live()
    room.bind(Node())  # it goes on


@pytest.mark.parametrize("person", ["ada", "bob"])
def test_one_of_its_own_is_enough(room: KeyRoom, person: str) -> None:
    room.ask(m.AdmitClosure(room.closure("freeze", person)))
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())


# --- lifting a freeze


def lift(room: KeyRoom, freeze: bytes, *people: str) -> m.AdmitUnfreeze:
    raw = room.unfreeze(freeze, *people)
    return m.AdmitUnfreeze(raw, room.proof(room.tell_closure(raw, "unfreeze")))


def test_a_freeze_is_lifted_by_as_many_as_grant_the_data(room: KeyRoom) -> None:
    freeze = room.closure("freeze")
    room.ask(m.AdmitClosure(freeze))
    assert refused(room, lift(room, freeze, "ada")) == "threshold-not-met"
    assert refused(room, lift(room, freeze, "ada", "eli")) == "not-their-project"
    assert refused(room, lift(room, freeze, "eli", "fay")) == "not-their-project"
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())
    ask = lift(room, freeze, "ada", "bob")
    assert room.ask(ask) == room.ask(ask) == m.Done()
    room.bind(Node())


def test_a_lifted_freeze_does_not_come_back_and_its_lifting_lifts_no_later_one(room: KeyRoom) -> None:
    first, second = room.closure("freeze"), room.closure("freeze", reason="Again.")
    room.ask(m.AdmitClosure(first))
    lifting = room.unfreeze(first, "ada", "bob")
    entry = room.tell_closure(lifting, "unfreeze")
    room.ask(m.AdmitUnfreeze(lifting, room.proof(entry)))
    room.ask(m.AdmitClosure(first))  # filed once more: it was lifted
    room.bind(Node())
    room.ask(m.AdmitClosure(second))
    room.ask(m.AdmitUnfreeze(lifting, room.proof(entry)))
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())
    room.restart()
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())


def test_a_project_frozen_twice_needs_two_liftings(room: KeyRoom) -> None:
    first, second = room.closure("freeze"), room.closure("freeze", "bob", reason="I too.")
    room.ask(m.AdmitClosure(first))
    room.ask(m.AdmitClosure(second))
    room.ask(lift(room, first, "ada", "bob"))
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())
    room.ask(lift(room, second, "ada", "bob"))
    room.bind(Node())


@pytest.mark.parametrize("action", ["close", "revoke"])
def test_the_end_of_a_project_is_never_lifted(room: KeyRoom, action: str) -> None:
    end = room.closure(action)
    room.ask(m.AdmitClosure(end))
    assert refused(room, lift(room, end, "ada", "bob")) == "freeze-not-in-force"
    never = room.closure("freeze", reason="Never filed.")
    assert refused(room, lift(room, never, "ada", "bob")) == "freeze-not-in-force"


def test_a_freeze_is_lifted_only_against_proof_that_the_log_says_so(room: KeyRoom) -> None:
    freeze = room.closure("freeze")
    room.ask(m.AdmitClosure(freeze))
    raw = room.unfreeze(freeze, "ada", "bob")
    assert refused(room, m.AdmitClosure(raw)) == "grant-not-logged"
    assert refused(room, m.AdmitUnfreeze(raw, room.proof(0))) == "grant-not-logged"
    with pytest.raises(ProjectFrozenError):
        room.bind(Node())
