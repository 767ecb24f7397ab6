"""Checkpoints are signed over the log as it is, whoever else is quicker; proofs lead to the newest one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.controller import loop as controller
from hdrs_hpc.broker.filing import accept
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.keyd.logwatch import CheckpointOvertakenError, LogRolledBackError
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts, checkpoint, documents, log
from hdrs_hpc.broker.store.checkpoint import LogBusyError
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from tests.support.desk import PROJECT, Desk
from tests.support.party import OTHERS


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home").begin()


def say(desk: Desk, person: str = "ada") -> int:
    with desk.db.write() as tx:
        return log.append(tx, "login-accepted", {"person": person}, actor=person)


def opened(desk: Desk, raw: bytes) -> Any:
    with desk.db.read() as tx:
        root = documents.current_root(tx)
    return trust.verify(Envelope.parse(raw), kinds.CHECKPOINT, root).document


def test_a_checkpoint_covers_the_whole_log_and_is_kept(desk: Desk) -> None:
    say(desk)
    raw = checkpoint.sign(desk.db, desk.ask)
    assert opened(desk, raw).size == len(desk.entries())
    with desk.db.read() as tx:
        assert log.latest_checkpoint(tx) == (len(desk.entries()), raw)


def test_an_unchanged_log_has_one_checkpoint_and_nothing_is_written(desk: Desk) -> None:
    first = checkpoint.sign(desk.db, desk.ask)
    count = desk.count("checkpoints")
    with desk.db.write():  # nobody else may write meanwhile
        assert checkpoint.sign(desk.db, desk.ask) == first
    assert desk.count("checkpoints") == count


def test_whoever_was_overtaken_signs_what_is_there_now(desk: Desk) -> None:
    """Between its look at the log and its request, another process grows the log and has it signed."""
    overtaken = 0

    def ask[R](request: m.Ask[R]) -> R:
        nonlocal overtaken
        if isinstance(request, m.SignCheckpoint) and overtaken < 3:
            overtaken += 1
            say(desk)
            checkpoint.sign(desk.db, desk.ask)
        return desk.ask(request)

    say(desk)
    assert opened(desk, checkpoint.sign(desk.db, ask)).size == len(desk.entries())
    assert overtaken == 3
    assert desk.ask(m.Status()).giving


def test_many_threads_that_log_and_sign_all_succeed(desk: Desk) -> None:
    lock, failures = threading.Lock(), []

    def ask[R](request: m.Ask[R]) -> R:
        with lock:
            return desk.ask(request)

    def work() -> None:
        try:
            for _ in range(5):
                seq = say(desk)
                assert opened(desk, checkpoint.sign(desk.db, ask)).size > seq
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert opened(desk, checkpoint.sign(desk.db, ask)).size == len(desk.entries())


def test_a_refusal_of_keyd_is_passed_on_and_not_tried_again(desk: Desk) -> None:
    asked = 0

    def ask[R](request: m.Ask[R]) -> R:
        nonlocal asked
        if isinstance(request, m.SignCheckpoint):
            asked += 1
            raise LogRolledBackError()
        return desk.ask(request)

    with pytest.raises(LogRolledBackError):
        checkpoint.sign(desk.db, ask)
    assert asked == 1


def test_a_bug_in_asking_is_not_taken_for_a_race(desk: Desk) -> None:
    def ask[R](request: m.Ask[R]) -> R:
        raise KeyError("our own")

    with pytest.raises(KeyError):
        checkpoint.sign(desk.db, ask)


def test_somebody_who_is_always_overtaken_is_told_to_come_again(desk: Desk) -> None:
    def ask[R](request: m.Ask[R]) -> R:
        if isinstance(request, m.SignCheckpoint):
            raise CheckpointOvertakenError()
        return desk.ask(request)

    with pytest.raises(LogBusyError) as busy:
        checkpoint.sign(desk.db, ask)
    assert busy.value.retry


def test_a_proof_that_was_overtaken_is_made_anew(desk: Desk) -> None:
    proofs: list[m.LogProof] = []

    def request(proof: m.LogProof) -> m.Ask[Any]:
        proofs.append(proof)
        if len(proofs) == 1:
            say(desk)
            checkpoint.sign(desk.db, desk.ask)
        return m.AdmitGrant(raw, (registration,), proof)

    with desk.db.read() as tx:
        raw = documents.of_kind(tx, "grant")[0].raw
        registration = documents.of_kind(tx, "dataset-registration")[0].raw
    seqs = [e.seq for e in desk.entries() if e.event in ("grant-accepted", "dataset-registered")]
    assert checkpoint.ask_with_proof(desk.db, desk.ask, seqs, request) == m.Done()
    assert [proof.size for proof in proofs] == [len(desk.entries()) - 1, len(desk.entries())]


# --- the controller on a database that was put back


@pytest.fixture
def ctx(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenBroker]:
    desk.home.settings_file.write_text('audience = "north-sde"\n')
    made = OpenBroker(desk.home, desk.home.settings(), desk.db)
    monkeypatch.setattr(OpenBroker, "ask", lambda _self, request: desk.ask(request))
    yield made
    made.close()


def put_back(desk: Desk, backup: bytes) -> None:
    desk.db.close()
    for leftover in desk.home.root.glob("broker.db-*"):
        leftover.unlink()
    desk.home.database.write_bytes(backup)


def take_backup(desk: Desk) -> bytes:
    desk.db.close()
    return desk.home.database.read_bytes()


def test_a_controller_on_a_restored_database_alarms_and_moves_no_job(desk: Desk, ctx: OpenBroker) -> None:
    desk.file("job-spec", desk.spec(), "rae")
    backup = take_backup(desk)
    desk.file("job-spec", desk.spec(), "rae")
    newest = take_backup(desk)
    put_back(desk, backup)
    desk.keyd.close()
    desk.keyd = Keyd.open(desk.home)  # and everything was started anew
    for _ in range(3):
        controller.tick(ctx)
    with desk.db.read() as tx:
        (alert,) = [item for item in alerts.every(tx) if item.about == "broker"]
    assert alert.code == "log-rolled-back"
    assert not desk.ask(m.Status()).giving
    assert {row[6] for row in desk.contents()["jobs"]} == {"RECEIVED"}
    put_back(desk, newest)
    controller.tick(ctx)
    with desk.db.read() as tx:
        assert [item for item in alerts.every(tx) if item.about == "broker"] == []
    assert desk.ask(m.Status()).giving
    assert "RECEIVED" not in {row[6] for row in desk.contents()["jobs"]}


def test_a_revocation_reaches_keyd_even_through_a_restored_database(desk: Desk, ctx: OpenBroker) -> None:
    desk.ask(m.CreateKey(PROJECT, "output", "A1", None, None))
    backup = take_backup(desk)
    say(desk)
    checkpoint.sign(desk.db, desk.ask)
    put_back(desk, backup)
    raw = desk.sign("closure", OTHERS["closure"][1] | {"action": "revoke"}, "ada").to_bytes()
    with pytest.raises(HdrsError) as refused:  # no receipt, since no checkpoint can be signed
        accept.accept(desk.db, desk.ask, raw, home=desk.home)
    assert refused.value.code == "log-rolled-back"
    assert [key.role for key in desk.ask(m.Inspect(PROJECT)).live] == []


def test_a_controller_started_anew_proves_the_log_before_anything_is_given(
    desk: Desk, ctx: OpenBroker
) -> None:
    desk.keyd.close()
    desk.keyd = Keyd.open(desk.home)
    assert not desk.ask(m.Status()).giving
    controller.tick(ctx)
    assert desk.ask(m.Status()).giving
