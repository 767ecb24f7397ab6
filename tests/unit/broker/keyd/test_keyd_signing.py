"""keyd signs checkpoints, releases and certificates only if they are true as far as it can know."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.grants import ProjectNotInTimeError
from hdrs_hpc.broker.keyd.keyd import (
    GIVING,
    CertificateUntrueError,
    KeysStillLiveError,
    ReleaseNotDecidedError,
)
from hdrs_hpc.broker.keyd.logwatch import (
    CheckpointOvertakenError,
    LogNotProvenError,
    LogRolledBackError,
    NotLoggedError,
)
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from tests.support.keyroom import ATTEMPT, COPY, KeyRoom, Node
from tests.support.party import GRANT, NINES, ONES, OTHERS, TWOS, changed


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


def opened(room: KeyRoom, kind: str, reply: m.Signed) -> trust.Verified[Any]:
    """The envelope of a reply, verified under the root that keyd holds to."""
    root = trust.load_root(base64.b64decode(room.keyd._keys.fact("trust-root") or ""), None)
    return trust.verify(Envelope.parse(reply.envelope), KINDS[kind], root)


# --- releases

DECISION = OTHERS["output-decision"][1]
RECORD = OTHERS["release-record"][1]


def decide(room: KeyRoom, person: str, **verdict: str) -> Envelope:
    value = dict(DECISION)
    value["decisions"] = [DECISION["decisions"][0] | verdict]
    value["nonce"] = {"cy": "C", "di": "D"}.get(person, "E") * 26
    return room.party.sign("output-decision", value, person)


def record_for(room: KeyRoom, *decisions: Envelope, **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = RECORD | {
        "grant": room.ask(m.Inspect("lung-fm")).grant,
        "decisions": sorted(item.digest for item in decisions),
        "reviewers": ["cy", "di"],
    }
    return value | changes


def release(
    room: KeyRoom, record: dict[str, Any], *decisions: Envelope, logged: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Log as the controller does, then ask; ``logged`` is what the log says instead."""
    told = record | (logged or {})
    seq = room.tell(
        "artefact-released",
        {"project": told["project"], "job": told["job"], "artefact": told["artefact"]},
        content=told["content"],
        size=told["bytes"],
        **{"class": told["class"]},
        decisions=told["decisions"],
    )
    raw = tuple(item.to_bytes() for item in decisions)
    return room.ask(m.SignRelease(strict_json.dumps(record), raw, room.proof(seq)))


def test_two_checkers_approvals_release_exactly_what_they_saw(room: KeyRoom) -> None:
    both = decide(room, "cy"), decide(room, "di")
    found = opened(room, "release-record", release(room, record_for(room, *both), *both))
    assert (found.document.content, found.document.reviewers) == (ONES, ("cy", "di"))


def test_one_checker_is_not_two_however_often(room: KeyRoom) -> None:
    mine = decide(room, "cy")
    again = room.party.sign("output-decision", DECISION | {"nonce": "X" * 26}, "cy")
    with pytest.raises(ReleaseNotDecidedError, match="1 of 2"):
        release(room, record_for(room, mine, again, reviewers=["cy"]), mine, again)


def test_a_decision_replayed_on_another_artefact(room: KeyRoom) -> None:
    both = decide(room, "cy"), decide(room, "di")
    with pytest.raises(ReleaseNotDecidedError, match="does not name"):
        release(room, record_for(room, *both, artefact="spacing"), *both)


@pytest.mark.parametrize("changes", [{"content": TWOS}, {"report": ONES}])
def test_a_decision_replayed_on_other_content_or_another_report(
    room: KeyRoom, changes: dict[str, str]
) -> None:
    both = decide(room, "cy"), decide(room, "di")
    with pytest.raises(ReleaseNotDecidedError, match="did not approve"):
        release(room, record_for(room, *both, **changes), *both)


def test_a_decision_replayed_on_another_job(room: KeyRoom) -> None:
    both = decide(room, "cy"), decide(room, "di")
    with pytest.raises(ReleaseNotDecidedError, match="another job"):
        release(room, record_for(room, *both, job="ZZZZZZ"), *both)


@pytest.mark.parametrize("verdict", ["refuse", "return"])
def test_disagreement_withholds(room: KeyRoom, verdict: str) -> None:
    both = decide(room, "cy"), decide(room, "di", verdict=verdict)
    with pytest.raises(ReleaseNotDecidedError, match="did not approve"):
        release(room, record_for(room, *both), *both)


def test_a_decision_by_a_researcher(room: KeyRoom) -> None:
    both = decide(room, "cy"), decide(room, "rae")
    with pytest.raises(trust.SignerRoleError):
        release(room, record_for(room, *both, reviewers=["cy", "rae"]), *both)


