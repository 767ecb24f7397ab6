"""A node runtime that no admin registered, or that one withdrew, gets no key in a life, and the job says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hdrs_hpc.broker import sites
from hdrs_hpc.broker.home.installed_runtimes import RuntimeNotInstalledError, installed_runtime
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.certificate import Certificate
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLIDES = {"slides": {"dataset": "demo-he"}}
QUICK = {"mine.py": "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"}
TABLE = {"t": {"class": "metrics", "path": "t.json", "max-size": "1KiB"}}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    made = make_world()
    made.grant()
    return made


def submit(world: World) -> str:
    return world.submit_bundle(QUICK, "mine:run", data=SLIDES, outputs=TABLE)


def test_a_runtime_withdrawn_while_a_job_waits_gets_no_key_and_a_new_registration_does(world: World) -> None:
    digest = world.runtime.digest
    assert sites.registered_runtimes(world.home, world.cluster) == [digest]
    job = submit(world)
    world.run_job(job, "RUNNING", timeout_s=90)
    sites.withdraw_runtime(world.home, world.cluster, digest)
    ended = world.run_job(job, "PURGED", timeout_s=90)
    assert (ended.outcome, ended.reason) == ("FAILED", "runtime-withdrawn")
    assert "handover-answered" not in proofs.events(world)
    refused = [entry.detail["code"] for entry in proofs.entries(world) if entry.event == "handover-refused"]
    assert refused == ["runtime-withdrawn"]
    with pytest.raises(RuntimeNotInstalledError):
        installed_runtime(world.home, world.cluster, world.project)
    with pytest.raises(sites.RuntimeUnknownError):
        sites.withdraw_runtime(world.home, world.cluster, digest)

    world.install_runtime()
    again = submit(world)
    assert world.run_job(again, "IN_REVIEW", "PURGED", timeout_s=90).state == "IN_REVIEW", world.describe()
    with world.ctx.db.read() as tx:
        attempt = jobs.attempts_of(tx, again)[-1].name
    (bound,) = [entry for entry in proofs.entries(world) if entry.event == "handover-bound"]
    assert (bound.subject["attempt"], bound.detail["runtime"]) == (attempt, digest)
    world.review(again)
    world.run_job(again, "PURGED")
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 90)
    proofs.check_closed(world)
    certificate = Certificate.from_payload(Envelope.parse(proofs.certificate_of(world)).payload)
    named = {row.attempt: row.runtimes for row in certificate.attempts}
    assert named[attempt] == (digest,)
    assert sorted(named.values()) == [(), (digest,)], "the refused attempt got no keys, so it names none"


def test_runtimes_are_registered_cluster_by_cluster(world: World) -> None:
    sites.register_runtime(world.home, "elsewhere", "sha256:" + "ab" * 32)
    assert sites.registered_runtimes(world.home, world.cluster) == [world.runtime.digest]
