"""A job that the site ended is told so: nobody hears that their code failed because a node died."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connectors.clusters import ClusterJob, JobPhase
from hdrs_hpc.broker import states
from hdrs_hpc.broker.controller.steps import collect, submit
from hdrs_hpc.broker.workers.process import Work
from hdrs_hpc.cli import reasons
from tests.unit.broker.controller.test_ways_out import ATTEMPT, at

SITE_ENDS = [
    ("NODE_FAIL", "node-lost"),
    ("BOOT_FAIL", "node-lost"),
    ("PREEMPTED", "preempted"),
    ("CANCELLED", "cancelled-at-site"),
    ("TIMEOUT", "time-limit"),
    ("OUT_OF_MEMORY", "out-of-memory"),
]


def decided(raw_state: str, *, error: str | None = None, stop: str = "none", **closing: Any) -> Any:
    attempt = replace(ATTEMPT, raw_state=raw_state, progress={"stop": stop})
    ended = {"ending": "crashed", "exit-code": None, "signal": None} | closing
    work = Work(
        running=False,
        result=None if error else {"closing": {"workload": ended}},
        error={"code": error, "retry": False, "message": ""} if error else None,
        rested=True,
    )
    return collect.CollectStep().decide(collect.CollectFacts(at("COLLECTING"), attempt, None, work))


@pytest.mark.parametrize(("state", "reason"), SITE_ENDS)
def test_a_signal_from_the_site_is_told_as_the_sites_doing(state: str, reason: str) -> None:
    assert decided(state, signal=15).reason == reason
    assert decided(state, error="no-outputs").reason == reason
    assert decided(state, error="no-outputs", stop="signal").reason == reason


def test_the_codes_own_signal_stays_its_own() -> None:
    assert decided("COMPLETED", signal=11).reason == "workload-failed"
    assert decided("FAILED", signal=11).reason == "workload-failed"


def test_what_the_agent_said_of_the_end_wins_over_slurms_state() -> None:
    assert decided("CANCELLED", ending="out-of-memory").reason == "out-of-memory"
    named = {"exit-code": 1, "exception-type": "KeyError"}
    assert decided("CANCELLED", **named).reason == "workload-failed"
    assert decided("NODE_FAIL", error="no-outputs", stop="scratch").reason == "agent-stopped-scratch"


def test_an_end_that_nobody_explains_is_the_nodes_or_the_agents() -> None:
    assert decided("FAILED", error="no-outputs").reason == "node-failed"
    assert decided("FAILED", error="no-outputs", stop="signal").reason == "agent-stopped-signal"


def test_every_end_is_explained_and_only_ones_own_are_the_executors() -> None:
    known = {item.code for item in reasons.known()}
    assert {reason for _, reason in SITE_ENDS} <= known
    for _, reason in SITE_ENDS:
        own = reason in ("time-limit", "out-of-memory")
        told = states.tes_state("PURGED", "FAILED", reason)
        assert told == ("EXECUTOR_ERROR" if own else "SYSTEM_ERROR"), reason


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("JobHeldAdmin", "an admin of the site holds it; only they can release it"),
        ("Priority", "jobs with a higher priority are before it"),
        (
            "QOSMaxJobsPerUserLimit",
            "its quality of service is at a limit of the site (QOSMaxJobsPerUserLimit)",
        ),
    ],
)
def test_who_waits_at_the_cluster_is_told_why(reason: str, told: str) -> None:
    found = ClusterJob("41", ATTEMPT.name, JobPhase.PENDING, "PENDING", None, "then", 0, (), reason)
    facts = submit.SubmitFacts(at("QUEUED"), ATTEMPT, None, (found,), False, (), False)
    waits = submit.SubmitStep().decide(facts)
    assert isinstance(waits, submit.Wait)
    assert (waits.code, waits.message) == ("cluster-job-pending", told)
    unsaid = replace(facts, found=(replace(found, reason=""),))
    assert submit.SubmitStep().decide(unsaid) is None
