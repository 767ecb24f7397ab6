"""Whom keyd believes, and when keys die although nobody asks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.grants import (
    GrantNotLoggedError,
    GrantOutdatedError,
    ProjectFrozenError,
    ProjectNotInTimeError,
    ProjectUnknownError,
)
from hdrs_hpc.broker.keyd.keystore import KeyDestroyedError
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.roots import NoTrustRootError
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy.refusals import ConflictOfInterestError, WrongAudienceError
from tests.support.keyroom import ATTEMPT, COPY, KeyRoom, Node
from tests.support.party import GRANT, ONES, OTHERS, Party, changed


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


def first_grant(room: KeyRoom) -> bytes:
    return room.party.sign("grant", GRANT, "ada", "bob").to_bytes()


# --- trust roots


def test_without_a_root_nobody_is_believed(tmp_path: Path) -> None:
    room = KeyRoom(tmp_path / "keyd")
    with pytest.raises(NoTrustRootError):
        room.ask(m.AdmitClosure(room.closure("freeze")))


def test_the_first_root_is_pinned_by_the_digest_that_came_another_way(tmp_path: Path) -> None:
    room = KeyRoom(tmp_path / "keyd")
    raw = room.root()
    for digest in (None, ONES):
        with pytest.raises(trust.TrustRootMismatchError):
            room.ask(m.PinRoot(raw, digest))
    told = room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
    assert room.ask(m.PinRoot(raw, None)) == told  # again


def next_root(room: KeyRoom, *people: str | Ed25519PrivateKey, **changes: Any) -> bytes:
    lines = room.ask(m.SigningKeys()).lines
    value = room.party.root_value(
        version=2,
        supersedes=room.ask(m.Status()).root,
        **{"broker-keys": {kind: [line] for kind, line in lines.items()}},
    )
    return room.party.sign("trust-root", value | changes, *people).to_bytes()


def test_a_root_follows_by_enough_custodians_of_the_one_in_force(room: KeyRoom) -> None:
    room.ask(m.PinRoot(next_root(room, "ada", "bob"), None))
    room.restart()
    assert room.ask(m.Status()).version == 2


@pytest.mark.parametrize(
    ("people", "changes"),
    [
        (("ada",), {}),
        (("ada", "rae"), {}),
        (("ada", "bob"), {"version": 3}),
        (("ada", "bob"), {"supersedes": ONES}),
        (("ada", "bob"), {"audience": "south-sde"}),
        (("ada", "bob"), {"demo": True}),
    ],
)
def test_a_root_changed_below_threshold_or_out_of_line(
    room: KeyRoom, people: tuple[str, ...], changes: dict[str, Any]
) -> None:
    before = room.ask(m.Status()).root
    with pytest.raises(HdrsError) as refused:
        room.ask(m.PinRoot(next_root(room, *people, **changes), None))
    assert refused.value.code in ("threshold-not-met", "trust-root-succession")
    assert room.ask(m.Status()).root == before


def test_new_custodians_can_not_put_themselves_in_power(room: KeyRoom) -> None:
    usurper = Party()
    value = usurper.root_value(version=2, supersedes=room.ask(m.Status()).root)
    raw = usurper.sign("trust-root", value, "ada", "bob").to_bytes()
    with pytest.raises(trust.ThresholdNotMetError):
        room.ask(m.PinRoot(raw, None))


def test_an_old_root_does_not_come_back(room: KeyRoom) -> None:
    old = room.keyd._keys.fact("trust-root")
    room.ask(m.PinRoot(next_root(room, "ada", "bob"), None))
    assert old is not None
    raw = base64.b64decode(old)
    for digest in (None, Envelope.parse(raw).digest):
        with pytest.raises(trust.SuccessionError):
            room.ask(m.PinRoot(raw, digest))


# --- grants


def admit(room: KeyRoom, envelope: Envelope, logged: Envelope | None = None) -> None:
    room.ask(room.admit_request(envelope, room.tell_grant(logged or envelope)))


def test_a_grant_below_threshold_or_by_one_person_with_two_keys(room: KeyRoom) -> None:
    value = room.next_grant(first_grant(room))
    with pytest.raises(trust.ThresholdNotMetError):
        admit(room, room.party.sign("grant", value, "ada"))
    with pytest.raises(trust.ThresholdNotMetError):
        admit(room, room.party.sign("grant", value, "ada", "ada"))


def test_a_grant_that_the_log_does_not_know(room: KeyRoom) -> None:
    envelope = room.party.sign("grant", room.next_grant(first_grant(room)), "ada", "bob")
    with pytest.raises(GrantNotLoggedError):
        admit(room, envelope, logged=Envelope.parse(first_grant(room)))
    with pytest.raises(NotLoggedError):
        seq = room.tell_grant(envelope)
        proof = room.proof(0)
        room.ask(
            m.AdmitGrant(
                envelope.to_bytes(),
                (room.registration().to_bytes(),),
                m.LogProof(proof.size, (m.LoggedEntry(room.log[seq], 0, ()),)),
            )
        )


@pytest.mark.parametrize(("field", "new"), [("version", 3), ("supersedes", ONES)])
def test_a_grant_that_skips_or_does_not_supersede_the_one_in_force(
    room: KeyRoom, field: str, new: Any
) -> None:
    value = room.next_grant(first_grant(room)) | {field: new}
    with pytest.raises(GrantOutdatedError):
        admit(room, room.party.sign("grant", value, "ada", "bob"))


def test_an_old_grant_does_not_come_back(room: KeyRoom) -> None:
    room.admit(room.next_grant(first_grant(room)))
    with pytest.raises(GrantOutdatedError):
        admit(room, Envelope.parse(first_grant(room)))


def test_a_custodian_who_works_in_the_project_does_not_grant_it(room: KeyRoom) -> None:
    value = changed(room.next_grant(first_grant(room)), "people/lead", "ada")
    with pytest.raises(ConflictOfInterestError):
        admit(room, room.party.sign("grant", value, "ada", "bob"))


def test_a_grant_for_another_broker(room: KeyRoom) -> None:
    value = room.next_grant(first_grant(room)) | {"audience": "south-sde"}
    with pytest.raises(WrongAudienceError):
        admit(room, room.party.sign("grant", value, "ada", "bob"))


def pin_with_mark(room: KeyRoom, **mark: int) -> None:
    """A root with a third custodian, eve, then one by bob and eve that marks ada's key."""
    eve = Party()
    people: dict[str, Any] = room.party.root_value()["people"]
    people["eve"] = people["bob"] | {"keys": [eve.line("ada")]}
    room.ask(m.PinRoot(next_root(room, "ada", "bob", people=people), None))
    people = changed(people, "ada/keys", [{"key": room.party.line("ada"), **mark}])
    room.ask(m.PinRoot(next_root(room, "bob", eve.keys["ada"], people=people, version=3), None))


