"""How projects end before their time, or change on the way: revocation, freeze, end by time, a new grant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError
from hdrs_hpc.broker.store import copies, jobs, projects
from hdrs_hpc.core import clock
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLEEPER = {"mine.py": "import time\ndef run(context):\n    time.sleep(600)\n"}
QUICK = {"mine.py": "def run(context):\n    context.output('t').write_text('{\"share\": 0.25}')\n"}
TABLE = {"t": {"class": "metrics", "path": "t.json", "max-size": "1KiB"}}


@pytest.fixture(scope="module")
def first(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def world(first: World, request: pytest.FixtureRequest) -> World:
    """A project of its own for each test, in one world."""
    return first.beside("p-" + request.node.name.removeprefix("test_").replace("_", "-")[:30].rstrip("-"))


def submit(world: World, code: dict[str, str], dataset: str = "demo-he") -> str:
    return world.submit_bundle(code, "mine:run", data={"slides": {"dataset": dataset}}, outputs=TABLE)


def running(world: World, job: str) -> None:
    """Wait until the workload itself runs, keys in its agent's memory."""

    def there() -> bool:
        with world.ctx.db.read() as tx:
            attempts = jobs.attempts_of(tx, job)
        return bool(attempts) and (attempts[-1].progress or {}).get("phase") == "running"

    world.run_until(there, 90)


def closed(world: World, timeout_s: float = 60) -> None:
    world.run_until(lambda: world.project_state() == "CLOSED", timeout_s)
    proofs.check_closed(world)


def test_revoked_while_running(world: World) -> None:
    world.grant()
    reviewed, sleeper = submit(world, QUICK), submit(world, SLEEPER)
    world.run_job(reviewed, "IN_REVIEW", "PURGED")
    running(world, sleeper)
    assert proofs.live_keys(world) == ["bundle", "bundle", "copy", "deid", "output", "output"]
    world.close("revoke")
    assert proofs.live_keys(world) == ["deid"], "at once: no turn of the controller was needed"
    copy_id = next(
        e.subject["copy"] for e in proofs.entries(world) if "copy" in e.subject and is_of(world, e)
    )
    for ask in (m.UseKey("stage", world.project, copy_id), m.UseKey("collect", world.project, "x")):
        with pytest.raises(KeydRefusedError):
            world.ctx.ask(ask)
    closed(world)
    for job in (reviewed, sleeper):
        ended = world.job(job)
        assert (ended.outcome, ended.reason) == ("CANCELLED", "grant-revoked")
        assert not world.home.released_dir(job).exists()
    assert proofs.events(world)["artefact-released"] == 0


def is_of(world: World, entry: Any) -> bool:
    return entry.subject.get("project") == world.project