def test_a_decision_by_a_checker_who_researches_in_the_project(tmp_path: Path) -> None:
    room = KeyRoom(tmp_path / "keyd")
    raw = room.root()
    room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
    room.admit(changed(GRANT, "people/researchers", ["rae", "sam"]))
    both = decide(room, "cy"), decide(room, "sam")
    with pytest.raises(ReleaseNotDecidedError, match="work in"):
        release(room, record_for(room, *both, reviewers=["cy", "sam"]), *both)


def test_an_altered_decision(room: KeyRoom) -> None:
    good, mine = decide(room, "cy"), decide(room, "di", verdict="refuse")
    forged = dataclasses.replace(mine, payload=mine.payload.replace(b'"refuse"', b'"approve"'))
    with pytest.raises(HdrsError) as refused:
        release(room, record_for(room, good, forged), good, forged)
    assert refused.value.kind in ("not-allowed", "bad-document")


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": "south-sde"},
        {"grant": ONES},
        {"reviewers": ["ada", "bob"]},
        {"decisions": [NINES, TWOS]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_record_that_claims_other_things_than_are_so(room: KeyRoom, changes: dict[str, Any]) -> None:
    both = decide(room, "cy"), decide(room, "di")
    with pytest.raises(ReleaseNotDecidedError, match="names another"):
        release(room, record_for(room, *both, **changes), *both)


@pytest.mark.parametrize(
    "logged",
    [{"content": TWOS}, {"bytes": 5}, {"artefact": "spacing"}, {"job": "ZZZZZZ"}, {"decisions": [ONES]}],
    ids=lambda logged: next(iter(logged)),
)
def test_a_release_that_the_log_does_not_say_or_says_otherwise(room: KeyRoom, logged: dict[str, Any]) -> None:
    both = decide(room, "cy"), decide(room, "di")
    with pytest.raises(NotLoggedError):
        release(room, record_for(room, *both), *both, logged=logged)


def test_nothing_is_released_past_destroy_by(room: KeyRoom) -> None:
    both = decide(room, "cy"), decide(room, "di")
    room.now = clock.from_text("2027-08-01T00:00:00Z")
    with pytest.raises(ProjectNotInTimeError):
        release(room, record_for(room, *both), *both)


# --- certificates


def certificate(room: KeyRoom, **changes: Any) -> dict[str, Any]:
    """What is true of the room's project after everything in it was destroyed."""
    room.sign_log()
    told = room.ask(m.Status())
    ends = {(gone.role, gone.holder): gone for gone in room.ask(m.Inspect("lung-fm")).destroyed}
    value: dict[str, Any] = OTHERS["certificate"][1] | {
        "grant": room.ask(m.Inspect("lung-fm")).grant,
        "trust-root": told.root,
        "log": {"size": told.log_size, "root": told.log_root.hex()},
    }
    copy, output = ends.get(("copy", COPY)), ends.get(("output", ATTEMPT))
    if copy is not None:
        value = changed(value, "copies/0/key-id", copy.id)
        value = changed(value, "copies/0/key-destroyed-at", copy.at)
    if output is not None:
        keys = [{"key-id": output.id, "destroyed-at": output.at}]
        value = changed(value, "attempts/0/keys", keys)
    return value | changes


def certify(room: KeyRoom, value: dict[str, Any]) -> dict[str, Any]:
    return room.ask(m.SignCertificate(strict_json.dumps(value)))


def test_a_certificate_is_signed_once_every_key_is_gone(room: KeyRoom) -> None:
    for what in ("copies", "outputs"):
        with pytest.raises(KeysStillLiveError):
            certify(room, certificate(room))
        room.ask(m.Destroy("lung-fm", what, None))  # type: ignore[arg-type]  # one of its literals
    with pytest.raises(KeysStillLiveError):  # the de-identification and key-encryption keys
        certify(room, certificate(room))
    room.ask(m.Destroy("lung-fm", "all", None))
    assert opened(room, "certificate", certify(room, certificate(room))).document.project == "lung-fm"


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("audience", "south-sde"),
        ("grant", TWOS),
        ("trust-root", TWOS),
        ("copies", []),
        ("copies/0/key-id", "K-made-up"),
        ("copies/0/key-destroyed-at", "2027-01-01T00:00:00Z"),
        ("attempts/0/keys", []),
        ("attempts/0/keys", [{"key-id": "K-made-up", "destroyed-at": "2027-01-01T00:00:00Z"}]),
    ],
)
def test_a_certificate_that_hides_adds_or_moves_a_death(room: KeyRoom, path: str, new: Any) -> None:
    room.ask(m.Destroy("lung-fm", "all", None))
    with pytest.raises(CertificateUntrueError):
        certify(room, changed(certificate(room), path, new))


def test_no_certificate_for_a_project_that_never_was(room: KeyRoom) -> None:
    with pytest.raises(CertificateUntrueError):
        certify(room, certificate(room, project="heart-fm"))