def test_a_custodians_retired_key_does_not_take_old_grants_along(room: KeyRoom) -> None:
    pin_with_mark(room, **{"retired-from": len(room.log)})
    assert room.bind(Node())


def test_a_compromised_key_takes_along_what_was_accepted_from_then_on(room: KeyRoom) -> None:
    pin_with_mark(room, **{"compromised-from": 0})
    with pytest.raises(trust.KeyCompromisedError):
        room.bind(Node())
    room.ask(m.AdmitClosure(room.party.sign("closure", OTHERS["closure"][1], "bob").to_bytes()))
    assert ("copy", COPY) not in room.live()  # what takes away still works


# --- closures


def test_freezing_stops_giving_and_destroys_nothing(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("freeze")))
    assert ("copy", COPY) in room.live()
    with pytest.raises(ProjectFrozenError):
        room.ask(m.CreateKey("lung-fm", "output", "A2", None, None))
    assert room.ask(m.UseKey("collect", "lung-fm", ATTEMPT))  # what ran may still be reviewed


def test_closing_kills_the_copies_at_once_and_the_outputs_after_the_grace(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("close")))
    assert sorted(room.live()) == [("deid", "project"), ("output", ATTEMPT)]
    room.later(days=14)
    room.keyd.destroy_expired()
    assert room.live() == [("deid", "project")]


