"""What each step decides when its job must stop, state by state; all pure, no cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors.clusters import ClusterJob, JobPhase
from hdrs_hpc.broker.controller.steps import collect, hand_over, purge, release, run, stage, submit
from hdrs_hpc.broker.controller.steps.choose import Choice
from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, StopFacts, StopStep
from hdrs_hpc.broker.controller.steps.start_workers import Retry, StartCollector, StopWorker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.served import Served
from hdrs_hpc.broker.workers.process import Work
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import SiteError

NOW = clock.from_text("2027-01-15T12:00:00Z")
JOB = Job(
    id="7K3QW2",
    project="lung-fm",
    submitter="rae",
    spec="sha256:" + "1" * 64,
    nonce="N" * 26,
    name="spacing",
    state="RECEIVED",
    outcome=None,
    reason=None,
    detail=None,
    decision={"isolation": "sandboxed"},
    cluster="local",
    cancel_requested=False,
    received_at="2027-01-15T11:00:00Z",
    changed_at="2027-01-15T11:00:00Z",
)
ATTEMPT = Attempt(
    name="hdrs-0123456789abcdefghjkmnpqrs",
    job=JOB.id,
    number=1,
    submit_intent_at="2027-01-15T11:30:00Z",
    cluster_job_id="41",
    submit_time="2027-01-15T11:30:00Z",
    restarts=0,
    started_at="2027-01-15T11:31:00Z",
    ended_at=None,
    raw_state="RUNNING",
    exit_code=None,
    handover="none",
    served=None,
    bindings=None,
    log_seq=None,
    alloc_gpus=0,
    progress=None,
)
CANCELLED = Stop(Outcome.CANCELLED, "cancelled")
REVOKED = Stop(Outcome.CANCELLED, "grant-revoked")
FROZEN = Stop(Outcome.CANCELLED, "project-frozen")
ENDED = Stop(Outcome.EXPIRED, "project-ended")
EVERY_STOP = pytest.mark.parametrize(
    "stop", [CANCELLED, REVOKED, FROZEN, ENDED], ids=lambda stop: stop.reason
)
IDLE = Work(running=False, result=None, error=None, rested=True)


def at(state: str) -> Job:
    return replace(JOB, state=state)


def on_cluster(phase: JobPhase) -> ClusterJob:
    return ClusterJob("41", ATTEMPT.name, phase, phase.name, None, "2027-01-15T11:30:00Z", 0, ("n1",), "")


def ends(action: Any, state: str, stop: Stop) -> bool:
    return bool(action == EndJob(at(state), stop.outcome, stop.reason))


@EVERY_STOP
def test_a_job_that_has_not_run_ends_whatever_the_reason(stop: Stop) -> None:
    facts = stage.StageFacts(at("ADMITTED"), stop, ())
    assert ends(stage.WantCopiesStep().decide(facts), "ADMITTED", stop)
    facts = stage.StageFacts(at("STAGING"), stop, ())
    assert ends(stage.AwaitCopiesStep().decide(facts), "STAGING", stop)


@EVERY_STOP
def test_a_job_at_the_cluster_ends_whatever_the_reason(stop: Stop) -> None:
    queued = submit.SubmitFacts(
        job=at("QUEUED"), attempt=ATTEMPT, stop=stop, found=(), may_submit=True, doubts=(), drained=False
    )
    assert ends(submit.SubmitStep().decide(queued), "QUEUED", stop)
    there = on_cluster(JobPhase.RUNNING)
    running = run.RunFacts(at("RUNNING"), ATTEMPT, stop, there, None, late=False, forgotten=False)
    assert ends(run.RunStep().decide(running), "RUNNING", stop)


def test_a_hand_over_that_does_not_happen_in_time_ends_the_job() -> None:
    late = run.RunFacts(
        at("RUNNING"), ATTEMPT, None, on_cluster(JobPhase.RUNNING), None, late=True, forgotten=False
    )
    assert run.RunStep().decide(late) == EndJob(at("RUNNING"), Outcome.FAILED, "handover-timeout")
    done = replace(late, attempt=replace(ATTEMPT, handover="closed"))
    assert run.RunStep().decide(done) is None


@pytest.mark.parametrize(
    ("handover", "action"),
    [("none", hand_over.Bind), ("bound", hand_over.Deliver), ("answered", hand_over.Deliver)],
)
def test_the_hand_over_goes_on_where_a_crash_left_it(handover: str, action: type) -> None:
    attempt = replace(ATTEMPT, handover=handover)
    served = Served({}, 1, 1, 1, (7,))
    facts = run.RunFacts(
        at("RUNNING"),
        attempt,
        None,
        on_cluster(JobPhase.RUNNING),
        None,
        late=False,
        forgotten=False,
        choice=Choice(at("RUNNING"), attempt, {}, served, IDLE),
    )
    assert type(run.RunStep().decide(facts)) is action


def test_an_unknown_phase_keeps_a_running_job_alive() -> None:
    for found, code in (
        (None, "cluster-job-unseen"),
        (on_cluster(JobPhase.UNKNOWN), "cluster-state-unknown"),
    ):
        facts = run.RunFacts(at("RUNNING"), ATTEMPT, None, found, None, late=True, forgotten=False)
        waits = run.RunStep().decide(facts)
        assert isinstance(waits, submit.Wait)
        assert waits.code == code
    facts = replace(facts, found=on_cluster(JobPhase.COMPLETING))
    assert run.RunStep().decide(facts) is None


def test_a_job_that_the_cluster_forgot_long_after_its_end_is_collected() -> None:
    facts = run.RunFacts(at("RUNNING"), ATTEMPT, None, None, None, late=True, forgotten=True)
    assert run.RunStep().decide(facts) == run.Ended(at("RUNNING"), ATTEMPT, None, None)


def test_what_an_agent_measured_last_is_kept_where_it_ended_before_anybody_looked() -> None:
    ended, told = on_cluster(JobPhase.ENDED), {"stop": "input-unreadable"}
    facts = run.RunFacts(at("RUNNING"), ATTEMPT, None, ended, told, late=False, forgotten=False)
    assert run.RunStep().decide(facts) == run.Ended(at("RUNNING"), ATTEMPT, ended, told)


@pytest.mark.parametrize("stop", [CANCELLED, REVOKED], ids=lambda stop: stop.reason)
def test_what_was_cancelled_or_revoked_is_not_collected(stop: Stop) -> None:
    facts = collect.CollectFacts(at("COLLECTING"), ATTEMPT, stop, IDLE)
    assert ends(collect.CollectStep().decide(facts), "COLLECTING", stop)
    busy = replace(facts, work=replace(IDLE, running=True))
    # It holds a key that is to die.
    assert collect.CollectStep().decide(busy) == StopWorker(StartCollector(ATTEMPT))


@pytest.mark.parametrize("stop", [FROZEN, ENDED, None], ids=["frozen", "ended", "open"])
def test_what_ran_in_time_is_collected_and_reviewed_though_the_project_ends(stop: Stop | None) -> None:
    facts = collect.CollectFacts(at("COLLECTING"), ATTEMPT, stop, IDLE)
    assert collect.CollectStep().decide(facts) == StartCollector(ATTEMPT)


@pytest.mark.parametrize(
    ("retry", "rested", "action"),
    [(True, True, Retry), (True, False, None), (False, True, collect.NoteEnd)],
)
def test_trouble_in_collecting_is_tried_again_and_a_verdict_is_not(
    retry: bool, rested: bool, action: type | None
) -> None:
    error = {"code": "outputs-too-large", "retry": retry, "message": ""}
    facts = collect.CollectFacts(at("COLLECTING"), ATTEMPT, None, replace(IDLE, error=error, rested=rested))
    decided = collect.CollectStep().decide(facts)
    assert (type(decided) if decided is not None else None) is action


def reviewed(**changes: Any) -> release.ReviewFacts:
    facts: dict[str, Any] = {
        "job": at("IN_REVIEW"),
        "stop": None,
        "reviewers": 2,
        "shown": (object(),),
        "refused": 0,
        "kept": 0,
        "decisions": {},
        "deadline": None,
        "now": NOW,
    }
    return release.ReviewFacts(**(facts | changes))


@pytest.mark.parametrize("stop", [CANCELLED, REVOKED], ids=lambda stop: stop.reason)
def test_what_was_cancelled_or_revoked_is_not_reviewed(stop: Stop) -> None:
    assert ends(release.ReviewStep().decide(reviewed(stop=stop)), "IN_REVIEW", stop)


def test_reviews_of_a_closing_project_go_on_until_their_grace_is_over() -> None:
    step = release.ReviewStep()
    assert step.decide(reviewed(stop=FROZEN, deadline=NOW + timedelta(seconds=1))) is None
    over = step.decide(reviewed(stop=FROZEN, deadline=NOW))
    assert over == EndJob(at("IN_REVIEW"), Outcome.EXPIRED, "review-too-late")


@pytest.mark.parametrize(
    ("refused", "kept", "reason"),
    [
        (0, 1, "kept"),
        (1, 0, "nothing-releasable"),
        (1, 1, "nothing-releasable"),
        (0, 0, "nothing-releasable"),
    ],
)
def test_a_job_that_only_keeps_ends_without_a_review(refused: int, kept: int, reason: str) -> None:
    ended = release.ReviewStep().decide(reviewed(shown=(), refused=refused, kept=kept))
    assert ended == EndJob(at("IN_REVIEW"), Outcome.SUCCEEDED, reason)


def purging(**changes: Any) -> Any:
    facts: dict[str, Any] = {
        "job": at("PURGING"),
        "attempts": (ATTEMPT,),
        "live_keys": False,
        "running": (),
        "unsettled": False,
    }
    return purge.PurgeStep().decide(purge.PurgeFacts(**(facts | changes)))


def test_purging_kills_keys_before_it_asks_the_cluster_and_removes_last() -> None:
    assert isinstance(purging(live_keys=True, running=("41",), unsettled=True), purge.DestroyKeys)
    assert purging(running=("41",), unsettled=True) == purge.CancelAttempts(at("PURGING"), ("41",))
    assert not isinstance(purging(unsettled=True), purge.Remove)
    blind = SiteError("the site shows nothing")
    assert isinstance(purging(live_keys=True, unseen=blind), purge.DestroyKeys)
    assert purging(unseen=blind) == purge.CancelUnseen(at("PURGING"), (ATTEMPT,), blind)
    assert purging() == purge.Remove(at("PURGING"), (ATTEMPT,), ())


@EVERY_STOP
def test_what_takes_away_is_decided_without_any_word_of_the_site(stop: Stop) -> None:
    for state in ("QUEUED", "RUNNING"):
        assert ends(StopStep().decide(StopFacts(at(state), stop)), state, stop)
        assert StopStep().decide(StopFacts(at(state), None)) is None
    purging = purge.PurgeFacts(at("PURGING"), (ATTEMPT,), live_keys=True)
    assert purge.DestroyKeysStep().decide(purging) == purge.DestroyKeys(at("PURGING"), (ATTEMPT,), ())
    assert purge.DestroyKeysStep().decide(replace(purging, live_keys=False)) is None