def test_no_certificate_about_a_log_that_was_not_signed(room: KeyRoom) -> None:
    room.ask(m.Destroy("lung-fm", "all", None))
    value = certificate(room)
    with pytest.raises(CheckpointOvertakenError):
        certify(room, changed(value, "log/size", value["log"]["size"] + 1))
    with pytest.raises(CheckpointOvertakenError):
        certify(room, changed(value, "log/root", "ab" * 32))


# --- checkpoints, and a database that was put back


def test_a_growing_log_is_signed_and_an_unchanged_one_gets_the_same_bytes(room: KeyRoom) -> None:
    first = room.sign_log()
    assert room.sign_log() == first
    room.tell("login-accepted", {"person": "ada"}, "ada")
    second = opened(room, "checkpoint", room.sign_log()).document
    assert second.size == len(room.log)


def _shorter(log: list[bytes]) -> list[bytes]:
    return log[:-1]


def _other_end(log: list[bytes]) -> list[bytes]:
    return [*log[:-1], log[-1].replace(b"2027", b"2026")]


def _forked_and_longer(log: list[bytes]) -> list[bytes]:
    return [log[0].replace(b"2027", b"2026"), *log[1:], log[-1], log[-1]]


def _empty(log: list[bytes]) -> list[bytes]:
    return []


ROLLED_BACK = [_shorter, _other_end, _forked_and_longer, _empty]


@pytest.mark.parametrize("back", ROLLED_BACK)
def test_a_log_rolled_back_or_forked_is_not_signed_and_nothing_is_given_any_more(
    room: KeyRoom, back: Callable[[list[bytes]], list[bytes]]
) -> None:
    room.tell("login-accepted", {"person": "ada"}, "ada")
    binding = room.bind_request(Node())
    with pytest.raises(LogRolledBackError):
        room.sign_log(back(room.log))
    assert not room.ask(m.Status()).giving
    with pytest.raises(LogNotProvenError):
        room.ask(binding)
    room.sign_log()  # the newest database was put back
    room.ask(binding)


@pytest.mark.parametrize("back", ROLLED_BACK)
def test_a_broker_started_on_a_restored_database_stays_frozen(
    room: KeyRoom, back: Callable[[list[bytes]], list[bytes]]
) -> None:
    room.tell("login-accepted", {"person": "ada"}, "ada")
    room.sign_log()
    room.restart(prove=False)
    with pytest.raises(LogRolledBackError):
        room.sign_log(back(room.log))
    with pytest.raises(LogNotProvenError):
        room.ask(m.UseKey("collect", "lung-fm", ATTEMPT))


def giving(room: KeyRoom) -> dict[type, m.Ask[Any]]:
    proof = room.proof(0)
    grant = room.party.sign("grant", GRANT, "ada", "bob").to_bytes()
    return {
        m.AdmitGrant: m.AdmitGrant(grant, (room.registration().to_bytes(),), proof),
        m.AdmitUnfreeze: m.AdmitUnfreeze(grant, proof),
        m.AdmitRuntimes: m.AdmitRuntimes(proof),
        m.CreateKey: m.CreateKey("lung-fm", "output", "A2", None, None),
        m.UseKey: m.UseKey("collect", "lung-fm", ATTEMPT),
        m.BindNodes: room.bind_request(Node()),
        m.AnswerNodes: m.AnswerNodes(ATTEMPT, proof),
        m.SignRelease: m.SignRelease(b"{}", (b"{}",), proof),
        m.SignCertificate: m.SignCertificate(b"{}"),
    }


def test_until_the_log_is_shown_a_started_keyd_gives_nothing_and_takes_everything(room: KeyRoom) -> None:
    asked = giving(room)
    room.restart(prove=False)
    assert asked.keys() == set(GIVING)
    for ask in asked.values():
        with pytest.raises(LogNotProvenError) as refused:
            room.ask(ask)
        assert refused.value.retry  # it waits, and is no reason to fail a job
    room.ask(m.AdmitClosure(room.closure("close")))
    room.ask(m.Destroy("lung-fm", "all", None))
    assert room.live() == []


def test_a_slower_process_with_a_shorter_log_freezes_nothing(room: KeyRoom) -> None:
    before = room.ask(m.Status()).log_size
    short = list(room.log)
    room.tell("login-accepted", {"person": "ada"}, "ada")
    room.sign_log()
    with pytest.raises(CheckpointOvertakenError):
        room.sign_log(short, known=before)
    assert room.ask(m.Status()).giving


def test_the_kinds_that_keyd_signs_have_a_key_of_their_own(room: KeyRoom) -> None:
    lines = room.ask(m.SigningKeys()).lines
    assert lines.keys() == {"checkpoint", "release-record", "certificate", "handover-answer"}
    assert len({line.split()[1] for line in lines.values()}) == 4
    assert lines.keys() <= KINDS.keys()
