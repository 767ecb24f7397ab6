"""keyd and opt-outs: it holds to the list that the log names last, and gives nothing of a copy made under another."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.keystore import KeyDestroyedError
from hdrs_hpc.broker.keyd.opt_outs import OptOutNotLoggedError
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy.opt_out import OptOutOutdatedError
from hdrs_hpc.policy.refusals import OptOutChangedError, OptOutNotStatedError
from tests.support.keyroom import ATTEMPT, COPY, LIST, KeyRoom, Node
from tests.support.party import NINES, ONES, OTHERS

NEXT = "sha256:" + "6" * 64


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


def create(copy: str, listed: str | None) -> m.CreateKey:
    return m.CreateKey("lung-fm", "copy", copy, "north-chest-ct", NINES, listed)


def test_a_change_ends_the_keys_of_copies_made_before_at_once(room: KeyRoom) -> None:
    assert ("copy", COPY) in room.live()
    room.opt_out(NEXT)
    assert [gone.holder for gone in room.ask(m.Inspect("lung-fm")).destroyed] == [COPY]
    assert ("copy", COPY) not in room.live()
    assert ("output", ATTEMPT) in room.live(), "the keys of results stay"
    assert room.ask(m.HeldOptOut("north-chest-ct")) == m.OptOutHeld(2, NEXT)


def test_no_node_is_bound_and_none_answered_on_a_copy_made_before(room: KeyRoom) -> None:
    node = Node()
    seqs = room.tell_bound(room.bind(node))
    room.opt_out(NEXT)
    for refused in (lambda: room.answer(*seqs), lambda: room.bind(node)):
        with pytest.raises(KeyDestroyedError):
            refused()


def test_the_list_is_judged_and_not_only_the_keys_end(room: KeyRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if keyd had died between the change and the key: what it gives is judged by itself."""
    monkeypatch.setattr(room.keyd, "destroy_outdated", list)
    room.opt_out(NEXT)
    assert ("copy", COPY) in room.live()
    with pytest.raises(OptOutChangedError):
        room.bind(Node())
    monkeypatch.undo()
    room.restart()
    room.keyd.destroy_expired()
    assert ("copy", COPY) not in room.live(), "the next start ends it"


def test_a_sealed_answer_is_not_given_again_after_a_change(room: KeyRoom) -> None:
    seqs = room.tell_bound(room.bind(Node()))
    assert room.answer(*seqs)
    room.opt_out(NEXT)
    with pytest.raises(KeyDestroyedError):
        room.answer(*seqs)


@pytest.mark.parametrize("listed", [LIST, ONES, None])
def test_no_key_is_made_for_a_copy_under_a_list_that_is_not_in_force(
    room: KeyRoom, listed: str | None
) -> None:
    room.opt_out(NEXT)
    with pytest.raises(OptOutChangedError):
        room.ask(create("C2", listed))
    assert room.ask(create("C2", NEXT)).id


def test_the_stager_gets_no_key_once_the_list_has_changed(
    room: KeyRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.ask(create("C2", LIST))
    assert room.ask(m.UseKey("stage", "lung-fm", "C2")).key
    monkeypatch.setattr(room.keyd, "destroy_outdated", list)
    room.opt_out(NEXT)
    with pytest.raises(OptOutChangedError):
        room.ask(m.UseKey("stage", "lung-fm", "C2"))


def test_no_copy_of_a_dataset_of_which_nobody_said_who_opted_out(tmp_path: Path) -> None:
    room = KeyRoom(tmp_path / "keyd")
    raw = room.root()
    room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
    room.admit(room.grant_value)
    for listed in (None, LIST):
        with pytest.raises(OptOutNotStatedError):
            room.ask(create("C2", listed))


def test_a_change_that_the_log_does_not_hold_is_not_believed(room: KeyRoom) -> None:
    value = {**OTHERS["opt-out-change"][1], "version": 2, "supersedes": room.statements[0]}
    envelope = room.party.sign("opt-out-change", value, "ada").to_bytes()
    with pytest.raises(OptOutNotLoggedError):
        room.ask(m.AdmitOptOut(envelope, room.proof(0)))


@pytest.mark.parametrize(("signer", "code"), [("rae", "signer-lacks-role"), ("eli", "opt-out-not-yours")])
def test_only_the_signature_of_a_custodian_of_the_owner_counts(room: KeyRoom, signer: str, code: str) -> None:
    """Eli is a custodian, of another hospital; the log says that the change was accepted, as a broken broker would."""
    value = {**OTHERS["opt-out-change"][1], "version": 2, "supersedes": room.statements[0]}
    envelope = room.party.sign("opt-out-change", value, signer)
    subject = {"dataset": "north-chest-ct", "document": envelope.digest}
    seq = room.tell("opt-out-changed", subject, envelope=ONES, version=2, action="add", list=NEXT, about=10)
    with pytest.raises(HdrsError) as refused:
        room.ask(m.AdmitOptOut(envelope.to_bytes(), room.proof(seq)))
    assert refused.value.code == code
    assert room.ask(m.HeldOptOut("north-chest-ct")).list == LIST
    assert ("copy", COPY) in room.live()


@pytest.mark.parametrize(
    "changes", [{"version": 3}, {"version": 2, "supersedes": ONES}, {"audience": "elsewhere"}]
)
def test_a_change_that_does_not_follow_or_is_for_another_broker(
    room: KeyRoom, changes: dict[str, str]
) -> None:
    with pytest.raises((OptOutOutdatedError, HdrsError)):
        room.opt_out(NEXT, **changes)
    assert room.ask(m.HeldOptOut("north-chest-ct")).list == LIST
    assert ("copy", COPY) in room.live()


def test_the_same_change_again_changes_nothing(room: KeyRoom) -> None:
    request = room.opt_out_request(NEXT)
    room.ask(request)
    room.seal_copy("C2", listed=NEXT)
    again = m.AdmitOptOut(request.envelope, room.proof(request.logged.entries[0].index))
    room.ask(again)
    assert ("copy", "C2") in room.live()


def test_what_was_held_survives_a_restart(room: KeyRoom) -> None:
    room.opt_out(NEXT)
    room.restart()
    assert room.ask(m.HeldOptOut("north-chest-ct")).list == NEXT
    with pytest.raises(OptOutChangedError):
        room.ask(create("C2", LIST))