def test_frozen_nothing_is_given_any_more(world: World) -> None:
    world.grant()
    in_review = submit(world, QUICK)
    world.run_job(in_review, "IN_REVIEW", "PURGED")
    sleeper = submit(world, SLEEPER)
    running(world, sleeper)
    world.close("freeze")
    ended = world.run_job(sleeper, "PURGED", timeout_s=30)
    assert (ended.outcome, ended.reason) == ("CANCELLED", "project-frozen")
    late = world.run_job(submit(world, SLEEPER), "PURGED", timeout_s=10)
    assert (late.outcome, late.reason) == ("REFUSED", "project-not-active")
    with pytest.raises(KeydRefusedError) as refused:
        world.ctx.ask(m.CreateKey(world.project, "output", "hdrs-new", None, None))
    assert refused.value.code == "project-frozen"
    again = world.grant_value(version=2, supersedes=grant_in_force(world))
    assert proofs.refusal(lambda: world.file("grant", again, "abara", "bell")) == ["project-not-active"]
    assert world.job(in_review).state == "IN_REVIEW", "what was made before may still be reviewed"
    assert world.project_state() == "ACTIVE"
    world.review(in_review)
    assert world.run_job(in_review, "PURGED").reason == "released"
    with world.ctx.db.read() as tx:
        (freeze,) = projects.freezes_in_force(tx, world.project)
    world.file_raw(world.closure("unfreeze", "abara", "bell", freeze=freeze))
    going_on = submit(world, QUICK)
    assert world.run_job(going_on, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    world.review(going_on)
    assert world.run_job(going_on, "PURGED").reason == "released"
    world.close()
    closed(world)


def grant_in_force(world: World) -> str:
    with world.ctx.db.read() as tx:
        return projects.get(tx, world.project).grant


def test_its_time_is_over(world: World) -> None:
    begin = clock.now().replace(microsecond=0)
    seconds = 60
    ends = {
        "from": clock.to_text(begin - timedelta(days=1)),
        "run-until": clock.to_text(begin + timedelta(seconds=seconds)),
        "review-grace": "1d",
        "destroy-by": clock.to_text(begin + timedelta(days=2)),
    }
    world.grant(valid=ends)
    reviewed = submit(world, QUICK)
    world.run_job(reviewed, "IN_REVIEW", "PURGED", timeout_s=seconds)
    sleeper = submit(world, SLEEPER)
    running(world, sleeper)
    world.run_until(lambda: world.project_state() == "CLOSING", seconds)
    assert clock.now() >= begin + timedelta(seconds=seconds)
    ended = world.run_job(sleeper, "PURGED", timeout_s=30)
    assert (ended.outcome, ended.reason) in {("CANCELLED", "project-frozen"), ("EXPIRED", "project-ended")}
    assert "copy" not in proofs.live_keys(world)
    assert world.job(reviewed).state == "IN_REVIEW", "reviews have their grace"
    world.review(reviewed)
    assert world.run_job(reviewed, "PURGED").reason == "released"
    closed(world)


def test_closed_with_nothing_ever_done(world: World) -> None:
    world.grant()
    world.close()
    closed(world)


def test_closed_while_its_data_are_being_staged(world: World) -> None:
    world.grant()
    job = world.submit()
    world.run_until(lambda: world.job(job).state == "STAGING" and staging(world), 30)
    world.close()
    ended = world.run_job(job, "PURGED", timeout_s=60)
    assert ended.outcome == "CANCELLED"
    closed(world, 90)
    assert proofs.events(world)["copy-sealed"] == 0


def staging(world: World) -> bool:
    with world.ctx.db.read() as tx:
        return any(copy.state == "STAGING" for copy in copies.of_project(tx, world.project))


def test_closed_before_anything_of_a_job_has_begun(world: World) -> None:
    world.grant()
    world.run_until(lambda: world.project_state() == "ACTIVE", 10)
    job = world.submit()
    world.run_until(lambda: world.job(job).state == "STAGING", 10)
    world.close()
    assert world.run_job(job, "PURGED", timeout_s=60).outcome == "CANCELLED"
    closed(world, 90)


def test_a_new_grant_with_other_data_retires_the_copy(world: World) -> None:
    world.grant(data=world.grant_value()["data"])
    job = submit(world, QUICK)
    world.run_job(job, "IN_REVIEW", "PURGED")
    data = world.grant_value()["data"]
    data["demo-he"] |= {"select": {"MPP": "0.1/9"}} if False else {"max-failed": 1}
    world.file(
        "grant", world.grant_value(version=2, supersedes=grant_in_force(world), data=data), "abara", "bell"
    )
    world.run_until(lambda: states(world) == ["DESTROYED"], 30)
    assert "copy" not in proofs.live_keys(world)
    assert world.job(job).state == "IN_REVIEW"
    second = submit(world, QUICK)
    assert world.run_job(second, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    assert sorted(states(world)) == ["DESTROYED", "READY"]
    world.review(job)
    world.review(second)
    assert world.run_job(job, "PURGED").reason == "released"
    assert world.run_job(second, "PURGED").reason == "released"
    world.close()
    closed(world)


def states(world: World) -> list[str]:
    with world.ctx.db.read() as tx:
        return [copy.state for copy in copies.of_project(tx, world.project)]


def test_grant_v2_narrows_what_later_jobs_may_do(world: World) -> None:
    world.grant()
    limits = world.grant_value()["limits"] | {"time": "00:05:00"}
    value = world.grant_value(version=2, supersedes=grant_in_force(world), limits=limits)
    world.file("grant", value, "abara", "bell")
    assert proofs.refusal(lambda: world.file("grant", value | {"title": "Again"}, "abara", "bell")) == [
        "grant-version"
    ]
    job = world.run_job(world.submit(), "PURGED", timeout_s=20)
    assert (job.outcome, job.reason) == ("REFUSED", "time-over-limit")
    assert world.ctx.ask(m.Inspect(world.project)).grant == grant_in_force(world)
    world.close()
    closed(world)
