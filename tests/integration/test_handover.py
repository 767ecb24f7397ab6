"""A site that meddles with what couriers carry, and a broker that dies between them: real agent, real keyd."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from connectors.clusters import StepFailedError
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydUnreachableError
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.jobs import Attempt
from hdrs_hpc.core import clock, ids, strict_json, wire
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.protocol import handover
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

QUICK = {"mine.py": "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"}
TABLE = {"t": {"class": "metrics", "path": "t.json", "max-size": "1KiB"}}
Step = Callable[[handover.Request, Callable[[handover.Request], list[bytes]]], list[bytes]]


@pytest.fixture(scope="module")
def shared(make_world: Callable[..., World]) -> World:
    made = make_world()
    made.grant()
    return made


@pytest.fixture
def world(shared: World) -> World:
    return shared


def meddle(world: World, monkeypatch: pytest.MonkeyPatch, step: Step) -> None:
    """Put ``step`` between the broker and every agent, as a login node could."""
    cluster = world.ctx.cluster(world.cluster, world.project)
    real = cluster.run_in_job

    def run_in_job(job_id: str, argv: Any, stdin: bytes, *rest: Any) -> list[bytes]:
        def carry(request: handover.Request) -> list[bytes]:
            return real(job_id, argv, wire.to_line(request), *rest)

        return step(handover.parse_request(stdin), carry)

    monkeypatch.setattr(cluster, "run_in_job", run_in_job)


def submit(world: World) -> str:
    return world.submit_bundle(QUICK, "mine:run", data={"slides": {"dataset": "demo-he"}}, outputs=TABLE)


def attempt_of(world: World, job: str) -> Attempt:
    with world.ctx.db.read() as tx:
        return jobs.attempts_of(tx, job)[-1]


def of_attempt(world: World, job: str) -> list[str]:
    """The events of the job's attempt, in order."""
    name = attempt_of(world, job).name
    return [entry.event for entry in proofs.entries(world) if entry.subject.get("attempt") == name]


def alarms(world: World, job: str) -> list[Any]:
    found = [entry.detail for entry in proofs.entries(world) if entry.event == "alarm"]
    return [detail["code"] for detail in found if detail["job"] == job]


def assert_stopped(world: World, job: str, code: str, *, alarm: bool) -> None:
    """The job failed with this code; refused in the log; its keys are dead, its processes and objects gone."""
    ended = world.run_job(job, "PURGED", timeout_s=60)
    assert (ended.outcome, ended.reason) == ("FAILED", code)
    refused = [entry.detail["code"] for entry in proofs.entries(world) if entry.event == "handover-refused"]
    assert refused[-1] == code
    assert alarms(world, job) == ([code] if alarm else [])
    name = attempt_of(world, job).name
    told = world.ctx.ask(m.Inspect(world.project))
    assert name not in {key.holder for key in told.live}
    assert not any(item.phase.name == "RUNNING" for item in found_on_cluster(world, name))
    assert "handover-closed" not in of_attempt(world, job)


def found_on_cluster(world: World, name: str) -> list[Any]:
    return world.ctx.cluster(world.cluster, world.project).find([name]).jobs[name]


def with_key(line: bytes, public_key: bytes) -> bytes:
    reply = handover.parse_reply(line)
    assert reply.hello is not None
    return wire.to_bytes(
        dataclasses.replace(reply, hello=dataclasses.replace(reply.hello, public_key=public_key))
    )


def another_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


def test_undisturbed_each_node_is_bound_and_answered_once_and_the_log_says_so_first(world: World) -> None:
    job = submit(world)
    assert world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=90).state == "IN_REVIEW"
    told = [event for event in of_attempt(world, job) if event.startswith("handover")]
    assert told == ["handover-bound", "handover-answered", "handover-closed"]


def _bit_of_the_seal(request: handover.Request) -> handover.Request:
    assert request.answer is not None
    sealed = bytearray(request.answer.sealed)
    sealed[-1] ^= 1
    return dataclasses.replace(request, answer=dataclasses.replace(request.answer, sealed=bytes(sealed)))


def _another_node(request: handover.Request) -> handover.Request:
    assert request.answer is not None
    envelope = Envelope.parse(request.answer.envelope)
    answer = handover.parse_answer(envelope.payload)
    altered = dataclasses.replace(answer, binding=dataclasses.replace(answer.binding, node="n9"))
    raw = dataclasses.replace(envelope, payload=wire.to_bytes(altered)).to_bytes()
    return dataclasses.replace(request, answer=dataclasses.replace(request.answer, envelope=raw))


def _another_first_node(request: handover.Request) -> handover.Request:
    """Whoever is told of another first node would send it what it computes."""
    assert request.nodes is not None
    nodes = dataclasses.replace(handover.parse_nodes(request.nodes), first_told=b'{"port":4444}')
    return dataclasses.replace(request, nodes=nodes.to_bytes())


@pytest.mark.parametrize("alter", [_bit_of_the_seal, _another_node, _another_first_node])
def test_an_altered_answer_is_refused_by_the_agent_and_stops_the_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, alter: Callable[[handover.Request], handover.Request]
) -> None:
    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        return carry(alter(request) if request.answer else request)

    meddle(world, monkeypatch, step)
    assert_stopped(world, submit(world), "handover-answer-declined", alarm=True)


