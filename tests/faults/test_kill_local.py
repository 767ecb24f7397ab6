"""kill -9 of every process of the broker, everywhere, in a life on the embedded cluster: it ends the same way."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hdrs_hpc.broker.store import log
from tests.support import proofs
from tests.support.trials import Assassin, file_killed, killed_again_and_again, wait_until
from tests.support.world import COHORT, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVERY_ACT = {
    *("AskCapacity", "Begin", "Admit", "WantCopies", "StartStager", "Seal", "MakeAttempt"),
    *("StartChooser", "NoteServed", "Submit", "Started"),
    *(
        "Bind",
        "Deliver",
        "NoteProgress",
        "Ended",
        "StartCollector",
        "Show",
        "OpenDecisions",
        "Release",
        "Finish",
    ),
    *(
        "DestroyKeys",
        "Remove",
        "DestroyCopyKeys",
        "UnlinkCopy",
        "UnlinkKept",
        "DestroyProjectKeys",
        "Certify",
    ),
}
"""What the controller does in a life in which nothing goes wrong, by the names of its actions."""
SMALL: dict[str, Any] = {
    "data": {"slides": {"dataset": "demo-he"}},
    "outputs": {"summary": {"class": "metrics", "path": "summary.json", "max-size": "64KiB"}},
}

KEEPING = SMALL | {
    "outputs": SMALL["outputs"]
    | {
        "cohort": {
            "class": "table",
            "keep": "project",
            "path": "cohort.csv",
            "columns": COHORT,
            "max-size": "1MiB",
        }
    }
}
"""The same, with an output that stays in the project for later jobs."""


def live_on(world: World, job: str, turn: Callable[[], None] = lambda: None, timeout_s: float = 300) -> None:
    """People do their part of a life while others run (and kill) the broker."""

    def until(*states: str) -> None:
        def there() -> bool:
            turn()
            return world.job(job).state in states

        wait_until(there, timeout_s, world.describe)

    until("IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    world.review(job)
    until("PURGED")
    world.close()

    def closed() -> bool:
        turn()
        return world.project_state() == "CLOSED"

    wait_until(closed, 60, world.describe)


def check_ended_as_if_nothing_had_been(world: World, job: str, released: int) -> None:
    ended = world.job(job)
    assert (ended.state, ended.outcome, ended.reason) == ("PURGED", "SUCCEEDED", "released"), world.describe()
    assert set(proofs.cluster_jobs(world).values()) == {1}, "one job of the cluster an attempt"
    seen = proofs.events(world)
    assert (seen["attempt-created"], seen["attempt-submitted"], seen["handover-bound"]) == (1, 1, 1)
    assert seen["artefact-released"] == released
    assert len(list(world.home.released_dir(job).iterdir())) == 2 * released, "no partial file is left either"
    assert seen["alarm"] == 0
    proofs.check_closed(world)


def test_controller_killed_at_every_boundary_of_every_act(make_world) -> None:
    world = make_world()
    limits = world.grant_value()["limits"] | {"kept-size": "8MiB"}
    world.grant(limits=limits)
    job = world.submit(**KEEPING)
    with killed_again_and_again(world, "controller") as diary:
        live_on(world, job)
    deaths = Counter(act.split()[0] for act, _ in diary.deaths())
    assert set(deaths) >= EVERY_ACT, EVERY_ACT - set(deaths)
    died_before = {act for act, boundary in diary.deaths() if boundary == "before"}
    assert died_before == {act for act, _ in diary.lines()}
    assert len(diary.deaths()) > 80
    check_ended_as_if_nothing_had_been(world, job, 1)
    seen = proofs.events(world)
    assert (seen["kept-key-created"], seen["artefact-kept"], seen["kept-tried"], seen["kept-removed"]) == (
        1,
        1,
        1,
        1,
    )


def test_keyd_killed_at_every_boundary_of_every_answer(make_world) -> None:
    world = make_world()
    assert world.keyd is not None
    world.keyd.kill()
    world.keyd.wait(10)
    with world.ctx.db.write() as tx:  # as an admin's command leaves it that died before keyd was told
        detail = {"digest": f"sha256:{'7' * 64}"}
        log.append(tx, "runtime-installed", {"cluster": world.cluster}, actor="broker/admin", detail=detail)
    with killed_again_and_again(world, "keyd") as diary:
        world.grant()
        job = world.submit(**SMALL)
        live_on(world, job, turn=world.tick)
        check_ended_as_if_nothing_had_been(world, job, 1)
    answered = {act.split()[0] for act, _ in diary.deaths()}
    assert answered >= {
        "CreateKey",
        "NoteManifest",
        "UseKey",
        "BindNodes",
        "AnswerNodes",
        "Destroy",
        "AdmitGrant",
        "AdmitRuntimes",
    }
    assert answered >= {
        "SignCheckpoint",
        "SignRelease",
        "SignCertificate",
        "AdmitClosure",
        "Inspect",
        "Status",
    }
    kinds = Counter(boundary for _, boundary in diary.deaths())
    assert set(kinds) >= {"before", "commit", "proposed", "overwritten", "rename", "settled", "after"}
    assert not list(world.home.keyd_dir.glob("*.new"))


def test_web_killed_at_every_boundary_of_every_acceptance(make_world) -> None:
    world = make_world()
    grant = world.signed("grant", world.grant_value(), "abara", "bell")
    spec = world.signed("job-spec", world.spec_value(**SMALL), "okafor")
    assert len(file_killed(world, grant).deaths()) >= 4
    assert len(file_killed(world, spec).deaths()) >= 4
    job = str(world.file_raw(spec).job)
    world.run_job(job, "IN_REVIEW", "PURGED")
    for checker in ("chen", "dunne"):
        decision = world.signed("output-decision", world.decision_value(job, {}), checker)
        assert len(file_killed(world, decision).deaths()) >= 4
    assert world.run_job(job, "PURGED").reason == "released"
    assert len(file_killed(world, world.closure("close")).deaths()) >= 5
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    seen = proofs.events(world)
    once = ("grant-accepted", "job-received", "closure-accepted", "project-frozen", "decisions-opened")
    assert {event: seen[event] for event in once} == dict.fromkeys(once, 1)
    assert seen["decision-filed"] == 2
    check_ended_as_if_nothing_had_been(world, job, 1)


def test_controller_killed_at_every_boundary_while_a_patient_withdraws(make_world) -> None:
    """Old copy, its key, a queued attempt and the new copy: whenever it dies, nobody gets the old one."""
    world = make_world()
    world.grant()
    (world.home.clusters_dir / "local.drained").touch()
    job = world.submit(**SMALL)
    world.run_job(job, "QUEUED")
    assert len(file_killed(world, world.opt_out_change("demo-he", "add", ["WITHDRAWN-1"])).deaths()) >= 5
    (world.home.clusters_dir / "local.drained").unlink()
    with killed_again_and_again(world, "controller") as diary:
        live_on(world, job)
    deaths = Counter(act.split()[0] for act, _ in diary.deaths())
    assert set(deaths) >= {"Restage", "RetireCopy", "UnlinkCopy", "Begin", "Seal", "MakeAttempt"}, deaths
    ended = world.job(job)
    assert (ended.state, ended.outcome, ended.reason) == ("PURGED", "SUCCEEDED", "released"), world.describe()
    seen = proofs.events(world)
    assert (seen["copy-sealed"], seen["copy-removed"], seen["attempt-created"]) == (2, 2, 2)
    assert (seen["handover-closed"], seen["alarm"]) == (1, 0), "keys were given once, of the new copy"
    lists = [item.list for item in world.statements("demo-he")]
    assert [entry["opt-out-list"] for entry in proofs.details(world, "copy-sealed")] == lists
    proofs.check_closed(world)


def test_stager_and_collector_killed_in_the_middle(make_world) -> None:
    world = make_world()
    world.grant()
    job = world.submit()
    staging, quarantine = world.home.root / "staging", world.home.root / "quarantine"
    copies = Path(
        world.ctx.cluster(world.cluster, world.project).scratch_path("hdrs-hpc", world.project, "copies")
    )
    stager = Assassin(
        world.home.root,
        "hdrs_hpc.broker.workers.stager",
        [
            lambda: True,
            lambda: any(staging.glob("*/progress.json")),
            lambda: len(list(copies.glob("*/*"))) > 3,
        ],
    )
    collector = Assassin(
        world.home.root,
        "hdrs_hpc.broker.workers.collector",
        [lambda: True, lambda: any(quarantine.glob("*/sealed/*")), lambda: checks(collector)],
    )

    def turn() -> None:
        world.tick()
        stager.look()
        collector.look()

    live_on(world, job, turn)
    assert len(stager.killed) == 3
    assert len(collector.killed) >= 2
    assert not stager.running() and not collector.running()
    assert proofs.events(world)["copy-sealed"] == 2
    check_ended_as_if_nothing_had_been(world, job, 4)


def checks(collector: Assassin) -> bool:
    """Whether a checker runs below a collector of this world; others may run below another test's."""
    checker = "hdrs_hpc.broker.workers.airlock.checker"
    with contextlib.suppress(psutil.NoSuchProcess):
        below = [child for process in collector.running() for child in process.children(recursive=True)]
        return any(checker in child.cmdline() for child in below)
    return False
