"""Answers go to many nodes one after the other: what ends the job in between ends the couriers that are left."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.broker.controller.steps import hand_over
from hdrs_hpc.broker.controller.steps.ending import Stop
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store.transition import StateMovedError
from tests.unit.broker.controller.test_ways_out import ATTEMPT, JOB, at

BROKER: Any = SimpleNamespace(db=SimpleNamespace(read=lambda: nullcontext(None)))
ANSWERS: Any = {f"n{number}": object() for number in range(5)}


def brought(monkeypatch: pytest.MonkeyPatch, *, stopped_after: int, moved: bool = False) -> list[str | None]:
    """The nodes that an answer was brought to; the job stops, or moves on, after the first ``stopped_after``."""
    nodes: list[str | None] = []

    def courier(*words: Any) -> list[Any]:
        nodes.append(words[-1])
        return []

    def over() -> bool:
        return len(nodes) >= stopped_after

    monkeypatch.setattr(hand_over, "COURIERS_AT_ONCE", 1)
    monkeypatch.setattr(hand_over, "_courier", courier)
    state = "RUNNING"
    monkeypatch.setattr(
        hand_over.jobs, "get", lambda tx, job: replace(JOB, state="PURGING" if over() and moved else state)
    )
    stop = Stop(Outcome.CANCELLED, "project-frozen")
    monkeypatch.setattr(hand_over, "observe_stop", lambda broker, job: stop if over() and not moved else None)
    found: Any = object()
    try:
        hand_over._deliver(BROKER, at("RUNNING"), ATTEMPT, found, ANSWERS, b"")
    except StateMovedError:
        assert over()
    return nodes


@pytest.mark.parametrize("moved", [False, True], ids=["frozen", "ended"])
def test_no_answer_is_brought_after_the_job_stopped(monkeypatch: pytest.MonkeyPatch, moved: bool) -> None:
    # Two go at once here, so a third may be on its way when the second one arrives.
    assert len(brought(monkeypatch, stopped_after=2, moved=moved)) in (2, 3)


def test_every_node_gets_its_answer_while_nothing_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(map(str, brought(monkeypatch, stopped_after=99))) == list(ANSWERS)