def test_a_key_slipped_in_with_the_first_courier_gets_an_answer_that_its_agent_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever controls the login node can have keys sealed to itself; it can't keep that hidden."""
    mine = another_key()

    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        lines = carry(request)
        return [with_key(line, mine) for line in lines] if request.ask == "hello" else lines

    meddle(world, monkeypatch, step)
    assert_stopped(world, submit(world), "handover-answer-declined", alarm=True)


def test_a_second_key_for_a_bound_node_is_an_alarm_that_stops_the_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """keyd has bound the node, the broker died before it could note so; then somebody else answers."""
    asked = 0

    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        return [with_key(line, another_key()) if asked else line for line in carry(request)]

    meddle(world, monkeypatch, step)
    real = world.ctx.ask

    def ask[R](request: m.Ask[R]) -> R:
        nonlocal asked
        reply = real(request)
        if isinstance(request, m.BindNodes):
            asked += 1
            raise KeydUnreachableError()  # the answer is lost
        return reply

    monkeypatch.setattr(world.ctx, "ask", ask)
    assert_stopped(world, job := submit(world), "handover-second-key", alarm=True)
    assert asked == 1, "the second time keyd refused"
    assert "handover-bound" not in of_attempt(world, job)


def test_a_lost_answer_of_keyd_is_asked_for_again_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: set[type] = set()
    real = world.ctx.ask

    def ask[R](request: m.Ask[R]) -> R:
        reply = real(request)
        if isinstance(request, m.BindNodes | m.AnswerNodes) and type(request) not in lost:
            lost.add(type(request))
            raise KeydUnreachableError()
        return reply

    monkeypatch.setattr(world.ctx, "ask", ask)
    job = submit(world)
    assert world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=90).state == "IN_REVIEW"
    assert lost == {m.BindNodes, m.AnswerNodes}
    told = [event for event in of_attempt(world, job) if event.startswith("handover")]
    assert told == ["handover-bound", "handover-answered", "handover-closed"]


def test_an_answer_that_arrived_though_its_courier_failed_is_brought_again_and_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[handover.Request] = []

    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        lines = carry(request)
        if request.answer:
            brought.append(request)
            if len(brought) == 1:
                raise StepFailedError("the line went dead")
        return lines

    meddle(world, monkeypatch, step)
    job = submit(world)
    assert world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=90).state == "IN_REVIEW"
    assert len(brought) == 2
    assert brought[0] == brought[1], "the same bytes, or the agent would have raised an alarm"


def test_an_agent_of_another_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        made = []
        for line in carry(request):
            reply = handover.parse_reply(line)
            assert reply.hello is not None
            hello = dataclasses.replace(reply.hello, attempt=ids.new_secret_name("hdrs"))
            made.append(wire.to_bytes(dataclasses.replace(reply, hello=hello)))
        return made

    meddle(world, monkeypatch, step)
    job = submit(world)
    assert_stopped(world, job, "handover-refused", alarm=False)
    assert "handover-bound" not in of_attempt(world, job)


def test_more_agents_than_the_spec_has_nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        (line,) = carry(request)
        reply = strict_json.loads(line)
        reply["hello"]["node"] = "n9"
        return [line, strict_json.dumps(reply)]

    meddle(world, monkeypatch, step)
    assert_stopped(world, submit(world), "handover-refused", alarm=False)


def test_a_grant_revoked_between_the_two_couriers_of_which_only_keyd_knows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has not heard of it (it may have been put back): keyd refuses by itself."""
    other = world.beside("p-revoked-between")
    other.grant()
    job = other.submit_bundle(QUICK, "mine:run", data={"slides": {"dataset": "demo-he"}}, outputs=TABLE)
    other.run_until(lambda: "handover-bound" in _events(other, job), 90)
    raw = other.signed("closure", closure(other), "abara")
    other.ctx.ask(m.AdmitClosure(raw))
    ended = other.run_job(job, "PURGED", timeout_s=60)
    assert (ended.outcome, ended.reason) == ("FAILED", "project-frozen")
    assert "handover-answered" not in _events(other, job)
    assert "handover-refused" in _events(other, job)


def _events(world: World, job: str) -> list[str]:
    with world.ctx.db.read() as tx:
        return of_attempt(world, job) if jobs.attempts_of(tx, job) else []


def closure(world: World) -> dict[str, Any]:
    return {
        "schema": "hdrs-hpc/closure/2",
        "project": world.project,
        "action": "revoke",
        "reason": "The approval was withdrawn.",
        "nonce": ids.new_id(26),
        "at": clock.to_text(clock.now()),
    }


def test_a_job_that_finished_before_the_courier_came_gets_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(request: handover.Request, carry: Callable[[handover.Request], list[bytes]]) -> list[bytes]:
        cluster = world.ctx.cluster(world.cluster, world.project)
        cluster.cancel(attempt_of(world, job).cluster_job_id or "")
        return carry(request)

    meddle(world, monkeypatch, step)
    job = submit(world)
    ended = world.run_job(job, "PURGED", timeout_s=60)
    assert ended.outcome == "FAILED"
    assert not [event for event in of_attempt(world, job) if event.startswith("handover")]