def test_revoking_kills_copies_and_outputs_at_once(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("revoke")))
    assert room.live() == [("deid", "project")]
    with pytest.raises(ProjectNotInTimeError):
        room.ask(m.UseKey("collect", "lung-fm", ATTEMPT))


def test_a_revocation_during_the_grace_of_a_closure_ends_it(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("close")))
    room.later(days=1)
    room.ask(m.AdmitClosure(room.closure("revoke")))
    assert ("output", ATTEMPT) not in room.live()


def test_closing_again_later_buys_no_time(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("close")))
    room.later(days=13)
    room.ask(m.AdmitClosure(room.closure("close")))
    room.later(days=1)
    room.keyd.destroy_expired()
    assert ("output", ATTEMPT) not in room.live()


def test_a_frozen_project_stays_frozen_under_a_new_grant(room: KeyRoom) -> None:
    room.ask(m.AdmitClosure(room.closure("close")))
    room.admit(room.next_grant(first_grant(room), "valid/destroy-by", "2028-07-31"))
    with pytest.raises(ProjectFrozenError):
        room.ask(m.CreateKey("lung-fm", "output", "A2", None, None))
    room.now = clock.from_text("2027-08-01T00:00:00Z")
    room.keyd.destroy_expired()
    assert room.live() == []


def test_a_closure_by_somebody_who_is_no_custodian(room: KeyRoom) -> None:
    with pytest.raises(trust.SignerRoleError):
        room.ask(m.AdmitClosure(room.party.sign("closure", OTHERS["closure"][1], "rae").to_bytes()))
    assert ("copy", COPY) in room.live()


def test_a_closure_of_an_unknown_project(room: KeyRoom) -> None:
    value = OTHERS["closure"][1] | {"project": "heart-fm"}
    with pytest.raises(ProjectUnknownError):
        room.ask(m.AdmitClosure(room.party.sign("closure", value, "ada").to_bytes()))


# --- time, with the broker dead


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("2027-06-30T23:59:59Z", {"copy", "deid", "output"}),
        ("2027-07-01T00:00:00Z", {"deid", "output"}),
        ("2027-07-14T23:59:59Z", {"deid", "output"}),
        ("2027-07-15T00:00:00Z", {"deid"}),
        ("2027-07-31T23:59:59Z", {"deid"}),
        ("2027-08-01T00:00:00Z", set()),
    ],
)
def test_keys_die_at_their_time_though_nobody_asks(room: KeyRoom, moment: str, left: set[str]) -> None:
    room.now = clock.from_text(moment)
    room.keyd.destroy_expired()
    assert {role for role, _ in room.live()} == left
    assert room.ask(m.Inspect("lung-fm")).project_key == bool(left)


def test_a_shorter_grant_brings_the_end_nearer(room: KeyRoom) -> None:
    value = changed(room.next_grant(first_grant(room)), "valid/run-until", "2027-01-20")
    room.admit(value)
    room.now = clock.from_text("2027-01-21T00:00:00Z")
    room.keyd.destroy_expired()
    assert ("copy", COPY) not in room.live()


def test_a_longer_grant_does_not_bring_dead_keys_back(room: KeyRoom) -> None:
    room.now = clock.from_text("2027-07-02T00:00:00Z")
    room.keyd.destroy_expired()
    value = changed(room.next_grant(first_grant(room)), "valid/run-until", "2027-07-30")
    room.admit(value)
    with pytest.raises(KeyDestroyedError):
        room.seal_copy()
    room.seal_copy("ANEWCOPY00")
    assert ("copy", "ANEWCOPY00") in room.live()
